"""Test the command: distorted scores come right again, the file says so, and a broken promise has an exit status."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from checkout import ROOT
from scipy.special import expit, logit

from ros_kd_perception.model.contract import CONTRACT_KEY, ModelContract
from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.render_drive import main as render
from training.__main__ import main
from training.calibration.fold import folded
from training.checkpoint import digest_of_weights, load_student
from training.networks.student import Student
from training.weights_file import write_weights

KEPT = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"
TEMPERATURE, SHIFT = 2.5, -2.0  # the distortion that must be found
FRAMES = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames to fit and to check, and a student whose logits of pixels are too large, and of boxes too small."""
    folder = tmp_path_factory.mktemp("calibration")
    for name, seed in (("fit", 500), ("check", 700)):
        assert render(["--samples", str(folder / name), "--count", str(FRAMES), "--seed", str(seed)]) == 0
    student, info = load_student(KEPT)
    distorted = with_lower_scores(folded(student, 1 / TEMPERATURE))
    write_weights(folder / "distorted.safetensors", distorted.state_dict(), asdict(info), digest_of_weights(distorted))
    return folder


@torch.no_grad()
def with_lower_scores(student: Student) -> Student:
    for layers in student.detection.class_layers:  # type: ignore[union-attr]
        layers[-1].bias += SHIFT  # type: ignore[index,operator]
    return student


def recipe_file(place: Path, model: str = "distorted.safetensors", more: str = "") -> Path:
    path = place / "recipe.yaml"
    path.write_text(f"""
name: tried
model: {place / model}
fit: [{{name: first, frames: {{kind: rendered, folder: {place / "fit"}}}}}]
check: [{{name: second, frames: {{kind: rendered, folder: {place / "check"}}}}}]
threads: 1
folder: {place / "out"}
{more}
""")
    return path


@pytest.fixture(scope="module")
def calibrated(place: Path) -> Path:
    """The folder of a calibration that promises little enough to hold."""
    promise = "promise: {coverage: 0.3, tolerance: 0.15, sizes: [medium, large], least_objects: 30}"
    assert main(["calibrate", str(recipe_file(place, more=promise))]) == 0
    return place / "out" / "tried"


@pytest.fixture(scope="module")
def exported(calibrated: Path) -> Path:
    path = calibrated / "calibrated.onnx"
    size = ["--height", "384", "--width", "640"]
    assert main(["export", str(calibrated / "calibrated.safetensors"), "-o", str(path), *size]) == 0
    return path


def test_the_distortion_is_found(calibrated: Path) -> None:
    found = json.loads((calibrated / "report.json").read_text())

    assert found["confidence"]["temperature"] > 0.6 * TEMPERATURE
    assert found["scales"]["car"]["shift"] > 0.5 * -SHIFT
    for sets in (found["fit"]["first"], found["check"]["second"]):
        assert sets["pixels"]["after"]["error"] < 0.6 * sets["pixels"]["before"]["error"]
        assert sets["after"]["by_class"]["car"]["error"] < 0.6 * sets["before"]["by_class"]["car"]["error"]
    assert "car" in found["confidence"]["thresholds"]
    assert (calibrated / "reliability.png").stat().st_size > 20_000
    assert "| car |" in (calibrated / "report.md").read_text()


def test_weights_and_contract_say_what_was_done(calibrated: Path, exported: Path) -> None:
    said = json.loads((calibrated / "report.json").read_text())["confidence"]

    assert load_student(calibrated / "calibrated.safetensors")[1].confidence == said
    contract = ContractFile.read(exported).contract
    assert contract.confidence == said
    assert contract.confidence["checked_on"] == "second"
    assert ModelContract.from_json(contract.to_json()) == contract


def test_a_file_scales_the_scores_and_nothing_else(place: Path, exported: Path) -> None:
    plain, again = place / "plain.onnx", place / "again.onnx"
    size = ["--height", "384", "--width", "640"]
    assert main(["export", str(place / "distorted.safetensors"), "-o", str(plain), *size]) == 0
    assert main(["export", str(exported), "-o", str(again), *size]) == 0  # the scales outlive the reading
    frames = np.stack([frame.image for frame in ContractFile.read(exported).golden_frames()])

    before, after, kept = (
        OnnxModel.open(path, device="cpu").run(frames[:1]).rows(0) for path in (plain, exported, again)
    )

    assert before is not None
    assert after is not None
    assert kept is not None
    np.testing.assert_allclose(after.scores, kept.scores, atol=1e-4)
    scales = ContractFile.read(exported).contract.confidence["box_scores"]
    names = [info.name for info in ContractFile.read(exported).contract.detection_classes]
    assert 0 < len(scales) <= len(names)
    for label, name in enumerate(names):
        scale = scales.get(name, {"scale": 1.0, "shift": 0.0})
        old, new = (np.sort(rows.scores[rows.labels == label])[::-1].astype(np.float64) for rows in (before, after))
        count = min(len(old), len(new))  # classes share the 100 rows
        expected = expit(scale["scale"] * logit(old[:count]) + scale["shift"])
        np.testing.assert_allclose(new[:count], expected, atol=1e-4)


def test_the_same_calibration_again_writes_the_same_weights(place: Path, calibrated: Path) -> None:
    before = (calibrated / "calibrated.safetensors").read_bytes()

    promise = "promise: {coverage: 0.3, tolerance: 0.15, sizes: [medium, large], least_objects: 30}"
    assert main(["calibrate", str(recipe_file(place, more=promise))]) == 0

    assert (calibrated / "calibrated.safetensors").read_bytes() == before


def test_classes_stay_as_they_are(place: Path, calibrated: Path) -> None:
    before = json.loads((calibrated / "report.json").read_text())
    more = f"unscaled: [car]\nfolder: {place / 'unscaled'}"
    path = recipe_file(place)
    path.write_text(path.read_text().replace(f"folder: {place / 'out'}", more))

    assert main(["calibrate", str(path)]) == 0

    after = json.loads((place / "unscaled" / "tried" / "report.json").read_text())
    assert "car" in before["confidence"]["box_scores"]
    assert "(unscaled)" in after["scales"]["car"]["refused"]
    others = {name: scale for name, scale in before["confidence"]["box_scores"].items() if name != "car"}
    assert after["confidence"].get("box_scores", {}) == others
    assert after["check"]["second"]["after"]["by_class"]["car"] == after["check"]["second"]["before"]["by_class"]["car"]


def test_unscaled_names_classes_of_the_student(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(recipe_file(place, more="unscaled: [tram]"))]) == 2
    assert "unscaled: expected classes of boxes of the student (car, pedestrian" in capsys.readouterr().err


def with_thresholds(source: Path, target: Path, thresholds: dict[str, float]) -> Path:
    """Write a file whose contract promises other thresholds."""
    model = onnx.load(str(source))
    for entry in model.metadata_props:
        if entry.key == CONTRACT_KEY:
            contract: dict[str, Any] = json.loads(entry.value)
            contract["confidence"] |= {"thresholds": thresholds, "coverage": 0.9}
            entry.value = json.dumps(contract)
    onnx.save(model, str(target))
    return target


def test_check_tells_a_promise_that_holds_from_one_that_does_not(
    place: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(
        recipe_file(place, more="promise: {coverage: 0.3, tolerance: 0.15, sizes: [medium, large], least_objects: 30}")
    )

    assert main(["calibrate", recipe, "--check", str(exported), "--json", str(place / "held.json")]) == 0
    assert "keeps its promise of 30.00 %" in capsys.readouterr().out
    shares = json.loads((place / "held.json").read_text())
    assert shares["found"]["second"]["car"] >= 0.15
    assert not shares["broken"]

    broken = with_thresholds(exported, place / "broken.onnx", {"car": 0.999})
    assert main(["calibrate", recipe, "--check", str(broken)]) == 1
    assert "breaks its promise of 90.00 %: car on second" in capsys.readouterr().out


def test_a_promise_that_no_set_can_check_is_not_kept(
    place: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = "promise: {coverage: 0.3, tolerance: 0.15, sizes: [medium, large], least_objects: 100000}"
    recipe = str(recipe_file(place, more=few))

    assert main(["calibrate", recipe, "--check", str(exported), "--json", str(place / "few.json")]) == 1

    said = capsys.readouterr().out
    assert "keeps its promise" not in said
    assert "calibrated.onnx has no proof of its promise of 30.00 %" in said
    assert "car" in json.loads((place / "few.json").read_text())["unproved"]


def test_the_objects_are_those_of_the_file(place: Path, exported: Path) -> None:
    found = []
    for sizes in ("[medium, large]", "[large]"):
        promise = f"promise: {{coverage: 0.3, tolerance: 0.15, sizes: {sizes}, least_objects: 30}}"
        checked = place / "objects.json"
        main(["calibrate", str(recipe_file(place, more=promise)), "--check", str(exported), "--json", str(checked)])
        found.append(json.loads(checked.read_text())["found"])

    assert found[0] == found[1]
    assert found[0]["second"]["car"] > 0


def test_a_file_without_thresholds_promises_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(recipe_file(place)), "--check", str(ROOT / "models" / "student.onnx")]) == 0
    assert "student.onnx promises nothing: it has no thresholds." in capsys.readouterr().out


def test_what_cannot_be_calibrated_is_refused(
    place: Path, calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = recipe_file(place, str(calibrated / "calibrated.safetensors"))
    assert main(["calibrate", str(again)]) == 2
    assert "is calibrated already; name the weights that it was made from" in capsys.readouterr().err

    for override, said in (
        ("fit.0.frames.folder=nowhere", "nowhere: expected a folder"),
        ("model=nowhere.ckpt", "nowhere.ckpt: expected a checkpoint"),
        ("check.0.name=first", "expected sets with different names"),
        ("name=a/b", "name becomes a folder"),
        ("promise.coverage=1.5", "promise.coverage"),
    ):
        assert main(["calibrate", str(recipe_file(place)), "--override", override]) == 2
        assert said in capsys.readouterr().err
    assert main(["calibrate", str(recipe_file(place)), "--json", str(place / "x.json")]) == 2
    assert "--json belongs to --check" in capsys.readouterr().err


def test_frames_that_fit_prove_nothing(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "again").symlink_to(rendered_samples)
    path = tmp_path / "recipe.yaml"
    path.write_text(f"""
name: tried
model: {KEPT}
fit: [{{name: first, frames: {{kind: rendered, folder: {rendered_samples}, limit: 3}}}}]
check: [{{name: second, frames: {{kind: rendered, folder: {tmp_path / "again"}}}}}]
folder: {tmp_path / "out"}
""")

    assert main(["calibrate", str(path)]) == 2

    said = capsys.readouterr().err
    assert "check second: expected other frames than those of fit, 3 of 8 are in first, too" in said
    assert main(["calibrate", str(path), "--check", str(tmp_path / "none.onnx")]) == 2
    assert "other frames" not in capsys.readouterr().err, "a check fits nothing"
