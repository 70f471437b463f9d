"""Test the memory of models: what a known model adds, each by itself, and what is said where it cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from checkout import ROOT
from labelled_by_a_file import write_frames
from onnx import helper, numpy_helper
from tiny_student import CONTRACT, HEIGHT, WIDTH, write_tiny_model

from training.__main__ import main
from training.evaluation.memory import Memory, MemoryRequest, memory_of

SIDE = 4096  # of a square of float32 that takes 64 MiB
SQUARE_BYTES = 4 * SIDE * SIDE
NEAR_BYTES = 24 << 20  # what two runs of one model may differ by, with room for a busy machine
PICTURE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def fill_a_square(model: onnx.ModelProto) -> None:
    """Make each run fill a large square of numbers, of which the outputs get the smallest, which is zero."""
    (scaled,) = (node for node in model.graph.node if list(node.output) == ["uncertainty"])
    scaled.output[0] = "without"
    model.graph.initializer.append(numpy_helper.from_array(np.array([SIDE, SIDE]), "sides"))
    model.graph.node.extend(
        [
            # The size of a square of the frame's own numbers is not known when the file is opened.
            helper.make_node("ReduceMin", ["without"], ["least"], keepdims=0),
            helper.make_node("Expand", ["least", "sides"], ["square"]),
            helper.make_node("ReduceMin", ["square"], ["none"], keepdims=0),
            helper.make_node("Sub", ["least", "none"], ["zero"]),
            helper.make_node("Add", ["without", "zero"], ["uncertainty"]),
        ]
    )


def measured(path: Path, device: str = "cpu") -> Memory:
    return memory_of(MemoryRequest(str(path), "ema", None, None, 1, device), PICTURE)


def test_the_peak_of_a_run_counts_and_another_model_before_it_does_not(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "small.onnx", CONTRACT)
    write_tiny_model(tmp_path / "large.onnx", CONTRACT, fill_a_square)

    before, large, after = (measured(tmp_path / f"{name}.onnx") for name in ("small", "large", "small"))

    assert [each.problem for each in (before, large, after)] == ["", "", ""]
    assert before.added_bytes is not None
    assert large.added_bytes is not None
    assert after.added_bytes is not None
    # The arena of ONNX Runtime grows by powers of two, and may hold the square twice.
    assert SQUARE_BYTES - NEAR_BYTES < large.added_bytes - before.added_bytes < 2 * SQUARE_BYTES + NEAR_BYTES
    assert abs(after.added_bytes - before.added_bytes) < NEAR_BYTES
    assert large.process_bytes is not None
    assert large.process_bytes > large.added_bytes, "libraries take memory, too"
    assert large.device_bytes is None


def test_a_checkpoint_takes_at_least_its_weights() -> None:
    path = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"

    found = measured(path)

    assert found.problem == ""
    assert found.added_bytes is not None
    assert found.added_bytes > path.stat().st_size


def test_a_file_that_does_not_open_has_no_memory_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"no model")

    found = measured(tmp_path / "none.onnx")

    assert found.added_bytes is None
    assert "status 1" in found.problem
    assert "none.onnx" in found.problem


def test_evaluate_tells_the_memory_of_each_model_unless_it_is_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [tmp_path / "one.onnx", tmp_path / "other.onnx"]
    for path in models:
        write_tiny_model(path, CONTRACT)
    frames, out = write_frames(tmp_path / "frames", models[0]), tmp_path / "found.json"
    words = ["evaluate", *map(str, models), str(frames), "--source", "check_shares=false", "--json", str(out)]

    assert main(words) == 0
    for each in json.loads(out.read_text())["models"]:
        assert 0 < each["memory"]["added_bytes"] < each["memory"]["process_bytes"]
        assert each["memory"]["device_bytes"] is None
    assert capsys.readouterr().out.count(" MB, memory ") == 2

    assert main([*words, "--no-memory"]) == 0
    assert [each["memory"] for each in json.loads(out.read_text())["models"]] == [None, None]
    assert "memory" not in capsys.readouterr().out
