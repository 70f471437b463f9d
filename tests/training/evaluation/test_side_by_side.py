"""Test `evaluate` of several models: differences, verdicts, limits, teachers and models of other classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from checkout import ROOT
from labelled_by_a_file import FRAMES, dim, write_frames
from onnx import numpy_helper
from tiny_student import CONTRACT, write_tiny_model

from training.__main__ import main
from training.data.readers.rendered import RenderedSource
from training.errors import RecipeError
from training.evaluation.command import drive_of
from training.evaluation.frame_recorder import record
from training.evaluation.models import open_model
from training.evaluation.score_figures import NOISE, Difference, score_figures

KIND = ["--kind", "rendered", "--source", "check_shares=false", "--threads", "1"]


def swap_classes(model: onnx.ModelProto) -> None:
    """Name every box by another class."""
    for tensor in model.graph.initializer:
        if tensor.name == "labels_row":
            labels = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((labels + 1) % 4, tensor.name))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, and frames that `right.onnx` labelled."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_tiny_model(folder / "right.onnx", CONTRACT)
    write_tiny_model(folder / "dim.onnx", CONTRACT, dim)
    write_tiny_model(folder / "swapped.onnx", CONTRACT, swap_classes)
    write_frames(folder / "frames", folder / "right.onnx")
    return folder


def evaluated(place: Path, *words: str, status: int = 0) -> Any:
    out = place / "found.json"
    out.unlink(missing_ok=True)
    paths = [str(place / word) if (place / word).exists() else word for word in words]
    assert main(["evaluate", *paths, *KIND, "--json", str(out)]) == status
    return json.loads(out.read_text()) if out.exists() else None


def test_a_model_beside_itself_differs_by_nothing_and_a_broken_one_is_worse(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "same.onnx").write_bytes((place / "right.onnx").read_bytes())

    found = evaluated(place, "right.onnx", "same.onnx", "dim.onnx", "swapped.onnx", "frames")

    right, same, darker, swapped = found["models"]
    for mean in ("miou", "ap50", "pixel_accuracy", "boundary_iou"):
        assert same["figures"]["means"][mean]["difference"]["value"] == 0
        assert darker["figures"]["means"][mean]["difference"]["verdict"] == "worse"
    assert swapped["figures"]["means"]["ap50"]["difference"]["verdict"] == "worse"
    assert swapped["figures"]["means"]["miou"]["difference"]["value"] == 0
    assert right["figures"]["means"]["miou"]["difference"] is None
    assert right["time_ratio"] == 1
    assert darker["confusion"]["classes"] == [info.name for info in CONTRACT.segmentation_classes]
    assert np.sum(darker["confusion"]["pixels"]) == FRAMES * 64 * 96
    printed = capsys.readouterr().out
    assert printed.startswith("same.onnx against right.onnx: within the noise of mIoU (+0.00")
    assert "swapped.onnx against right.onnx: worse in AP50" in printed


def test_a_single_model_keeps_its_figures_at_the_top(place: Path) -> None:
    found = evaluated(place, "dim.onnx", "frames", "--drawn", "drives")

    assert found["model"] == "dim.onnx"
    assert found["figures"]["means"]["miou"]["value"] == pytest.approx(found["miou"])
    assert found["drives"] == FRAMES
    assert found["file_bytes"] == (place / "dim.onnx").stat().st_size


def test_limits_decide_the_exit_status(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(place, "right.onnx", "frames", "--at-least", "miou=0.99", "--at-least", "ap50.car=0.5")
    assert "LIMIT BROKEN" not in capsys.readouterr().err

    evaluated(place, "dim.onnx", "frames", "--at-least", "miou=0.99", status=1)
    assert "LIMIT BROKEN: dim.onnx: expected miou of at least 99.00 %, got" in capsys.readouterr().err

    new, old = str(place / "dim.onnx"), str(place / "right.onnx")
    assert main(["evaluate", new, str(place / "frames"), *KIND, "--not-worse-than", old]) == 1
    assert "LIMIT BROKEN: dim.onnx is worse than right.onnx in mIoU" in capsys.readouterr().err
    assert main(["evaluate", old, str(place / "frames"), *KIND, "--not-worse-than", new]) == 0


@pytest.mark.parametrize("words", [["--at-least", "miou"], ["--at-least", "miou=65"], ["--at-least", "=0.5"]])
def test_a_limit_that_is_none_is_refused(place: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(place / "dim.onnx"), str(place / "frames"), *KIND, *words])
    assert ended.value.code == 2


def test_a_limit_of_an_unknown_figure_and_a_model_named_twice_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(place, "dim.onnx", "frames", "--at-least", "iou.boat=0.5", status=2)
    assert "dim.onnx has no figure iou.boat; it has ap" in capsys.readouterr().err
    evaluated(place, "dim.onnx", "frames", "--at-least", "ap50.traffic light=0.5", status=2)
    assert "dim.onnx has no figure ap50.traffic light; it has ap" in capsys.readouterr().err
    evaluated(place, "dim.onnx", "dim.onnx", "frames", status=2)
    assert "name each once" in capsys.readouterr().err


def test_models_of_other_classes_are_compared_by_the_classes_that_all_have(place: Path) -> None:
    model = open_model(place / "dim.onnx", "ema", None, None, 1)
    frames = RenderedSource(folder=place / "frames", check_shares=False).open
    mapping = RenderedSource(folder=place / "frames").mapping_to(model.label_set)
    records = record(model.perceiver, model.contract, frames(mapping), "dim")
    names = records.mask_classes.copy()
    names[2:] = [f"other {number}" for number in range(len(names) - 2)]

    found = score_figures({"one": records, "other": replace(records, mask_classes=names)})

    for each in found.values():
        two = [figure.value for figure in list(each.iou.values())[:2]]
        assert each.means["miou"].value == pytest.approx(np.mean([value for value in two if value is not None]))
    assert found["other"].means["miou"].difference == Difference(0.0, 0.0, 0.0, NOISE)
    assert found["other"].means["pixel_accuracy"].difference is None, "it counts the pixels of every class"


def test_teachers_are_scored_like_students(
    place: Path, rendered_samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = {
        "label_set": "camvid11",
        "teachers": [{"kind": "checkpoint", "path": str(ROOT / "models" / "student_plain.onnx")}],
    }
    (place / "teachers.yaml").write_text(yaml.safe_dump(listed))
    words = [str(place / "teachers.yaml"), str(rendered_samples), "--threads", "1", "--json", str(place / "said.json")]

    assert main(["evaluate", *words]) == 0

    found = json.loads((place / "said.json").read_text())
    assert (found["runtime"], found["parameters"], found["frames"]) == ("teachers, CPU", None, 8)
    assert found["miou"] > 0.3
    assert found["detection"]["detections"] > 0
    capsys.readouterr()
    assert main(["evaluate", *words, "--height", "64"]) == 2
    assert "leave --height and --width out" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(place: Path) -> None:
    from training.evaluation.models import open_model

    with pytest.raises(RecipeError, match="expected cpu, cuda or auto"):
        open_model(place / "teachers.yaml", "ema", None, None, 1, "tensorrt")


def test_a_drive_is_what_names_have_in_common() -> None:
    assert [drive_of(name) for name in ("0001TP_006690", "aachen_000_19", "drive-7", "000031")] == [
        "0001TP", "aachen", "drive", "000031",
    ]  # fmt: skip
