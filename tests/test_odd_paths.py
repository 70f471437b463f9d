"""Tests commands with paths that are not UTF-8: what they write is written, and what they say can be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from small_bag import write_small_bag
from tiny_student import write_tiny_student

from ros_kd_perception import compare_bags, compare_replay, model_signature, replay

NAME = os.fsdecode(b"caf\xe9")  # Latin-1
SHOWN = r"caf\udce9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / NAME
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    write_tiny_student(folder / "tiny.onnx")
    write_small_bag(folder / "in.mcap", frames=2)
    return folder


def test_a_replay_writes_and_names_its_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [folder / name for name in ("out.mcap", "out.mp4", "out.rrd")]
    chosen = ["-o", str(outputs[0]), "--overlay", str(outputs[1]), "--rerun", str(outputs[2])]
    status = replay.main([str(folder / "in.mcap"), "--model", str(folder / "tiny.onnx"), "--quiet", *chosen])
    assert status == 0
    assert all(path.is_file() for path in outputs)
    assert capsys.readouterr().out.splitlines()[-1].count(SHOWN) == 3


def test_comparisons_write_json_that_names_the_same_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, bag, results = (str(folder / name) for name in ("tiny.onnx", "in.mcap", "results.mcap"))
    assert compare_replay.main([bag, "--model", model, "--model", model, "-o", str(folder / "a"), "--quiet"]) == 0
    assert replay.main([bag, "--model", model, "-o", results, "--quiet"]) == 0
    assert compare_bags.main([results, results, "-o", str(folder / "b"), "--quiet"]) == 0
    found = json.loads((folder / "a" / "differences.json").read_text(encoding="utf-8"))
    assert found["sides"]["old"]["facts"]["file"] == model
    found = json.loads((folder / "b" / "differences.json").read_text(encoding="utf-8"))
    assert found["sides"]["new"]["facts"]["bag"] == results
    assert SHOWN in (folder / "b" / "report.html").read_text(encoding="utf-8")
    assert f"{SHOWN}/b/report.html" in capsys.readouterr().out


def test_a_refused_model_is_named_with_the_reason(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "none.onnx").write_bytes(b"none")
    arguments = [str(folder / "in.mcap"), "-o", str(folder / "no.mcap"), "--model", str(folder / "none.onnx")]
    for encoding in ("utf-8:strict", "utf-8:surrogateescape"):  # in UTF-8 and in the locale C
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        assert replay.main([*arguments, "--quiet"]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "none.onnx: expected to be an ONNX model" in line, line


def test_a_signature_is_written_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert model_signature.main(["keys", str(folder / "key")]) == 0
    assert model_signature.main(["sign", str(folder / "tiny.onnx"), "--key", str(folder / "key")]) == 0
    assert capsys.readouterr().out.count(SHOWN) == 3
