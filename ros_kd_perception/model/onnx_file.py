"""Reads an ONNX file and refuses unsafe content before ONNX Runtime sees it.

ONNX Runtime opens the external-data paths of a model relative to the working directory, even if the model was passed as
bytes (measured on 1.31.1: it read a file there). It allocates any size that a tensor declares and unrolls loops and
functions as often as they say. This module therefore walks the protobuf itself (`protobuf`), with a bounded number of
fields and at most six levels of nesting. It refuses everything that could read another file, run code or grow without
limit. It accepts what `python -m training export` and `adopt` write: one flat graph of standard operators, its weights
inside.

The field numbers are from onnx/onnx.proto. `tests/model/test_onnx_file.py` compares them with the `onnx` package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ros_kd_perception.model.protobuf import (
    EXPORT_AGAIN,
    FieldCounter,
    ModelFileError,
    fields_of,
    integers_of,
    message_of,
    messages_at,
    text_of,
)
from ros_kd_perception.model.signature import check_signature

__all__ = ["MAX_MODEL_BYTES", "GraphFacts", "ModelFile", "ModelFileError", "check_model_bytes", "read_model_file"]

MAX_MODEL_BYTES = 1 << 30
MAX_NODES = 20_000
MAX_METADATA_BYTES = 4 << 20
MAX_OTHER_BYTES = 32 << 20
"""Limit on names, shapes, attributes and notes: everything but weights and metadata."""
MAX_ELEMENTS = 1 << 29
"""Elements of one declared value: 2 GiB in float32."""
MAX_AXIS = 1 << 31
MAX_AXES = 16
"""Axes of one tensor. The operators of a student need six at most."""

MAX_MEMORY_BYTES = 4 << 30
"""Memory for the values between layers. A graph that needs more fails instead of exhausting the machine's memory."""

STANDARD_DOMAINS = ("", "ai.onnx")
QUANTIZER_DOMAIN = "com.microsoft"
QUANTIZER_OPERATORS = ("QuantizeLinear", "DequantizeLinear")
INTEGER_OPERATORS = frozenset(QUANTIZER_OPERATORS) | {"DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
INTEGER_OPERATORS |= {"ConvInteger", "MatMulInteger"}
"""Operators of a network of 8-bit integers, in the form of QDQ or of integer operators."""

MODEL_GRAPH, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 14, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
GRAPH_VALUES = (11, 12, 13)  # input, output, value_info
NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS = 5, 10
ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 6, 11, 22, 23
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 1, 2, 8, 13, 14
FLOAT16 = 10  # of TensorProto.DataType
TENSOR_PAYLOADS = (4, 5, 6, 7, 9, 10, 11)  # float_, int32_, string_, int64_, raw_, double_, uint64_data
VALUE_TYPE, TYPE_TENSOR, TENSOR_TYPE_SHAPE, SHAPE_DIM, DIM_VALUE = 2, 1, 2, 1, 1
ENTRY_KEY, ENTRY_VALUE = 1, 2


class _Budget(FieldCounter):
    """Counts what the walk has found so far in the whole file."""

    nodes = 0
    integer_operators = 0
    float16_weights = 0
    metadata_bytes = 0
    weight_bytes = 0


@dataclass(frozen=True)
class GraphFacts:
    """What a walk through the graph of a file finds out.

    Attributes:
        sha256: Hex digest of the bytes of the graph: layers and weights, without the metadata.
        integer_operators: Number of operators that quantise or compute in integers (`INTEGER_OPERATORS`).
        float16_weights: Number of tensors of half precision.
    """

    sha256: str
    integer_operators: int
    float16_weights: int


@dataclass(frozen=True)
class ModelFile:
    """A checked ONNX file, safe to pass to ONNX Runtime.

    Attributes:
        content: The bytes of the file.
        sha256: Hex digest of the bytes.
        metadata: The key-value metadata in the file.
        graph: What the graph holds.
        signed_by: Name of the key whose signature was verified: the hex sha256 of its file. Empty without a key.
    """

    content: bytes
    sha256: str
    metadata: Mapping[str, str]
    graph: GraphFacts
    signed_by: str = ""


def read_model_file(path: Path, signature_key: str = "") -> ModelFile:
    """Read and check an ONNX file. No other file is read, except for its signature if there is a key.

    Args:
        path: The file.
        signature_key: Path of a public key. The signature beside the file is verified before anything else is looked
            at. Empty accepts an unsigned file.

    Raises:
        ModelFileError: The file is missing, unreadable, empty or larger than `MAX_MODEL_BYTES`; its signature is
            missing or does not fit; or `check_model_bytes` refuses it.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise ModelFileError(
            f"expected an ONNX file at {path}, found {found}; export one with `python -m training export`"
        )
    size = path.stat().st_size
    if not 0 < size <= MAX_MODEL_BYTES:
        raise ModelFileError(
            f"expected {path} to hold 1 to {MAX_MODEL_BYTES} bytes, it has {size}; export the model again"
        )
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MODEL_BYTES + 1)  # bounded, because the file may have grown since
    except OSError as error:
        raise ModelFileError(f"expected to read {path}, got: {error.strerror}; check its permissions") from None
    sha256 = hashlib.sha256(content).hexdigest()
    signed_by = check_signature(path, sha256, Path(signature_key)) if signature_key else ""
    try:
        metadata, graph = check_model_bytes(content)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return ModelFile(content, sha256, metadata, graph, signed_by)


def check_model_bytes(content: bytes) -> tuple[dict[str, str], GraphFacts]:
    """Walk the protobuf of a model. Return its metadata and what its graph holds.

    Raises:
        ModelFileError: The bytes are not a protobuf; they hold weights in another file, operators of other domains,
            sub-graphs, functions, training steps or sparse weights; a tensor declares more elements than it has data
            for; or there are more nodes, metadata or text than a student has.
    """
    if len(content) > MAX_MODEL_BYTES:
        raise ModelFileError(f"expected at most {MAX_MODEL_BYTES} bytes, got {len(content)}; {EXPORT_AGAIN}")
    budget = _Budget()
    metadata: dict[str, str] = {}
    graphs: list[memoryview] = []
    for number, value in fields_of(memoryview(content), budget):
        if number == MODEL_GRAPH:
            graphs.append(message_of(value))
            _check_graph(graphs[-1], budget)
        elif number == MODEL_METADATA:
            _read_entry(message_of(value), metadata, budget)
        elif number == MODEL_TRAINING:
            raise ModelFileError(f"expected a model for inference, found training steps in it; {EXPORT_AGAIN}")
        elif number == MODEL_FUNCTIONS:
            raise ModelFileError(
                f"expected standard operators only, found functions defined in the file; {EXPORT_AGAIN}"
            )
    if len(graphs) != 1:
        raise ModelFileError(f"expected to be an ONNX model with one graph, found {len(graphs)}; {EXPORT_AGAIN}")
    other_bytes = len(content) - budget.weight_bytes - budget.metadata_bytes
    if other_bytes > MAX_OTHER_BYTES:
        raise ModelFileError(
            f"expected at most {MAX_OTHER_BYTES} bytes beside the weights, got {other_bytes}; {EXPORT_AGAIN}"
        )
    digest = hashlib.sha256(graphs[0]).hexdigest()
    return metadata, GraphFacts(digest, budget.integer_operators, budget.float16_weights)


def _read_entry(data: memoryview, metadata: dict[str, str], budget: _Budget) -> None:
    budget.metadata_bytes += len(data)
    if budget.metadata_bytes > MAX_METADATA_BYTES:
        raise ModelFileError(
            f"expected metadata of at most {MAX_METADATA_BYTES} bytes, found more; use fewer golden frames or a "
            "shorter contract"
        )
    key, text = "", ""
    for number, value in fields_of(data, budget):
        if number == ENTRY_KEY:
            key = bytes(message_of(value)).decode("utf-8", "replace")
        elif number == ENTRY_VALUE:
            text = bytes(message_of(value)).decode("utf-8", "replace")
    metadata[key] = text


def _check_graph(data: memoryview, budget: _Budget) -> None:
    for number, value in fields_of(data, budget):
        if number == GRAPH_NODE:
            budget.nodes += 1
            if budget.nodes > MAX_NODES:
                raise ModelFileError(f"expected at most {MAX_NODES} nodes, found more; {EXPORT_AGAIN}")
            _check_node(message_of(value), budget)
        elif number == GRAPH_INITIALIZER:
            _check_tensor(message_of(value), budget)
        elif number == GRAPH_SPARSE_INITIALIZER:
            raise ModelFileError(f"expected dense weights, found sparse ones; {EXPORT_AGAIN}")
        elif number in GRAPH_VALUES:
            _check_declared_value(message_of(value), budget)


def _check_node(data: memoryview, budget: _Budget) -> None:
    operator, domain = "", ""
    for number, value in fields_of(data, budget):
        if number == NODE_OP_TYPE:
            operator = text_of(value)
        elif number == NODE_DOMAIN:
            domain = text_of(value)
        elif number == NODE_ATTRIBUTE:
            _check_attribute(message_of(value), budget)
    budget.integer_operators += operator in INTEGER_OPERATORS
    if domain in STANDARD_DOMAINS or (domain == QUANTIZER_DOMAIN and operator in QUANTIZER_OPERATORS):
        return
    raise ModelFileError(
        f"expected standard ONNX operators, found {operator[:60]!r} of the domain {domain[:60]!r}; {EXPORT_AGAIN}"
    )


def _check_attribute(data: memoryview, budget: _Budget) -> None:
    tensors = 0
    for number, value in fields_of(data, budget):
        if number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            raise ModelFileError(f"expected one flat graph, found a loop or branch with a sub-graph; {EXPORT_AGAIN}")
        if number in (ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES):
            raise ModelFileError(f"expected dense constants, found a sparse one; {EXPORT_AGAIN}")
        if number == ATTRIBUTE_TENSOR:
            tensors += 1
        if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            _check_tensor(message_of(value), budget)
    if tensors > 1:
        # A protobuf parser merges them into one tensor, which this walk has not checked.
        raise ModelFileError(f"expected one tensor in an attribute, found {tensors}; {EXPORT_AGAIN}")


def _check_tensor(data: memoryview, budget: _Budget) -> None:
    elements, axes, payload, name = 1, 0, 0, ""
    for number, value in fields_of(data, budget):
        if number == TENSOR_DIMS:
            for axis in integers_of(value, budget):
                axes += 1
                if axes > MAX_AXES:
                    raise ModelFileError(f"expected tensors of at most {MAX_AXES} axes, found more; {EXPORT_AGAIN}")
                if axis >= MAX_AXIS:
                    raise ModelFileError(f"expected axes of under {MAX_AXIS} elements, got {axis}; {EXPORT_AGAIN}")
                elements = min(elements * axis, MAX_MODEL_BYTES * 8)
        elif number == TENSOR_DATA_TYPE:
            budget.float16_weights += value == FLOAT16
        elif number == TENSOR_NAME:
            name = text_of(value)
        elif number == TENSOR_EXTERNAL_DATA or (number == TENSOR_DATA_LOCATION and value != 0):
            raise ModelFileError(
                "expected every weight inside the file, found one that would be read from another file "
                f"({name[:60] or 'no name yet'}); {EXPORT_AGAIN}"
            )
        elif number in TENSOR_PAYLOADS:
            payload += max(1, len(value)) if isinstance(value, memoryview) else 1
    if elements > payload * 4:  # the narrowest type, int2, packs four elements into a byte
        raise ModelFileError(
            f"expected the tensor {name[:60]!r} to hold the data of its shape, it has {payload} bytes; {EXPORT_AGAIN}"
        )
    budget.weight_bytes += payload


def _check_declared_value(data: memoryview, budget: _Budget) -> None:
    path = (VALUE_TYPE, TYPE_TENSOR, TENSOR_TYPE_SHAPE, SHAPE_DIM)
    elements = 1
    for dimension in messages_at(data, path, budget):
        for number, value in fields_of(dimension, budget):
            if number == DIM_VALUE and isinstance(value, int):
                elements *= max(1, min(value, MAX_ELEMENTS + 1))
                if elements > MAX_ELEMENTS:
                    raise ModelFileError(
                        f"expected values of at most {MAX_ELEMENTS} elements, one is declared with more; {EXPORT_AGAIN}"
                    )
