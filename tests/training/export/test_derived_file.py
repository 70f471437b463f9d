"""Test files that were made from another file: written whole or not at all, with golden outputs of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_student import CONTRACT, HEIGHT, WIDTH, contract_with, write_tiny_student

from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from training.export.derived_file import derived_contract, derived_section, write_derived_file

IMAGES = [np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for seed in range(2)]


@pytest.fixture
def graph(tmp_path: Path) -> onnx.ModelProto:
    """The tiny student with boxes of another score: a file whose golden outputs are not those of its parent."""
    model = onnx.load(write_tiny_student(tmp_path / "parent.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name == "scores_row":
            lower = numpy_helper.to_array(tensor) - np.float32(0.1)
            tensor.CopyFrom(numpy_helper.from_array(lower.clip(0), tensor.name))
    return model


def test_the_golden_outputs_are_those_of_the_new_file(graph: onnx.ModelProto, tmp_path: Path) -> None:
    section = derived_section("ab" * 32, "parent.onnx", ["lower scores"], loss={"miou": -0.01}, agreement=0.99)
    write_derived_file(graph, tmp_path / "new.onnx", derived_contract(CONTRACT, "fp32", section), IMAGES)

    model = OnnxModel.open(tmp_path / "new.onnx", device="cpu")
    assert model.golden is not None
    assert model.golden.score_difference < 0.001
    assert model.contract.precision == "fp32"
    assert model.contract.derived == {
        "from_sha256": "ab" * 32,
        "from_name": "parent.onnx",
        "steps": ["lower scores"],
        "loss": {"miou": -0.01},
        "agreement": 0.99,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.onnx", "parent.onnx"]


def test_a_file_that_does_not_run_leaves_the_one_from_before(graph: onnx.ModelProto, tmp_path: Path) -> None:
    output = tmp_path / "new.onnx"
    output.write_text("from before")
    wrong = contract_with(class_map=None)

    with pytest.raises(ModelError, match="class_map"):
        write_derived_file(graph, output, derived_contract(wrong, "fp32", {}), IMAGES)

    assert output.read_text() == "from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.onnx", "parent.onnx"]


def test_the_graph_is_not_changed(graph: onnx.ModelProto, tmp_path: Path) -> None:
    before = graph.SerializeToString()
    write_derived_file(graph, tmp_path / "new.onnx", derived_contract(CONTRACT, "fp32", {}), IMAGES)

    assert graph.SerializeToString() == before
