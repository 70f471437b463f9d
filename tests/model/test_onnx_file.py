"""Tests which files `onnx_file` refuses before ONNX Runtime sees them. Each test writes a real file of that kind."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_student import write_tiny_student

from ros_kd_perception.model import onnx_file, protobuf
from ros_kd_perception.model.onnx_file import ModelFileError, check_model_bytes, read_model_file
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel


def test_field_numbers_are_those_of_onnx() -> None:
    def numbers(message: type, *names: str) -> tuple[int, ...]:
        return tuple(message.DESCRIPTOR.fields_by_name[name].number for name in names)  # type: ignore[attr-defined]

    file = onnx_file
    assert numbers(onnx.ModelProto, "graph", "metadata_props", "training_info", "functions") == (
        file.MODEL_GRAPH,
        file.MODEL_METADATA,
        file.MODEL_TRAINING,
        file.MODEL_FUNCTIONS,
    )
    assert numbers(onnx.GraphProto, "node", "initializer", "sparse_initializer") == (
        file.GRAPH_NODE,
        file.GRAPH_INITIALIZER,
        file.GRAPH_SPARSE_INITIALIZER,
    )
    assert numbers(onnx.GraphProto, "input", "output", "value_info") == file.GRAPH_VALUES
    assert numbers(onnx.NodeProto, "op_type", "attribute", "domain") == (
        file.NODE_OP_TYPE,
        file.NODE_ATTRIBUTE,
        file.NODE_DOMAIN,
    )
    assert numbers(onnx.AttributeProto, "t", "tensors", "g", "graphs", "sparse_tensor", "sparse_tensors") == (
        file.ATTRIBUTE_TENSOR,
        file.ATTRIBUTE_TENSORS,
        file.ATTRIBUTE_GRAPH,
        file.ATTRIBUTE_GRAPHS,
        file.ATTRIBUTE_SPARSE,
        file.ATTRIBUTE_SPARSES,
    )
    assert numbers(onnx.TensorProto, "dims", "data_type", "name", "external_data", "data_location") == (
        file.TENSOR_DIMS,
        file.TENSOR_DATA_TYPE,
        file.TENSOR_NAME,
        file.TENSOR_EXTERNAL_DATA,
        file.TENSOR_DATA_LOCATION,
    )
    assert file.FLOAT16 == TensorProto.FLOAT16
    payloads = ("float_data", "int32_data", "string_data", "int64_data", "raw_data", "double_data", "uint64_data")
    assert numbers(onnx.TensorProto, *payloads) == file.TENSOR_PAYLOADS
    tensor_type = onnx.TypeProto.Tensor
    assert (
        *numbers(onnx.ValueInfoProto, "type"),
        *numbers(onnx.TypeProto, "tensor_type"),
        *numbers(tensor_type, "shape"),
        *numbers(onnx.TensorShapeProto, "dim"),
        *numbers(onnx.TensorShapeProto.Dimension, "dim_value"),
    ) == (file.VALUE_TYPE, file.TYPE_TENSOR, file.TENSOR_TYPE_SHAPE, file.SHAPE_DIM, file.DIM_VALUE)


def test_the_shipped_student_and_the_tiny_student_pass(tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    file = read_model_file(path)
    assert file.content == path.read_bytes()
    assert file.metadata == {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert file.graph.sha256 == hashlib.sha256(onnx.load(path).graph.SerializeToString()).hexdigest()
    read_model_file(ROOT / "models" / "student.onnx")


def block_of(model: onnx.ModelProto) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == "block")


def make_external(tensor: TensorProto, location: str) -> None:
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize(
    "location", ["weights.bin", "/etc/hostname", "../weights.bin", "folder/../../weights.bin", "*/_ORT_MEM_ADDR_/*"]
)
@pytest.mark.parametrize("place", ["initializer", "constant"])
def test_weights_in_another_file_are_refused_even_if_that_file_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, place: str
) -> None:
    def change(model: onnx.ModelProto) -> None:
        block = block_of(model)
        (tmp_path / "weights.bin").write_bytes(block.raw_data)
        if place == "constant":
            moved = TensorProto()
            moved.CopyFrom(block)
            model.graph.initializer.remove(block)
            make_external(moved, location)
            model.graph.node.insert(0, helper.make_node("Constant", [], ["block"], value=moved))
        else:
            make_external(block, location)

    path = tmp_path / "external.onnx"
    write_tiny_student(path)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())  # onnx.save would load the external weights
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="expected every weight inside the file, found one that would be read"):
        OnnxModel.open(path, device="cpu")


def add_custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Evil", ["images"], ["x"], domain="com.evil"))
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def add_engine_of_another_file(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("EPContext", ["images"], ["x"], domain="com.microsoft", ep_cache_context="../../engine.bin")
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def add_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [], model.opset_import))


def add_training_step(model: onnx.ModelProto) -> None:
    model.training_info.add()


def add_sparse_weights(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([1 << 30])


def claim_huge_tensor(model: onnx.ModelProto) -> None:
    block_of(model).dims[:] = [1 << 20, 1 << 20, 4, 4]


def claim_overflowing_tensor(model: onnx.ModelProto) -> None:
    block_of(model).dims[:] = [1 << 31, 1 << 31, 4]


def claim_negative_axis(model: onnx.ModelProto) -> None:
    block_of(model).dims[:] = [-1, 3, 4, 4]


def declare_huge_value(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("big", TensorProto.FLOAT, [1 << 20, 1 << 20]))


def declare_huge_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40


def add_much_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="story", value="x" * (5 << 20))


def add_much_text(model: onnx.ModelProto) -> None:
    model.graph.doc_string = "x" * (40 << 20)


def add_many_nodes(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["images"], ["x"])
    model.graph.node.extend([node] * 20_001)


def _length(data: bytes) -> bytes:
    remaining, digits = len(data), bytearray()
    while True:
        remaining, digit = divmod(remaining, 128)
        digits.append(digit | (128 if remaining else 0))
        if not remaining:
            return bytes(digits)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add_custom_operator, "found 'Evil' of the domain 'com.evil'"),
        (add_engine_of_another_file, "found 'EPContext' of the domain 'com.microsoft'"),
        (add_loop, "a loop or branch"),
        (add_function, "functions defined in the file"),
        (add_training_step, "training steps"),
        (add_sparse_weights, "sparse"),
        (claim_huge_tensor, "the tensor 'block' to hold the data of its shape"),
        (claim_overflowing_tensor, "expected axes of under"),
        (claim_negative_axis, "expected axes of under"),
        (declare_huge_value, "one is declared with more"),
        (declare_huge_input, "one is declared with more"),
        (add_much_metadata, "expected metadata of at most"),
        (add_much_text, "bytes beside the weights"),
        (add_many_nodes, "at most 20000 nodes"),
    ],
)
def test_content_that_no_student_has_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], words: str
) -> None:
    path = tmp_path / "odd.onnx"
    write_tiny_student(path)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as error:
        OnnxModel.open(path, device="cpu")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_two_graphs_that_a_parser_would_merge_are_refused(tmp_path: Path) -> None:
    content = write_tiny_student(tmp_path / "tiny.onnx").read_bytes()
    with pytest.raises(ModelFileError, match="one graph, found 2"):
        check_model_bytes(content + content)


def test_two_tensors_that_a_parser_would_merge_are_refused() -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32)).SerializeToString()
    attribute = 2 * (b"\x2a" + _length(tensor) + tensor)
    node = b"\x22\x08Constant\x2a" + _length(attribute) + attribute
    graph = b"\x0a" + _length(node) + node
    with pytest.raises(ModelFileError, match="one tensor in an attribute, found 2"):
        check_model_bytes(b"\x3a" + _length(graph) + graph)


def test_a_file_of_many_tiny_fields_is_refused_quickly() -> None:
    graph = b"\x18\x00" * (protobuf.MAX_FIELDS + 1)
    with pytest.raises(ModelFileError, match="fields"):
        check_model_bytes(b"\x3a" + _length(graph) + graph)


def _packed_dims(count: int, *, tensors: int = 1) -> bytes:
    """Return a model whose tensors have `count` axes each, packed into one field."""
    dims = b"\x00" * count
    tensor = b"\x0a" + _length(dims) + dims
    graph = tensors * (b"\x2a" + _length(tensor) + tensor)
    return b"\x3a" + _length(graph) + graph


def test_a_tensor_with_too_many_axes_is_refused() -> None:
    check_model_bytes(_packed_dims(onnx_file.MAX_AXES))
    with pytest.raises(ModelFileError, match="at most 16 axes, found more"):
        check_model_bytes(_packed_dims(5_000_000))


def test_packed_numbers_count_as_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)
    with pytest.raises(ModelFileError, match="at most 1000 fields"):
        check_model_bytes(_packed_dims(10, tensors=90))  # 1 + 90 * (1 + 1 + 10)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_passes_or_is_refused_without_another_error(data: st.DataObject) -> None:
    content = bytearray(_TINY)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    with contextlib.suppress(ModelFileError):
        check_model_bytes(bytes(content))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_pass_or_are_refused(content: bytes) -> None:
    with contextlib.suppress(ModelFileError):
        check_model_bytes(content)


def _tiny_bytes() -> bytes:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.ones((1, 3, 2, 2), np.float32), "w")],
        )
    )
    return bytes(model.SerializeToString())


_TINY = _tiny_bytes()


def test_the_damaged_files_start_from_a_whole_one() -> None:
    check_model_bytes(_TINY)
