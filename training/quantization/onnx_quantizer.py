"""Calls the quantiser of ONNX Runtime. No other module imports it.

It imports onnxruntime itself, so the telemetry must be off by then: `model.onnx_runtime` comes first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ros_kd_perception.model.execution_provider import first_line

# isort: split
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    TensorData,
    TensorsData,
    quant_pre_process,
    quantize_static,
    save_tensors_data,
)

from ros_kd_perception.model.onnx_file import ModelFileError
from training.quantization.forms import IntegerForm
from training.quantization.ranges import TensorRange

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
FUSED_ACTIVATIONS = frozenset({"Clip", "Relu"})
STANDARD_DOMAINS = ("", "ai.onnx")


def prepare(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with folded normalisations and constants, with a name for each node and a shape for each tensor.

    Raises:
        ModelFileError: ONNX Runtime cannot read the graph, or has no newer form of one of its operators.
    """
    with _errors_that_name_operators(graph), tempfile.TemporaryDirectory() as folder:
        # Paths, because a model that is passed as it is has its weights moved to a file beside it.
        source, path = Path(folder) / "source.onnx", Path(folder) / "prepared.onnx"
        onnx.save(graph, source)
        quant_pre_process(source, path, skip_symbolic_shape=True)
        prepared = onnx.load(path)
    # ONNX Runtime writes all domains that it knows. A file with an unknown domain is refused elsewhere.
    used = {node.domain for node in prepared.graph.node}
    imports = [entry for entry in prepared.opset_import if entry.domain in STANDARD_DOMAINS or entry.domain in used]
    del prepared.opset_import[:]
    prepared.opset_import.extend(imports)
    _name_nodes(prepared.graph)
    return prepared


def with_integers(
    prepared: onnx.ModelProto, nodes: Collection[str], form: IntegerForm, ranges: Mapping[str, TensorRange]
) -> onnx.ModelProto:
    """Return a graph in which some nodes read and write integers.

    Args:
        prepared: A graph of `prepare`.
        nodes: Names of the nodes.
        form: Types of the integers.
        ranges: The range of each activation that these nodes read or write.

    Raises:
        ModelFileError: The quantiser cannot handle an operator.
    """
    with _errors_that_name_operators(prepared), tempfile.TemporaryDirectory() as folder:
        source, path, cache = (Path(folder) / name for name in ("source.onnx", "integers.onnx", "ranges.json"))
        onnx.save(prepared, source)
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, _tensor_data(ranges)), cache)
        quantize_static(
            source,
            path,
            calibration_cache_path=cache,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_operators(form),
            nodes_to_quantize=sorted(nodes),
            per_channel=form.per_channel,
            activation_type=_TYPES[form.activations],
            weight_type=_TYPES[form.weights],
            extra_options=_options(form),
        )
        quantised = onnx.load(path)
    quantised.ir_version = prepared.ir_version
    return quantised


def _operators(form: IntegerForm) -> list[str]:
    """Return the operators that get integers. An activation function that is fused with its layer needs none."""
    fused = FUSED_ACTIVATIONS if form.at_inputs else frozenset()
    return sorted((form.weighted | form.between) - fused)


def _options(form: IntegerForm) -> dict[str, Any]:
    options: dict[str, Any] = {"ActivationSymmetric": form.symmetric_activations, "WeightSymmetric": True}
    if form.at_inputs:
        options |= {"OpTypesToExcludeOutputQuantization": _operators(form)}
        options |= {"AddQDQPairToWeight": True, "QuantizeBias": False}
    return options


def _tensor_data(ranges: Mapping[str, TensorRange]) -> dict[str, TensorData]:
    return {
        name: TensorData(lowest=np.array(span.lowest, np.float32), highest=np.array(span.highest, np.float32))
        for name, span in ranges.items()
    }


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node without a name, or with that of another one, a name of its own."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        while node.name in taken:
            node.name += "_"
        taken.add(node.name)


@contextlib.contextmanager
def _errors_that_name_operators(graph: onnx.ModelProto) -> Iterator[None]:
    """Turn the errors of the quantiser, which have no common class, into one sentence. Keep what it prints back."""
    operators = sorted({node.op_type for node in graph.graph.node}, key=len, reverse=True)
    level = logging.root.level
    logging.root.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except Exception as error:
        named = next((name for name in operators if name in str(error)), "")
        culprit = f" (the operator {named})" if named else ""
        raise ModelFileError(
            f"expected a network that ONNX Runtime quantises, got{culprit}: {first_line(error)}; leave its layer out, "
            "or export the network with a newer opset"
        ) from None
    finally:
        logging.root.setLevel(level)
