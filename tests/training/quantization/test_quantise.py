"""Test the quantiser: which nodes become integers, what stays in fp32, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_student import contract_with, write_tiny_model

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.contract import CONTRACT_KEY, InputSpec, ModelContract
from ros_kd_perception.model.network_outputs import NetworkOutputs
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.export.derived_file import derived_contract, derived_section, write_derived_file
from training.quantization.quantise import Quantiser, quantised_graph
from training.quantization.ranges import TensorRange
from training.quantization.settings import QuantiseSettings


def settings(**calibration: object) -> QuantiseSettings:
    frames = {"kind": "unlabeled", "folder": "frames"}
    return QuantiseSettings.model_validate({"calibration": {"frames": frames, "count": 8, **calibration}})


@pytest.fixture(scope="module")
def quantiser(parent: Path, network_inputs: list[UInt8Array]) -> Quantiser:
    return Quantiser(parent, network_inputs, settings(), {})


def readers_of(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if name in node.input]


def writer_of(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def runs_in_integers(graph: onnx.GraphProto, layer: str) -> bool:
    node = next(node for node in graph.node if node.name == layer)
    sources = [writer_of(graph, name) for name in node.input[:2]]
    return all(source is not None and source.op_type == "DequantizeLinear" for source in sources)


def test_every_layer_reads_unsigned_activations_and_signed_weights_of_each_channel(quantiser: Quantiser) -> None:
    graph = quantiser.graph().graph

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert len(quantiser.layers) > 20
    for layer in quantiser.layers:
        assert runs_in_integers(graph, layer)
        node = next(node for node in graph.node if node.name == layer)
        activation, weight = (writer_of(graph, name) for name in node.input[:2])
        assert activation is not None
        assert weight is not None
        assert constants[activation.input[2]].dtype == np.uint8
        values, scales = constants[weight.input[0]], constants[weight.input[1]]
        assert values.dtype == np.int8
        assert scales.shape == (values.shape[0],)


def test_what_decodes_boxes_and_classes_stays_in_fp32(quantiser: Quantiser) -> None:
    graph = quantiser.graph().graph

    after = {"ArgMax", "TopK", "Sigmoid", "Softplus", "LogSoftmax", "GatherElements", "ReduceMax", "Less", "Where"}
    before = Counter(node.op_type for node in quantiser.fp32.graph.node)
    assert before["ArgMax"] == 2
    for node in graph.node:
        if node.op_type in after or (node.op_type == "MaxPool" and any("where" in n for n in node.output)):
            assert not [r for name in node.output for r in readers_of(graph, name) if r.op_type == "QuantizeLinear"]


def test_pixels_are_not_rounded(quantiser: Quantiser) -> None:
    (cast,) = (node for node in quantiser.fp32.graph.node if node.op_type == "Cast" and node.output[0] == "_to_copy")

    assert quantiser.ranges[cast.output[0]] == TensorRange(0, 255)


def test_the_file_runs_and_agrees_with_its_parent(
    parent: Path, quantiser: Quantiser, network_inputs: list[UInt8Array], tmp_path: Path
) -> None:
    output = tmp_path / "student_int8.onnx"
    section = derived_section(quantiser.sha256, parent.name, ["int8 for CPUs"], "ab" * 32)
    write_derived_file(
        quantiser.graph(), output, derived_contract(quantiser.contract, "int8", section), network_inputs[:2]
    )

    fp32, int8 = (OnnxModel.open(path, device="cpu") for path in (parent, output))
    assert int8.contract.precision == "int8"
    assert int8.contract.derived["from_sha256"] == fp32.sha256
    assert int8.contract.segmentation_classes == fp32.contract.segmentation_classes
    found, expected = (model.run(np.stack(network_inputs)) for model in (int8, fp32))
    assert 0.98 < np.mean(found.class_map == expected.class_map) < 1
    # Object by object: by rank, one more box in one of the files would shift all scores after it.
    ties = [
        max(neighbours(found, expected, frame), neighbours(expected, found, frame))
        for frame in range(len(network_inputs))
    ]
    assert sum(ties) <= 1
    assert output.stat().st_size < 0.5 * parent.stat().st_size


def neighbours(boxes: NetworkOutputs, others: NetworkOutputs, frame: int) -> int:
    """Each box with a score of 0.3 has one of its class, place and score, up to 0.1, among the others.

    Returns how many have that of a neighbouring cell instead: where two cells are a tie, either may report the object.
    """
    sure = boxes.scores[frame] >= 0.3
    assert sure.any()
    overlap = iou_xyxy(boxes.boxes_xyxy[frame][sure], others.boxes_xyxy[frame])
    off = np.abs(boxes.scores[frame][sure][:, None] - others.scores[frame])
    alike = (boxes.labels[frame][sure][:, None] == others.labels[frame]) & (off < 0.1)
    assert (alike & (overlap > 0.5)).any(axis=1).all()
    return int((~(alike & (overlap > 0.6)).any(axis=1)).sum())


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_rules_give_narrower_ranges(
    parent: Path, quantiser: Quantiser, network_inputs: list[UInt8Array], method: str
) -> None:
    other = Quantiser(parent, network_inputs[:1], settings(method=method, percentile=99), {})

    assert other.ranges.keys() == quantiser.ranges.keys()
    slack = 1e-4
    for name, span in other.ranges.items():
        assert span.lowest >= quantiser.ranges[name].lowest - slack
        assert span.highest <= quantiser.ranges[name].highest + slack
    assert sum(span.highest for span in other.ranges.values()) < sum(s.highest for s in quantiser.ranges.values())


def test_layers_that_are_left_out_keep_their_weights(quantiser: Quantiser) -> None:
    kept = quantiser.layers[3]
    graph = quantiser.graph([kept]).graph

    assert not runs_in_integers(graph, kept)
    assert all(runs_in_integers(graph, layer) for layer in quantiser.layers if layer != kept)
    node = next(node for node in graph.node if node.name == kept)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    assert weights[node.input[1]].data_type == TensorProto.FLOAT


def test_given_ranges_take_the_place_of_measured_ones(
    parent: Path, quantiser: Quantiser, network_inputs: list[UInt8Array]
) -> None:
    name = next(n.output[0] for n in quantiser.fp32.graph.node if n.op_type == "Relu")
    graph = quantised_graph(parent, network_inputs, settings(), ranges={name: TensorRange(0, 25.5)}).graph
    first = quantiser.layers[0]

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # The Relu is gone, because an unsigned integer with its zero at the lowest value clips like it does.
    (output,) = next(node.output for node in graph.node if node.name == first)
    (quantise,) = readers_of(graph, output)
    assert quantise.op_type == "QuantizeLinear"
    assert constants[quantise.input[1]] == pytest.approx(0.1)
    assert constants[quantise.input[2]] == 0


def test_ranges_of_tensors_that_the_file_lacks_are_refused(parent: Path, network_inputs: list[UInt8Array]) -> None:
    with pytest.raises(ModelFileError, match=r"student_plain\.onnx: .*it has no elsewhere"):
        quantised_graph(parent, network_inputs, settings(), ranges={"elsewhere": TensorRange(0, 1)})


def test_a_layer_that_the_file_lacks_is_refused(quantiser: Quantiser) -> None:
    with pytest.raises(ModelFileError, match=r"student_plain\.onnx: .*it has no elsewhere"):
        quantiser.graph(["elsewhere"])


def test_a_quantised_parent_is_refused(
    parent: Path, quantiser: Quantiser, network_inputs: list[UInt8Array], tmp_path: Path
) -> None:
    output = tmp_path / "student_int8.onnx"
    write_derived_file(quantiser.graph(), output, derived_contract(quantiser.contract, "int8", {}), network_inputs[:1])

    with pytest.raises(ModelFileError, match=r"student_int8\.onnx: expected a file in fp32 .* int8"):
        quantised_graph(output, network_inputs, settings())


def test_a_file_without_a_contract_is_refused(parent: Path, network_inputs: list[UInt8Array], tmp_path: Path) -> None:
    model = onnx.load(parent)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")

    with pytest.raises(ModelFileError, match=r"bare\.onnx: .*no contract; export or adopt it first"):
        quantised_graph(tmp_path / "bare.onnx", network_inputs, settings())


def test_weights_in_another_file_are_refused(parent: Path, network_inputs: list[UInt8Array], tmp_path: Path) -> None:
    path = tmp_path / "outside.onnx"
    onnx.save(onnx.load(parent), path, save_as_external_data=True, location="weights.bin", size_threshold=0)

    with pytest.raises(ModelFileError, match=r"outside\.onnx: expected every weight inside the file"):
        quantised_graph(path, network_inputs, settings())


def test_a_file_without_layers_is_refused(network_inputs: list[UInt8Array], tmp_path: Path) -> None:
    def replace_the_convolution(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.op_type == "Conv")
        stride = list(next(a.ints for a in node.attribute if a.name == "strides"))
        pool = helper.make_node("AveragePool", ["float_images"], ["means"], kernel_shape=stride, strides=stride)
        index = list(model.graph.node).index(node)
        model.graph.node[index].CopyFrom(pool)
        first = numpy_helper.from_array(np.array([0], np.int64), "first")
        model.graph.initializer.append(first)
        model.graph.node.insert(index + 1, helper.make_node("Gather", ["means", "first"], ["cells"], axis=1))

    path = write_tiny_model(tmp_path / "tiny.onnx", contract_with(), replace_the_convolution)
    with pytest.raises(ModelFileError, match=r"tiny\.onnx: expected layers with constant weights .* the file has none"):
        quantised_graph(path, network_inputs, settings())


def test_an_operator_that_nobody_knows_is_named(parent: Path, network_inputs: list[UInt8Array], tmp_path: Path) -> None:
    model = onnx.load(parent)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Unheard"
    onnx.save(model, tmp_path / "unheard.onnx")

    with pytest.raises(ModelFileError, match=r"unheard\.onnx: .*Unheard"):
        quantised_graph(tmp_path / "unheard.onnx", network_inputs, settings())


def test_a_network_that_runs_one_frame_at_once(network_inputs: list[UInt8Array], tmp_path: Path) -> None:
    contract = contract_with(input=InputSpec(64, 96, resize="stretch", batch=1))
    path = write_tiny_model(tmp_path / "one.onnx", contract)
    images = [np.ascontiguousarray(image[:64, :96]) for image in network_inputs]

    graph = quantised_graph(path, images, settings())
    written = tmp_path / "one_int8.onnx"
    write_derived_file(graph, written, derived_contract(contract, "int8", {}), images[:1])

    metadata = {entry.key: entry.value for entry in onnx.load(written).metadata_props}
    assert ModelContract.from_json(metadata[CONTRACT_KEY]).input == contract.input
    assert any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
