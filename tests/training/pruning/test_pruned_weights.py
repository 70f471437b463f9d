"""A pruned network on its way: it is noted, kept, trained, resumed, distilled, exported and scored like any other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from distillation_terms import EVERY_TERM
from label_sets import CAMVID

from training.__main__ import main
from training.checkpoint import digest_of_weights, load_student
from training.errors import CheckpointError, RecipeError
from training.label_sets.loading import load_label_set
from training.networks.channels import channels_of
from training.networks.student import build_student
from training.pruning.settings import PruneSettings
from training.pruning.weights import PruneReport, prune_weights
from training.recipe import Recipe, load_recipe
from training.run.train import train
from training.starting_weights import load_weights_into
from training.teachers.own_network import OwnNetwork
from training.weights_file import read_weights, write_weights

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
PARENT = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"
HEIGHT, WIDTH = 64, 96


def smoke(samples: Path, output: Path, *overrides: str) -> Recipe:
    folders = [f"data.train.0.folder={samples}", f"output={output}", "size=n", "epochs=1", "data.samples_per_epoch=8"]
    folders += [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    return load_recipe(RECIPE, [*folders, *overrides])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pruned")


@pytest.fixture(scope="module")
def report(folder: Path) -> PruneReport:
    return prune_weights(PARENT, PruneSettings(share=0.5), folder / "pruned.safetensors", HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def pruned(folder: Path, report: PruneReport) -> Path:
    assert report.pruned.macs_share <= 0.5
    return folder / "pruned.safetensors"


@pytest.fixture(scope="module")
def recovered(pruned: Path, rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch that starts from the pruned weights, with their parent as teacher of every loss."""
    recipe = smoke(
        rendered_samples,
        tmp_path_factory.mktemp("recovered"),
        f"initial_weights={pruned}",
        f"distillation.teacher={PARENT}",
        f"distillation.terms={EVERY_TERM}",
    )
    return train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"


def test_the_report_says_what_was_cut(report: PruneReport) -> None:
    assert report.said.startswith(f"prune to {report.pruned.macs_share:.2f} of the multiply-accumulates, by magnitude,")
    assert report.said.endswith("k parameters")
    assert "1.03 M to " in report.said
    table = report.table()
    cut = [layer for layer in report.pruned.layers if layer.before != layer.after]
    assert len(table.splitlines()) == 1 + len(cut) + 2
    for layer in cut:
        (line,) = (line for line in table.splitlines() if line.split()[0] == layer.name)
        assert all(str(number) in line for number in (*layer.before, *layer.after))


def test_the_file_is_read_back_with_the_shape_and_origin(pruned: Path, report: PruneReport) -> None:
    (parent, before), (student, after) = load_student(PARENT), load_student(pruned)
    assert channels_of(student) == {layer.name: list(layer.after) for layer in report.pruned.layers}
    assert student.pruned
    assert after.channels == channels_of(student)
    assert (after.recipe, after.size, after.classes) == (before.recipe, before.size, before.classes)
    assert after.metrics == {}
    assert after.initial_weights_sha256 == digest_of_weights(parent)
    images = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        features = student.backbone(images)
    assert student.backbone.widths == tuple(level.shape[1] for level in features)


def test_a_run_from_pruned_weights_trains_their_shape(recovered: Path, pruned: Path) -> None:
    start, student = load_student(pruned)[0], load_student(recovered)[0]
    assert channels_of(student) == channels_of(start)
    moved = [not torch.equal(value, student.state_dict()[name]) for name, value in start.state_dict().items()]
    assert sum(moved) > 0.9 * len(moved)


def test_a_run_from_pruned_weights_is_resumed(pruned: Path, rendered_samples: Path, tmp_path: Path) -> None:
    stopped = train(smoke(rendered_samples, tmp_path, f"initial_weights={pruned}"), accelerator="cpu")
    first = load_student(stopped / "checkpoints" / "last.ckpt")[0]
    recipe = smoke(rendered_samples, tmp_path, f"initial_weights={pruned}", "epochs=2")
    folder = train(recipe, resume=stopped / "checkpoints" / "last.ckpt", accelerator="cpu")
    student, info = load_student(folder / "checkpoints" / "last.ckpt")
    assert info.epoch == 2
    assert info.channels == channels_of(first) == channels_of(student)
    assert info.initial_weights_sha256 == digest_of_weights(load_student(pruned)[0])
    assert not torch.equal(*(next(network.parameters()) for network in (first, student)))


def test_it_is_kept_exported_scored_and_pruned_again(recovered: Path, rendered_samples: Path, tmp_path: Path) -> None:
    kept, exported = tmp_path / "kept.safetensors", tmp_path / "student.onnx"
    assert main(["keep-weights", str(recovered), "-o", str(kept)]) == 0
    assert load_student(kept)[1] == load_student(recovered)[1]
    assert main(["export", str(kept), "-o", str(exported), "--height", "64", "--width", "96"]) == 0
    size = exported.stat().st_size
    assert size < 0.8 * 4 * sum(value.numel() for value in load_student(PARENT)[0].parameters())
    for file in (kept, exported):
        assert main(["evaluate", str(file), str(rendered_samples), "--limit", "2"]) == 0
    again = prune_weights(kept, PruneSettings(share=0.7), tmp_path / "again.safetensors", HEIGHT, WIDTH)
    student = load_student(tmp_path / "again.safetensors")[0]
    assert channels_of(student) == {layer.name: list(layer.after) for layer in again.pruned.layers}


def test_it_teaches(pruned: Path) -> None:
    teacher = OwnNetwork.load(pruned)
    assert teacher.label_set == CAMVID
    assert teacher.outputs(torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)).tasks == ("segmentation", "detection")


def test_classes_of_another_set_move_by_name(pruned: Path) -> None:
    classes = load_label_set("cityscapes19")
    student = build_student("n", len(classes.segmentation), len(classes.detection))
    load_weights_into(student, classes, pruned)
    start = load_student(pruned)[0]
    assert student.pruned
    assert student.segmentation is not None
    assert start.segmentation is not None
    assert channels_of(student)["backbone.stages.2.0"] == channels_of(start)["backbone.stages.2.0"]
    places = [[entry.name for entry in each.segmentation].index("sky") for each in (classes, CAMVID)]
    ours, theirs = (
        each.segmentation.classifier.weight[place]
        for each, place in zip((student, start), places, strict=True)
        if each.segmentation is not None
    )
    assert torch.equal(ours, theirs)


def test_weights_of_other_shapes_are_refused(pruned: Path) -> None:
    with pytest.raises(CheckpointError, match="of size n with our own backbone, pruned, so they fit that size"):
        load_weights_into(build_student("s", 11, 4), CAMVID, pruned)
    with pytest.raises(CheckpointError, match=r"same shapes as in .* not pruned, or trained from one pruned network"):
        load_weights_into(build_student("n", 11, 4), CAMVID, PARENT, pruned)


def test_two_networks_of_one_pruned_shape_are_averaged(pruned: Path, recovered: Path) -> None:
    student = build_student("n", 11, 4)
    load_weights_into(student, CAMVID, pruned, recovered)
    one, other = (load_student(path)[0].state_dict() for path in (pruned, recovered))
    for name, value in student.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, (one[name] + other[name]) / 2, atol=1e-6)


BAD_CHANNELS = {
    "no layer": {},
    "more than there were": {"backbone.stages.2.0": [4096, 32]},
    "no channel": {"backbone.stages.2.0": [0, 32]},
    "no number": {"backbone.stages.2.0": ["8", 32]},
    "one number": {"backbone.stages.2.0": [8]},
    "a bool": {"backbone.stages.2.0": [True, 32]},
    "layers that do not fit together": {"backbone.stages.2.0": [8, 8]},
}


@pytest.mark.parametrize("fault", BAD_CHANNELS)
def test_notes_of_a_damaged_file_are_refused(fault: str, pruned: Path, tmp_path: Path) -> None:
    found, info = read_weights(pruned), asdict(load_student(pruned)[1])
    damaged = tmp_path / "damaged.safetensors"
    channels = info["channels"] | BAD_CHANNELS[fault] if BAD_CHANNELS[fault] else {}
    write_weights(damaged, found.state, info | {"channels": channels}, found.sha256)
    with pytest.raises(CheckpointError, match="its notes do not fit a pruned student of size n"):
        load_student(damaged)


def test_what_is_no_student_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    output = tmp_path / "pruned.safetensors"
    with pytest.raises(CheckpointError, match="there is no such file"):
        prune_weights(tmp_path / "none.ckpt", PruneSettings(), output, HEIGHT, WIDTH)
    with pytest.raises(RecipeError, match=r"ends with \.safetensors"):
        prune_weights(PARENT, PruneSettings(), tmp_path / "pruned.ckpt", HEIGHT, WIDTH)
    with pytest.raises(RecipeError, match="or more, or raise largest_cut"):
        prune_weights(PARENT, PruneSettings(share=0.05), output)  # at the size of the recipe's validation
    assert not list(tmp_path.iterdir())


def test_a_pruned_network_does_not_promise_what_its_parent_promised(tmp_path: Path) -> None:
    kept = read_weights(PARENT)
    promise = {"thresholds": {"car": 0.4}, "coverage": 0.9, "box_scores": {"car": {"scale": 1.2, "shift": 0.5}}}
    parent = tmp_path / "calibrated.safetensors"
    write_weights(parent, kept.state, kept.notes | {"confidence": promise}, kept.sha256)
    assert load_student(parent)[1].confidence == promise

    prune_weights(parent, PruneSettings(share=0.5), tmp_path / "pruned.safetensors", HEIGHT, WIDTH)

    assert load_student(tmp_path / "pruned.safetensors")[1].confidence is None
