"""Makes 8-bit integers or fp16 of the layers of an exported file. The result is a graph, without a contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import onnx

from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.structures import UInt8Array
from training.quantization.forms import INTEGER_FORMS, IntegerForm
from training.quantization.half_precision import half_precision_graph
from training.quantization.image_input import read_pixels_directly
from training.quantization.layers import float_inputs_and_outputs, integer_nodes, layers_of
from training.quantization.onnx_quantizer import prepare, with_integers
from training.quantization.parent import read_parent
from training.quantization.ranges import TensorRange, measured_ranges
from training.quantization.settings import QuantiseSettings
from training.quantization.tensorrt_placement import free_fused_additions, shared_ranges
from training.quantization.tensorrt_rules import broken_rules
from training.quantization.upsampling import repeat_integers

PIXELS = TensorRange(0, 255)


def quantised_graph(
    parent: Path,
    images: Sequence[UInt8Array],
    settings: QuantiseSettings,
    *,
    excluded: Collection[str] = (),
    ranges: Mapping[str, TensorRange] | None = None,
) -> onnx.ModelProto:
    """Return the graph of a file with integers in its layers, or with fp16.

    Args:
        parent: An exported or adopted file in fp32.
        images: Calibration frames: network inputs, uint8 [H, W, 3], in the channel order of the contract. fp16 needs
            none.
        settings: Form and rule of the ranges.
        excluded: Names of layers that stay in fp32.
        ranges: Ranges that take the place of measured ones, by the names of tensors of the file.

    Raises:
        ModelFileError: The file cannot be read or quantised; the message names it.
    """
    if settings.form == "fp16":
        return half_precision_graph(parent)
    return Quantiser(parent, images, settings, ranges or {}).graph(excluded)


class Quantiser:
    """Holds a prepared file with the ranges of its activations, so that it can be quantised again and again.

    Attributes:
        contract: The contract of the file.
        sha256: Hex digest of the file.
        form: What becomes integers.
        layers: Names of the layers that can become integers, in the order of the graph.
    """

    def __init__(
        self,
        parent: Path,
        images: Sequence[UInt8Array],
        settings: QuantiseSettings,
        ranges: Mapping[str, TensorRange],
    ) -> None:
        """Read a file and measure ranges; see `quantised_graph`."""
        assert settings.calibration is not None
        self._path = parent
        self.form = INTEGER_FORMS[settings.form]
        graph, self.contract, self.sha256 = read_parent(parent)
        try:
            self._prepared = prepare(graph)
            self.layers = [node.name for node in layers_of(self._prepared.graph, self.form)]
            _check_layers(self.layers, self.form)
            activations = float_inputs_and_outputs(self._prepared.graph, integer_nodes(self._prepared.graph, self.form))
            unknown = sorted(set(ranges) - set(activations))
            if unknown:
                raise ModelFileError(
                    f"expected ranges of its activations, it has no {unknown[0]} (and {len(unknown) - 1} more); "
                    "quantise the file that was exported from the network that learned them"
                )
            known = _pixels(self._prepared.graph) | dict(ranges)
            missing = [name for name in activations if name not in known]
            found = measured_ranges(self._prepared, missing, images, settings.calibration) | known
            self.ranges = shared_ranges(self._prepared.graph, found) if self.form.at_inputs else found
        except ModelFileError as error:
            raise ModelFileError(f"{parent}: {error}") from None

    @property
    def fp32(self) -> onnx.ModelProto:
        """The file in fp32, with folded normalisations. Do not change it."""
        return self._prepared

    def graph(self, excluded: Collection[str] = ()) -> onnx.ModelProto:
        """Return the graph with integers in all layers but some, as it is written into a file.

        Raises:
            ModelFileError: The quantiser cannot handle an operator, or no such layer exists.
        """
        graph = self.rounded(excluded)
        if not self.form.at_inputs:
            repeat_integers(graph)
            read_pixels_directly(graph)
        return graph

    def rounded(self, excluded: Collection[str] = ()) -> onnx.ModelProto:
        """Return what `graph` does, but with each layer as it was: the same values, by slower operators.

        Raises:
            ModelFileError: See `graph`.
        """
        try:
            if strange := sorted(set(excluded) - set(self.layers)):
                raise ModelFileError(f"expected names of its layers to leave in fp32, it has no {strange[0]}")
            nodes = {node.name for node in integer_nodes(self._prepared.graph, self.form, excluded)}
            graph = with_integers(self._prepared, nodes, self.form, self.ranges)
            return _fused_by_tensorrt(graph, self.form) if self.form.at_inputs else graph
        except ModelFileError as error:
            raise ModelFileError(f"{self._path}: {error}") from None


def _fused_by_tensorrt(graph: onnx.ModelProto, form: IntegerForm) -> onnx.ModelProto:
    free_fused_additions(graph, form)
    broken = broken_rules(graph)
    if broken:
        raise ModelFileError(
            f"expected a network whose layers TensorRT can fuse, but {broken[0]} (and {len(broken) - 1} more); leave "
            "the layer out, or quantise in the form cpu"
        )
    return graph


def _pixels(graph: onnx.GraphProto) -> dict[str, TensorRange]:
    """Return the ranges of values that are pixels, as numbers with a point. With 0..255, no pixel is rounded."""
    pixels = {value.name for value in graph.input}
    found: dict[str, TensorRange] = {}
    for node in graph.node:
        if node.op_type in ("Cast", "Transpose", "Reshape") and node.input[0] in pixels:
            pixels.update(node.output)
            found.update(dict.fromkeys(node.output, PIXELS))
    return found


def _check_layers(layers: Sequence[str], form: IntegerForm) -> None:
    if not layers:
        raise ModelFileError(
            f"expected layers with constant weights to quantise ({', '.join(sorted(form.weighted))}), the file has "
            "none; nothing would be gained"
        )
