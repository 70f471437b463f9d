"""Network: a foreign graph with a fixed input size, ready to have ours built around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnx.version_converter

from ros_kd_perception.model.execution_provider import ProviderError, SessionRequest, open_session
from ros_kd_perception.model.onnx_file import ModelFileError, check_model_bytes
from training.foreign.description import InputDescription
from training.foreign.foreign_file import ForeignFile, TensorInfo, shape_text

Batch = Literal["dynamic", 1]
OPSET_MIN = 18
BATCH_AXIS = "N"
PREFIX = "foreign/"
IMAGE_TYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True)
class Output:
    """An output, as it was for one frame.

    Attributes:
        name: The name in the file.
        dtype: The type of the values.
        shape: The size of each axis.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """A foreign graph whose input has a fixed size.

    Attributes:
        file: The file that it comes from.
        model: The graph; the name of every value begins with `foreign/`.
        input_name: Name of the input in `model`.
        input_dtype: Type of the input.
        height, width: Size of the input in pixels.
        batch: Whether it takes one frame or any number of them.
        outputs: The outputs by the names that they have in the file, with the shapes that one frame gave.
    """

    file: ForeignFile
    model: onnx.ModelProto
    input_name: str
    input_dtype: np.dtype[Any]
    height: int
    width: int
    batch: Batch
    outputs: Mapping[str, Output]

    @classmethod
    def of(cls, file: ForeignFile, description: InputDescription, batch: Batch) -> Network:
        """Fix the size of the input, run the graph once and note the shapes of its outputs.

        Raises:
            ModelFileError: The input is not as described; the graph holds what no contract file may have; or it does
                not run.
        """
        source, (height, width) = _input_of(file, description), _size_of(file, description)
        sides = (3, height, width) if description.layout == "nchw" else (height, width, 3)
        shape = (BATCH_AXIS if batch == "dynamic" else 1, *sides)
        model = _simplified(file, _with_input_shape(file.model, source.name, shape))
        outputs = _output_shapes(file, model, source, (1, *sides))
        prefixed = onnx.compose.add_prefix(model, PREFIX)
        assert source.dtype is not None
        return cls(file, prefixed, PREFIX + source.name, source.dtype, height, width, batch, outputs)

    def output(self, name: str, key: str) -> Output:
        """Return an output by the name in the file; the only one for an empty name.

        Raises:
            ModelFileError: There is no such output, or there are several and none is named.
        """
        if not name and len(self.outputs) == 1:
            return next(iter(self.outputs.values()))
        if name not in self.outputs:
            missing = f"an output {name!r}" if name else "one output"
            raise self.file.error(f"{missing} as {key} of the description", f"correct {key}")
        return self.outputs[name]

    def error(self, output: Output, expected: str, remedy: str) -> ModelFileError:
        """Return an error about the shape of an output."""
        return ModelFileError(
            f"{self.file.path}: expected the output {output.name} to have {expected}, got "
            f"{output.dtype} {shape_text(output.shape)}; {remedy}"
        )


def _input_of(file: ForeignFile, description: InputDescription) -> TensorInfo:
    if description.name:
        found = [value for value in file.inputs.values() if value.name == description.name]
    else:
        found = list(file.inputs.values())
    if not found or len(file.inputs) != 1:
        name = f"one input {description.name!r}" if description.name else "one input with images"
        raise file.error(name, "correct input.name, or export the network without other inputs")
    source = found[0]
    if str(source.dtype) not in IMAGE_TYPES:
        raise file.error(f"images of {', '.join(IMAGE_TYPES)}", "export the network with one of these types")
    if str(source.dtype) == "uint8" and description.is_normalized:
        raise file.error(
            "an input of float values, which are normalised",
            "remove divide, mean and std: a uint8 input takes pixel values as they are",
        )
    return source


def _size_of(file: ForeignFile, description: InputDescription) -> tuple[int, int]:
    """Return the height and width of the input, from the file or the description."""
    source = _input_of(file, description)
    shape = source.shape or (None,) * 4
    channels, rows, columns = (1, 2, 3) if description.layout == "nchw" else (3, 1, 2)
    if len(shape) != 4 or shape[channels] not in (3, None) or shape[0] not in (1, None):
        axes = "[1, 3, H, W]" if description.layout == "nchw" else "[1, H, W, 3]"
        raise file.error(
            f"an input {axes} for the layout {description.layout}",
            "correct input.layout, or export the network with a batch of 1 and three colour channels",
        )
    sizes = []
    for key, fixed, asked in (
        ("height", shape[rows], description.height),
        ("width", shape[columns], description.width),
    ):
        size = fixed or asked
        if size is None:
            raise file.error(f"a fixed {key} of the input", f"write input.{key} into the description")
        if asked not in (None, size):
            raise file.error(f"an input with a {key} of {asked} as described", f"remove input.{key}")
        sizes.append(size)
    return sizes[0], sizes[1]


def _with_input_shape(model: onnx.ModelProto, name: str, shape: tuple[int | str, ...]) -> onnx.ModelProto:
    """Return a copy with a new shape of the input, without the shapes of values that followed from the old one."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]  # files of old versions list weights, too
    del graph.input[:], graph.value_info[:], changed.metadata_props[:]
    graph.input.extend(kept)
    for value in graph.input:
        if value.name == name:
            dtype = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(name, dtype, shape))
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    return changed


def _simplified(file: ForeignFile, model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a graph to our version of the operators and compute what does not depend on the input."""
    try:
        if _opset(model) < OPSET_MIN:
            model = onnx.version_converter.convert_version(model, OPSET_MIN)
        model = _folded(onnx.shape_inference.infer_shapes(model, data_prop=True))
    except Exception as error:  # neither has a base class for its errors
        raise ModelFileError(
            f"{file.path}: expected operators that can be converted to version {OPSET_MIN} of ONNX, got: "
            f"{' '.join(str(error).split())[:200]}; export the network again with opset {OPSET_MIN}"
        ) from None
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    _remove_notes(model)
    try:
        check_model_bytes(model.SerializeToString())
    except ModelFileError as error:
        finding = str(error).partition(";")[0]
        raise ModelFileError(
            f"{file.path}: {finding}; export the network again with a fixed input size and standard operators alone"
        ) from None
    return model


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    # ONNX Runtime does this too when it opens a file, but the vehicle turns it off: nothing limits its memory there.
    from onnxscript import optimizer

    folded: onnx.ModelProto = optimizer.optimize(model)
    return folded


def _remove_notes(model: onnx.ModelProto) -> None:
    """Remove what exporters note beside the graph, such as the paths of source files."""
    model.ClearField("doc_string")
    for item in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _output_shapes(
    file: ForeignFile, model: onnx.ModelProto, source: TensorInfo, shape: tuple[int, int, int, int]
) -> dict[str, Output]:
    """Return the outputs with the shapes that one frame has."""
    try:
        content = model.SerializeToString()
        session, _ = open_session(SessionRequest(content, file.sha256, "cpu", "auto", "fp32", shape[1:]))
        arrays = session.run(None, {source.name: np.zeros(shape, source.dtype)})
    except Exception as error:  # ONNX Runtime has a class for each status
        text = str(error) if isinstance(error, ProviderError) else " ".join(str(error).split())[:300]
        raise ModelFileError(
            f"{file.path}: expected the network to run on one frame of {shape_text(shape)}, got: {text}; correct "
            "input.height and input.width, or export the network again"
        ) from None
    names = [value.name for value in model.graph.output]
    return {name: Output(name, array.dtype, array.shape) for name, array in zip(names, arrays, strict=True)}
