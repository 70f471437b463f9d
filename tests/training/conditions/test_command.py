"""Test `python -m training conditions` on a real network: one that sees fine detail only must fall with blur."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT

from ros_kd_perception.sample_drive.training_samples import write_samples
from training.__main__ import main
from training.conditions.table import CONDITIONS
from training.recipe import load_recipe
from training.run.train import train

BLURS = ("defocus", "motion_blur")
OTHERS = ("read_noise", "dead_rows", "low_light", "occlusion", "roll")


def run(place: Path, output: Path, *more: str) -> int:
    return main(["conditions", str(place / "sharp.onnx"), str(place / "frames"), "-o", str(output), *more])


def curves_of(output: Path) -> dict[str, Any]:
    (network,) = json.loads((output / "conditions.json").read_text())["networks"]
    return {condition["name"]: condition["curves"] for condition in network["conditions"]}


def kept(output: Path, name: str) -> list[float]:
    return [figure["value"] for figure in curves_of(output)[name]["miou"]["kept"]]


@pytest.fixture(scope="module")
def measured(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("measured")
    assert run(place, output, "--only", *BLURS, *OTHERS) == 0
    return output


@pytest.mark.parametrize("name", BLURS)
def test_a_student_that_needs_detail_falls_with_blur(name: str, measured: Path) -> None:
    shares = kept(measured, name)
    assert shares[4] < 0.1
    assert shares == sorted(shares, reverse=True)
    assert curves_of(measured)[name]["miou"]["scores"][0]["value"] > 0.95


@pytest.mark.parametrize("name", OTHERS)
def test_it_hardly_falls_with_others(name: str, measured: Path) -> None:
    assert min(kept(measured, name)) > 0.85


def test_the_verdict_names_the_blurs(measured: Path) -> None:
    said = (measured / "conditions.txt").read_text()
    (most,) = [line for line in said.splitlines() if line.startswith("mIoU suffers most")]
    assert {name for name in BLURS if name in ",".join(most.split(",")[:2])} == set(BLURS)
    (halved,) = [line for line in said.splitlines() if line.startswith("mIoU falls below half")]
    assert not [name for name in OTHERS if name in halved]


def test_everything_is_written(measured: Path) -> None:
    sheet = cv2.imread(str(measured / "sheet.jpg"))
    assert sheet.shape[1] > 6 * 200
    assert sheet.shape[0] > len((*BLURS, *OTHERS)) * 150
    assert cv2.imread(str(measured / "curves.png")) is not None
    content = json.loads((measured / "conditions.json").read_text())
    assert content["frames"] == {"data": "6 frames of frames"}
    (network,) = content["networks"]
    assert network["file"] == "sharp.onnx"
    assert network["overall"]["miou"]["low"] is not None
    assert set(network["families"]) == {"lens", "sensor", "light", "objects", "viewpoint"}


def test_an_interrupted_run_goes_on(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.evaluation import frame_recorder

    perceived: list[str] = []
    real = frame_recorder.perceive_sample

    def counted(perceiver: Any, places: Any, sample: Any) -> Any:
        perceived.append(sample.name)
        if len(perceived) == 10:
            raise KeyboardInterrupt
        return real(perceiver, places, sample)

    monkeypatch.setattr(frame_recorder, "perceive_sample", counted)
    chosen = ("--only", "jpeg", "--severities", "5", "1", "--limit", "4")
    assert run(place, tmp_path, *chosen) == 130
    assert not (tmp_path / "conditions.json").exists()
    assert run(place, tmp_path, *chosen) == 0
    assert len(perceived) == 10 + 4  # of clean, severity 1 and severity 5, only the last was not complete
    assert run(place, tmp_path, *chosen) == 0
    assert len(perceived) == 14
    assert len(kept(tmp_path, "jpeg")) == 2


def test_several_models_stand_side_by_side(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(place / "sharp.onnx", tmp_path / "other"))
    words = ["conditions", str(place / "sharp.onnx"), str(other), str(place / "frames"), "-o", str(tmp_path / "out")]
    assert main([*words, "--only", "jpeg", "--severities", "2", "--limit", "2"]) == 0
    content = json.loads((tmp_path / "out" / "conditions.json").read_text())
    assert [network["name"] for network in content["networks"]] == [f"{place.name}/sharp", "other/sharp"]
    assert "# all networks" in capsys.readouterr().out


def test_a_checkpoint_is_measured_like_a_file(rendered_samples: Path, tmp_path: Path) -> None:
    overrides = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path / 'runs'}", "epochs=1", "size=n"]
    overrides += ["validation.segmentation=null", "validation.detection=null"]
    recipe = load_recipe(ROOT / "training" / "recipes" / "student_s_smoke.yaml", overrides)
    checkpoint = train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"

    words = ["conditions", str(checkpoint), str(rendered_samples), "-o", str(tmp_path / "out"), "--only", "jpeg"]
    assert main([*words, "--severities", "1", "--limit", "2"]) == 0
    (network,) = json.loads((tmp_path / "out" / "conditions.json").read_text())["networks"]
    assert (network["name"], network["file"]) == ("last", "last.ckpt")
    assert network["conditions"][0]["curves"]["miou"]["scores"][0]["value"] is not None


def test_the_renderer_adds_its_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.conditions.rendered.SIZE_PX", (128, 96))
    write_samples(tmp_path / "frames", 1, (128, 96), 1, 1)
    words = ["conditions", str(ROOT / "models" / "student.onnx"), str(tmp_path / "frames"), "-o", str(tmp_path / "out")]
    chosen = ["--only", "rendered_height", "jpeg", "--severities", "4", "--rendered", "1", "--threads", "1"]
    assert main([*words, *chosen]) == 0
    content = json.loads((tmp_path / "out" / "conditions.json").read_text())
    assert content["frames"] == {"data": "1 frames of frames", "rendered": "1 rendered frames, seed 0"}
    conditions = {each["name"]: each for each in content["networks"][0]["conditions"]}
    assert conditions["rendered_height"]["frames"] == "rendered"
    assert conditions["rendered_height"]["curves"]["miou"]["kept"][0]["value"] is not None


def test_a_sheet_needs_neither_model_nor_labels(place: Path, tmp_path: Path) -> None:
    (tmp_path / "bare" / "images").mkdir(parents=True)
    shutil.copy(place / "frames" / "images" / "d_0.png", tmp_path / "bare" / "images")
    words = ["conditions", str(tmp_path / "bare"), "-o", str(tmp_path / "out"), "--sheet-only", "--kind", "unlabeled"]
    assert main(words) == 0
    assert cv2.imread(str(tmp_path / "out" / "sheet.jpg")).shape[0] > len(CONDITIONS) * 150


def test_frames_without_boxes_leave_occlusion_out(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = Path(shutil.copytree(place / "frames", tmp_path / "frames"))
    boxes = {name: {"boxes_xyxy": [], "labels": []} for name in json.loads((frames / "boxes.json").read_text())}
    (frames / "boxes.json").write_text(json.dumps(boxes))
    words = ["conditions", str(place / "sharp.onnx"), str(frames), "-o", str(tmp_path / "out"), "--only", "occlusion"]
    assert main([*words, "jpeg", "--severities", "1"]) == 0
    assert "occlusion is left out" in capsys.readouterr().out
    assert main(words) == 2
    assert "expected a condition that changes these frames" in capsys.readouterr().err


def test_a_class_that_occurs_once_is_no_fault(place: Path, tmp_path: Path) -> None:
    frames = Path(shutil.copytree(place / "frames", tmp_path / "frames"))
    path = frames / "masks" / "d_3.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    mask[100:104, 10:14] = 5
    cv2.imwrite(str(path), mask)
    words = ["conditions", str(place / "sharp.onnx"), str(frames), "-o", str(tmp_path / "out")]
    assert main([*words, "--only", "longer_focus", "--severities", "5"]) == 0
    assert 0 <= kept(tmp_path / "out", "longer_focus")[0] <= 1.2


def test_frames_without_labels_are_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = Path(shutil.copytree(place / "frames", tmp_path / "frames"))
    for path in (frames / "masks").iterdir():
        cv2.imwrite(str(path), np.full_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 255))
    boxes = {name: {"boxes_xyxy": [], "labels": []} for name in json.loads((frames / "boxes.json").read_text())}
    (frames / "boxes.json").write_text(json.dumps(boxes))
    assert main(["conditions", str(place / "sharp.onnx"), str(frames), "-o", str(tmp_path / "out")]) == 2
    assert "expected frames with labels of the classes of the model" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(place, tmp_path, "--only", "jpeg", "--limit", "2") == 2
    assert "No space left on device; make room" in capsys.readouterr().err
