"""Break each rule of explicit quantisation in TensorRT once, on a graph that keeps all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.export.derived_file import derived_contract, write_derived_file
from training.quantization import quantise
from training.quantization.quantise import Quantiser
from training.quantization.ranges import TensorRange
from training.quantization.settings import QuantiseSettings
from training.quantization.tensorrt_placement import shared_ranges
from training.quantization.tensorrt_rules import broken_rules
from training.quantization.wiring import Wiring

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def quantiser(parent: Path, network_inputs: list[UInt8Array]) -> Quantiser:
    calibration = {"frames": {"kind": "unlabeled", "folder": "frames"}, "count": 8}
    settings = QuantiseSettings.model_validate({"form": "tensorrt", "calibration": calibration})
    return Quantiser(parent, network_inputs, settings, {})


@pytest.fixture(scope="module")
def kept(quantiser: Quantiser) -> onnx.ModelProto:
    """A graph that keeps all rules."""
    return quantiser.graph()


@pytest.fixture
def graph(kept: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of it, to be changed."""
    copied = onnx.ModelProto()
    copied.CopyFrom(kept)
    return copied


def first(model: onnx.ModelProto, operator: str, reads: str = "") -> onnx.NodeProto:
    wiring = Wiring.of(model.graph)
    return next(
        node
        for node in model.graph.node
        if node.op_type == operator
        and (not reads or reads in {w.op_type for n in node.input if (w := wiring.writers.get(n)) is not None})
    )


def set_constant(model: onnx.ModelProto, name: str, values: object, dtype: type[np.generic]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.array(values, dtype), name))


def own_constant(model: onnx.ModelProto, node: onnx.NodeProto, index: int, values: object) -> None:
    """Give one node a constant that no other node reads."""
    dtype = np.int8 if index == 2 else np.float32
    name = f"{node.name}_own_{index}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
    node.input[index] = name


def insert_pair(model: onnx.ModelProto, name: str, reader: onnx.NodeProto) -> None:
    """Make a reader of a tensor read it through QuantizeLinear and DequantizeLinear."""
    scale, zero = (numpy_helper.from_array(v, n) for v, n in ((np.float32(0.1), "new_scale"), (np.int8(0), "new_zero")))
    model.graph.initializer.extend([scale, zero])
    slot = list(reader.input).index(name)
    reader.input[slot] = "new_dequantised"
    place = list(model.graph.node).index(reader)
    pair = [
        helper.make_node("QuantizeLinear", [name, "new_scale", "new_zero"], ["new_quantised"], "new_q"),
        helper.make_node("DequantizeLinear", ["new_quantised", "new_scale", "new_zero"], ["new_dequantised"], "new_dq"),
    ]
    for node in reversed(pair):
        model.graph.node.insert(place, node)


def without_pair(model: onnx.ModelProto, reader: onnx.NodeProto, slot: int) -> None:
    pair = Wiring.of(model.graph).pair(reader.input[slot])
    assert pair is not None
    reader.input[slot] = pair.input[0]


def activation_pair(model: onnx.ModelProto) -> onnx.NodeProto:
    return first(model, "QuantizeLinear", reads="Relu")


def weight_pair(model: onnx.ModelProto) -> onnx.NodeProto:
    constants = {tensor.name for tensor in model.graph.initializer}
    return next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants)


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12


def unsigned(model: onnx.ModelProto) -> None:
    set_constant(model, activation_pair(model).input[2], 0, np.uint8)


def without_type(model: onnx.ModelProto) -> None:
    del activation_pair(model).input[2]


def off_centre(model: onnx.ModelProto) -> None:
    set_constant(model, activation_pair(model).input[2], 3, np.int8)


def no_scale(model: onnx.ModelProto) -> None:
    set_constant(model, activation_pair(model).input[1], 0, np.float32)


def scales_of_activations(model: onnx.ModelProto) -> None:
    set_constant(model, activation_pair(model).input[1], [0.1, 0.2], np.float32)


def scales_of_inputs(model: onnx.ModelProto) -> None:
    axis = next(attribute for attribute in weight_pair(model).attribute if attribute.name == "axis")
    axis.i = 1


def integer_operator(model: onnx.ModelProto) -> None:
    first(model, "Relu").op_type = "ConvInteger"


def integers_for_another(model: onnx.ModelProto) -> None:
    first(model, "Relu").input[0] = activation_pair(model).output[0]


def float_input(model: onnx.ModelProto) -> None:
    without_pair(model, first(model, "Conv"), 0)


def integer_bias(model: onnx.ModelProto) -> None:
    layer = first(model, "Conv")
    channels = next(t.dims[0] for t in model.graph.initializer if t.name == layer.input[2])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(channels, np.int32), "bias_integers"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "bias_scale"))
    node = helper.make_node("DequantizeLinear", ["bias_integers", "bias_scale"], ["bias_floats"], "bias_dq")
    model.graph.node.insert(0, node)
    layer.input[2] = "bias_floats"


def before_the_activation(model: onnx.ModelProto) -> None:
    relu = first(model, "Relu", reads="Conv")
    insert_pair(model, relu.input[0], relu)


def before_the_addition(model: onnx.ModelProto) -> None:
    addition = first(model, "Add", reads="DequantizeLinear")
    wiring = Wiring.of(model.graph)
    insert_pair(model, next(n for n in addition.input if wiring.writers[n].op_type == "Conv"), addition)


def float_addition(model: onnx.ModelProto) -> None:
    addition = first(model, "Add", reads="DequantizeLinear")
    wiring = Wiring.of(model.graph)
    without_pair(model, addition, next(s for s, n in enumerate(addition.input) if wiring.pair(n) is not None))


def floats_beside_integers(model: onnx.ModelProto) -> None:
    without_pair(model, first(model, "Concat", reads="DequantizeLinear"), 1)


def different_scales(model: onnx.ModelProto) -> None:
    pair = Wiring.of(model.graph).pair(first(model, "Concat", reads="DequantizeLinear").input[1])
    assert pair is not None
    own_constant(model, pair, 1, 0.5)


def behind_the_last_layer(model: onnx.ModelProto) -> None:
    best = next(node for node in model.graph.node if node.op_type == "ArgMax")
    insert_pair(model, best.input[0], best)


def quantised_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["scores"], ["scores_again"], "again"))
    insert_pair(model, "scores", model.graph.node[-1])
    model.graph.output.append(helper.make_tensor_value_info("new_dequantised", TensorProto.FLOAT, None))


BREAKS: list[tuple[Change, str]] = [
    (old_opset, "the opset is 12"),
    (unsigned, "has the type uint8: TensorRT reads int8 alone"),
    (without_type, "has no stated type"),
    (off_centre, "has the zero point 3"),
    (no_scale, "has no constant scale above 0"),
    (scales_of_activations, "has 2 scales: TensorRT has one for an activation"),
    (scales_of_inputs, "has scales along axis 1"),
    (integer_operator, "is a ConvInteger"),
    (integers_for_another, "is not read by DequantizeLinear alone"),
    (float_input, "/Conv has integer weights and a float input"),
    (integer_bias, "/Conv has a quantised bias"),
    (before_the_activation, "/Conv and its activation"),
    (before_the_addition, "cannot add inside of the layer"),
    (float_addition, "reads two float inputs"),
    (floats_beside_integers, "/Concat reads floats beside integers"),
    (different_scales, "/Concat has different scales before and behind"),
    (behind_the_last_layer, "new_q leads to no layer with integer weights"),
    (quantised_output, "the output new_dequantised comes from a DequantizeLinear"),
]


@pytest.mark.parametrize(("change", "sentence"), BREAKS, ids=[change.__name__ for change, _ in BREAKS])
def test_each_rule_is_seen_to_be_broken(graph: onnx.ModelProto, change: Change, sentence: str) -> None:
    change(graph)

    assert any(sentence in broken for broken in broken_rules(graph)), broken_rules(graph)


def test_the_form_tensorrt_keeps_all_rules(kept: onnx.ModelProto, quantiser: Quantiser) -> None:
    assert not broken_rules(kept)
    onnx.checker.check_model(kept, full_check=True)
    wiring = Wiring.of(kept.graph)
    layers = [node for node in wiring.nodes if node.name in quantiser.layers]
    assert all(wiring.pair(layer.input[0]) is not None and wiring.pair(layer.input[1]) is not None for layer in layers)
    additions = [node for node in wiring.nodes if node.op_type == "Add" and any(map(wiring.pair, node.input))]
    assert len(additions) == 3
    for node in additions:
        assert sorted(wiring.writers[name].op_type for name in node.input) == ["Conv", "DequantizeLinear"]


def test_layers_that_are_left_out_break_no_rule(quantiser: Quantiser) -> None:
    for layer in (quantiser.layers[0], quantiser.layers[14], quantiser.layers[-1]):
        assert not broken_rules(quantiser.graph([layer]))


def test_the_file_runs_on_a_cpu_and_agrees_with_its_parent(
    parent: Path, quantiser: Quantiser, kept: onnx.ModelProto, network_inputs: list[UInt8Array], tmp_path: Path
) -> None:
    output = tmp_path / "student_tensorrt.onnx"
    written = onnx.ModelProto()
    written.CopyFrom(kept)
    write_derived_file(written, output, derived_contract(quantiser.contract, "int8", {}), network_inputs[:2])

    fp32, int8 = (OnnxModel.open(path, device="cpu").run(np.stack(network_inputs)) for path in (parent, output))
    assert 0.98 < np.mean(int8.class_map == fp32.class_map) < 1


def test_a_graph_that_tensorrt_cannot_fuse_is_refused(quantiser: Quantiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "free_fused_additions", lambda graph, form: None)

    with pytest.raises(ModelFileError, match=r"student_plain\.onnx: .*cannot add inside of the layer \(and 2 more\)"):
        quantiser.graph()


def test_tensors_that_are_joined_share_their_range() -> None:
    nodes = [
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[3, 3]),
        helper.make_node("Concat", ["a", "b", "c"], ["d"], axis=1),
        helper.make_node("Relu", ["e"], ["f"]),
    ]
    graph = helper.make_graph(nodes, "joined", [], [])
    ranges = {name: TensorRange(0, place) for place, name in enumerate("abcdef")}

    found = shared_ranges(graph, ranges)
    assert {name: found[name].highest for name in "abcd"} == dict.fromkeys("abcd", 3)
    assert (found["e"].highest, found["f"].highest) == (4, 5)


def test_of_two_convolutions_the_later_one_adds(quantiser: Quantiser, kept: onnx.ModelProto) -> None:
    wiring = Wiring.of(kept.graph)
    for node in wiring.nodes:
        if node.op_type == "Add" and any(map(wiring.pair, node.input)):
            direct = [name for name in node.input if wiring.pair(name) is None]
            assert len(direct) == 1
