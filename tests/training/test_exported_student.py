"""An exported file is read back as weights to start from, wherever a checkpoint is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import ROOT
from smoke_runs import smoke
from tiny_student import write_tiny_student
from used_networks import everything, make_used, used

from ros_kd_perception.model.onnx_model import OnnxModel
from training.__main__ import main
from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.errors import CheckpointError
from training.export.export import export_student
from training.export.network_inputs import render_network_inputs
from training.export.provenance import provenance
from training.export.settings import ExportSettings
from training.exported_student import _student_like
from training.label_sets.loading import load_label_set
from training.networks.backbone_table import BACKBONES
from training.networks.deployed import DeployedStudent
from training.networks.espnetv2 import ESPNetV2Quarter
from training.networks.student import Student, build_student
from training.networks.unfusing import COUNTER, fused_form
from training.pruning.settings import PruneSettings
from training.pruning.weights import prune_weights
from training.run.train import train

SHIPPED = ROOT / "models" / "student_plain.onnx"
WEIGHTS = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"
SHIPPED_INT8 = ROOT / "models" / "student_int8.onnx"
SHIPPED_OVERLAP_MAX = 0.6  # as models/README.md says
LICENCES = {
    "rendered frames": {"terms": "Apache-2.0", "use": "any"},
    "CamVid": {"terms": "research", "use": "research"},
    "other frames": {"terms": "not stated", "use": "not stated"},
}


def export(student: Student, path: Path, **changes: object) -> Path:
    classes = load_label_set("camvid11")
    info = CheckpointInfo(
        "n", "", "a" * 64, "b" * 16, 3, "c" * 40, {}, teacher_sha256="d" * 64, licences=LICENCES,
        label_set=classes.model_dump(mode="json"),
    )  # fmt: skip
    settings = ExportSettings(name="student_n", version="1", height=96, width=160, label_set=classes)
    settings = replace(settings, provenance=provenance(info), **changes)
    export_student(student, path, settings, render_network_inputs(settings.height, settings.width))
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    return export(make_used("n"), tmp_path_factory.mktemp("exported") / "student.onnx")


def test_the_shipped_student_computes_what_its_file_computes() -> None:
    student, info = load_student(SHIPPED)
    assert info.size == "s"
    assert info.classes == load_label_set("camvid11")
    model = OnnxModel.open(SHIPPED)
    height, width = model.contract.input.height, model.contract.input.width
    images = np.stack(render_network_inputs(height, width)[:1])
    expected = model.run(images)
    with torch.no_grad():
        found = dict(zip(*_outputs(student, info, images, height, width), strict=True))
    assert (found["class_map"].numpy() == expected.class_map).mean() > 0.9999
    assert np.allclose(found["scores"].numpy(), expected.scores, atol=1e-3)


def _outputs(
    student: Student, info: CheckpointInfo, images: np.ndarray, height: int, width: int
) -> tuple[tuple[str, ...], tuple]:
    scales = ExportSettings(info.classes, confidence=info.confidence or {}).score_scales
    deployed = DeployedStudent(student, height, width, 100, scales, overlap_max=SHIPPED_OVERLAP_MAX)
    return deployed.output_names, deployed(torch.from_numpy(images))


def test_the_origin_comes_along(exported: Path) -> None:
    info = load_student(exported)[1]
    assert (info.size, info.recipe_sha256, info.git_commit) == ("n", "a" * 64, "c" * 40)
    assert info.taught_by == "d" * 64
    assert info.licences == LICENCES


def test_the_same_file_gives_the_same_weights(exported: Path) -> None:
    assert digest_of_weights(load_student(exported)[0]) == digest_of_weights(load_student(exported)[0])


def test_a_file_of_two_views_has_the_weights_of_one(exported: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    two = export(make_used("n"), tmp_path / "two.onnx", height=128, width=192, half_view=True, overlap_max=0.5)
    images = torch.rand(1, 3, 128, 192)
    with torch.no_grad():
        first, second = (everything(load_student(path)[0](images)) for path in (exported, two))
    for ours, theirs in zip(first, second, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


def test_a_run_starts_from_an_exported_student(exported: Path, rendered_samples: Path, tmp_path: Path) -> None:
    recipe = smoke(rendered_samples, tmp_path, "size=n", "validation={}", f"initial_weights={exported}")
    info = load_student(train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt")[1]
    assert info.initial_weights_sha256
    assert info.earlier_teacher_sha256 == "d" * 64
    assert info.licences == LICENCES


def test_its_weights_are_kept(exported: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    assert main(["keep-weights", str(exported), "-o", str(kept)]) == 0
    images = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        first, second = (load_student(path)[0](images).segmentation_logits for path in (exported, kept))
    assert torch.allclose(first, second, atol=0.02 * float(first.abs().max()))


def test_a_student_on_another_backbone_is_read_back_too(tmp_path: Path) -> None:
    torch.manual_seed(8)
    student = used(build_student("s", 11, 4, ESPNetV2Quarter())).eval()
    found, info = load_student(export(student, tmp_path / "quarter.onnx"))
    assert (info.size, info.backbone) == ("s", {"model_type": "espnetv2_quarter"})
    images = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        for ours, theirs in zip(everything(found(images)), everything(student(images)), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("architecture", BACKBONES)
def test_a_backbone_is_known_by_its_layers_and_their_sizes(architecture: str) -> None:
    classes = load_label_set("camvid11")
    counts = len(classes.segmentation), len(classes.detection)
    fused = fused_form(build_student("s", *counts, BACKBONES[architecture]())).state_dict()
    weights = {name: value for name, value in fused.items() if not name.endswith(COUNTER)}
    assert _student_like(weights, "s", classes).backbone.architecture == architecture


def test_an_8_bit_student_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"expected a student of fp32 .* name the file that it was made from"):
        load_student(SHIPPED_INT8)


def test_a_pruned_student_is_refused(tmp_path: Path) -> None:
    prune_weights(WEIGHTS, PruneSettings(share=0.5), tmp_path / "pruned.safetensors", 96, 160)
    path = export(load_student(tmp_path / "pruned.safetensors")[0], tmp_path / "pruned.onnx")
    with pytest.raises(
        CheckpointError, match=r"not pruned, got student_n with other layers \(expected .*\); name its checkpoint"
    ):
        load_student(path)


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a student of size n, s, m, l on a backbone of ours"):
        load_student(write_tiny_student(tmp_path / "tiny.onnx"))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(SHIPPED.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="expected an exported student to start from, got"):
        load_student(path)
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_student(tmp_path / "missing.onnx")
