"""Test half-precision files: what becomes fp16, what stays in fp32, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.quantization import half_precision
from training.quantization.forms import HALF_FORM
from training.quantization.half_precision import half_precision_graph
from training.quantization.quantise import quantised_graph
from training.quantization.quantise_file import quantise_file
from training.quantization.settings import QuantiseSettings

FP16 = QuantiseSettings(form="fp16")


@pytest.fixture(scope="module")
def graph(parent: Path) -> onnx.ModelProto:
    return quantised_graph(parent, [], FP16)


@pytest.fixture(scope="module")
def half_file(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "student_fp16.onnx"
    report = quantise_file(parent, FP16, path)
    assert (report.said, report.data_sha256) == ("half precision for CUDA", "")
    return path


def changed(parent: Path, path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(parent)
    change(model)
    onnx.save(model, path)
    return path


def test_layers_are_half_and_what_decodes_is_not(graph: onnx.ModelProto) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type == "Conv"]

    assert len(layers) == 35
    assert all(kinds[name] == TensorProto.FLOAT16 for node in layers for name in node.input[1:])
    types = {value.name: value.type.tensor_type.elem_type for value in graph.graph.value_info}
    decoding = [node for node in graph.graph.node if node.op_type in ("ArgMax", "TopK", "Sigmoid", "LogSoftmax")]
    assert len(decoding) == 6  # one of them sorts boxes, to drop those that repeat a better one
    assert all(types.get(node.input[0], TensorProto.FLOAT) == TensorProto.FLOAT for node in decoding)
    assert kinds["cells"] == TensorProto.FLOAT, "the places of cells, in pixels"


def test_inputs_and_outputs_keep_their_types(parent: Path, graph: onnx.ModelProto) -> None:
    before = onnx.load(parent).graph
    for found, expected in ((graph.graph.input, before.input), (graph.graph.output, before.output)):
        assert [(value.name, value.type) for value in found] == [(value.name, value.type) for value in expected]


def test_the_file_is_smaller_and_agrees_with_its_parent(
    parent: Path, half_file: Path, network_inputs: list[UInt8Array]
) -> None:
    fp32, fp16 = (OnnxModel.open(path, device="cpu") for path in (parent, half_file))
    assert fp16.contract.precision == "fp16"
    assert fp16.contract.derived == {
        "from_sha256": fp32.sha256,
        "from_name": parent.name,
        "steps": ["half precision for CUDA"],
    }
    expected, found = (model.run(np.stack(network_inputs)) for model in (fp32, fp16))
    assert np.mean(found.class_map == expected.class_map) > 0.999
    assert np.abs(found.scores - expected.scores).max() < 0.01
    assert half_file.stat().st_size < 0.65 * parent.stat().st_size


@pytest.mark.parametrize("form", ["cpu", "tensorrt", "fp16"])
def test_a_half_precision_parent_is_refused(half_file: Path, network_inputs: list[UInt8Array], form: str) -> None:
    calibration = {"frames": {"kind": "unlabeled", "folder": "frames"}, "count": 8}
    keys = {"form": form} if form == "fp16" else {"form": form, "calibration": calibration}

    with pytest.raises(ModelFileError, match=r"fp16\.onnx: expected a file in fp32 to quantise, got one in fp16;"):
        quantised_graph(half_file, network_inputs, QuantiseSettings.model_validate(keys))


@pytest.mark.parametrize("form", ["tensorrt", "fp16"])
def test_an_integer_parent_is_refused(
    parent: Path, network_inputs: list[UInt8Array], tmp_path: Path, form: str
) -> None:
    def add_integers(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("DequantizeLinear", ["val_4", "val_4"], ["elsewhere"], "integers"))

    path = changed(parent, tmp_path / "int8.onnx", add_integers)
    calibration = {"frames": {"kind": "unlabeled", "folder": "frames"}, "count": 8}
    keys = {"form": form} if form == "fp16" else {"form": form, "calibration": calibration}
    with pytest.raises(ModelFileError, match=r"int8\.onnx: expected a file in fp32 .* with quantised layers"):
        quantised_graph(path, network_inputs, QuantiseSettings.model_validate(keys))


def test_weights_that_fp16_cannot_hold_are_refused(parent: Path, tmp_path: Path) -> None:
    def enlarge(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name.endswith("classifier.weight"))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1e5), tensor.name))

    path = changed(parent, tmp_path / "large.onnx", enlarge)
    with pytest.raises(ModelFileError, match=r"large\.onnx: expected weights within fp16 \(up to 65504\)"):
        half_precision_graph(path)


def test_a_file_without_layers_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "HALF_FORM", replace(HALF_FORM, weighted=frozenset({"Gemm"})))

    words = r"student_plain\.onnx: expected layers to convert \(Gemm\), the file has none"
    with pytest.raises(ModelFileError, match=words):
        half_precision_graph(parent)
