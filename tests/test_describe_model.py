"""Tests what `describe_model` prints of whole, derived and broken files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from checkout import ROOT
from tiny_student import contract_with, quantise, write_tiny_model, write_tiny_student

from ros_kd_perception import describe_model
from ros_kd_perception.model.contract import GoldenLimits
from ros_kd_perception.model.contract_notes import DROPS_BOXES_ABOVE_IOU, LOOKS_AT_HALF_SIZE

DERIVED = {
    "from_sha256": "0a1b2c3d4e5f" + "0" * 52,
    "from_name": "student.onnx",
    "steps": ["quantised to 8-bit integers"],
    "data_sha256": "1b" * 32,
    "parent": {"miou": 0.6742},
    "loss": {"miou": -0.0005},
    "frames": {"miou": "CamVid val, 101 frames"},
    "agreement": 0.9921,
}
INT8 = contract_with(
    name="tiny_int8",
    precision="int8",
    golden=GoldenLimits(0.99, 0.9, 0.1),
    derived=DERIVED,
    confidence={"thresholds": {"car": 0.4}, "coverage": 0.9, "checked_on": "other streets"},
    provenance={"teachers": "none", "note": "\x1b[2Jgone"},
)


def described(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """Return the printed rows, by name. Rows of one name are joined."""
    assert describe_model.main(arguments) == 0
    rows: dict[str, str] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines():
        start, _, text = line.partition("  ")
        name = start.strip() or name
        rows[name] = f"{rows[name]} | {text.strip()}" if name in rows else text.strip()
    return rows


def test_a_quantised_file_says_what_it_is_and_what_it_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "int8.onnx", INT8, quantise)
    rows = described(capsys, str(path))
    assert rows["name"] == "tiny_int8 1"
    assert rows["precision"] == "int8"
    assert rows["size"].startswith(f"{path.stat().st_size} bytes")
    assert len(rows["sha256"]) == 64
    assert rows["input"] == "96x64 bgr, letterbox, any number of frames at once"
    assert "11 classes, stride 4 px: sky, building" in rows["segmentation"]
    assert "4 classes, up to 6 boxes from score 0.3, no duplicates: car" in rows["detection"]
    assert rows["made from"] == "student.onnx (sha256 0a1b2c3d4e5f)"
    assert rows["steps"] == "quantised to 8-bit integers"
    assert rows["loss"] == "miou 67.37 % (parent 67.42 %, -0.05 points, CamVid val, 101 frames)"
    assert rows["equal to parent"] == "99.21 % of the class map"
    assert rows["calibration"] == f"frames of sha256 {'1b' * 32}"
    assert rows["golden frames"].startswith("2, to agree in at least 99.00% of its class map, with box IoU")
    assert "scores within 0.1" in rows["golden frames"]
    assert rows["provenance"] == "teachers none | note ?[2Jgone"
    assert rows["confidence"] == 'thresholds {"car": 0.4} | coverage 0.9 | checked_on other streets'
    assert "provider" not in rows


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ({DROPS_BOXES_ABOVE_IOU: 0.6}, "no duplicates (the network drops those above IoU 0.6): car"),
        ({DROPS_BOXES_ABOVE_IOU: "often"}, "no duplicates: car"),
        ({LOOKS_AT_HALF_SIZE: True}, "sign | the network looks for boxes at half of the input's size, too"),
    ],
)
def test_a_student_says_what_its_graph_does_beside_its_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], notes: dict[str, object], expected: str
) -> None:
    path = write_tiny_model(tmp_path / "noted.onnx", replace(INT8, provenance=notes), quantise)
    assert expected in described(capsys, str(path))["detection"]


def test_run_opens_the_file_and_times_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "int8.onnx", INT8, quantise)
    rows = described(capsys, str(path), "--run", "--device", "cpu", "--threads", "1")
    assert rows["provider"] == "CPUExecutionProvider"
    assert rows["golden gate"] == "passed"
    assert "ms, median of 20 runs" in rows["time"]
    assert rows["speed"].startswith("INT8 runs in ")


def test_json_holds_the_whole_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "int8.onnx", INT8, quantise)
    assert describe_model.main([str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["contract"] == json.loads(INT8.to_json())
    assert facts["golden_frames"] == 2


def test_the_shipped_student_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    rows = described(capsys, str(ROOT / "models" / "student.onnx"))
    assert rows["precision"] == "fp32"
    assert rows["made from"] == "no other file that the contract names"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert describe_model.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    return printed.err


def test_files_that_cannot_be_used_give_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected an ONNX file at" in refusal(capsys, str(tmp_path / "missing.onnx"))
    (tmp_path / "text.onnx").write_text("not a model\n" * 50)
    assert "expected to be an ONNX model" in refusal(capsys, str(tmp_path / "text.onnx"))
    foreign = write_tiny_student(tmp_path / "foreign.onnx")
    model = onnx.load(foreign)
    del model.metadata_props[:]
    onnx.save(model, foreign)
    assert "only models written by `python -m training export` or `adopt`" in refusal(capsys, str(foreign))


def test_a_folder_in_the_place_of_a_model_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe_model.main([str(tmp_path)]) == 2
    assert f"expected an ONNX file at {tmp_path}, found a folder; " in capsys.readouterr().err


def test_a_tampered_file_is_refused_when_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "int8.onnx", INT8, quantise)
    model = onnx.load(path)
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == "weights_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 2, scale.name))
    onnx.save(model, path)
    assert "expected golden frame 0 on CPUExecutionProvider" in refusal(capsys, str(path), "--run", "--device", "cpu")
