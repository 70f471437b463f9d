"""ForeignFile: reads an ONNX file of others, with its weights, and says what its inputs and outputs are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

from ros_kd_perception.model.onnx_file import MAX_MODEL_BYTES, MAX_NODES, ModelFileError

_READ_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class TensorInfo:
    """An input or an output.

    Attributes:
        name: The name in the graph.
        dtype: The type of the values; None for one that NumPy lacks.
        shape: The size of each axis; None where the file leaves it open. None for an unknown number of axes.
    """

    name: str
    dtype: np.dtype | None
    shape: tuple[int | None, ...] | None

    @classmethod
    def of(cls, value: onnx.ValueInfoProto) -> TensorInfo:
        """Read a declaration of the graph."""
        tensor = value.type.tensor_type
        known = tensor.elem_type in onnx.helper.get_all_tensor_dtypes()
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if known else None
        if not tensor.HasField("shape"):
            return cls(value.name, dtype, None)
        sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
        return cls(value.name, dtype, tuple(None if size is not None and size <= 0 else size for size in sizes))

    def __str__(self) -> str:
        """Return name, type and shape, for an error."""
        return f"{self.name[:80]} {self.dtype or 'of another type'} {shape_text(self.shape)}"


@dataclass(frozen=True)
class ForeignFile:
    """An ONNX file of others.

    Attributes:
        path: The file.
        model: The model, every weight inside.
        sha256: Hex digest of the file, followed by the files with its weights, if it has any.
        inputs: The inputs by name, without weights.
        outputs: The outputs by name.
    """

    path: Path
    model: onnx.ModelProto
    sha256: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]

    @classmethod
    def read(cls, path: Path) -> ForeignFile:
        """Read a file, and weights that lie beside it in files of their own.

        Raises:
            ModelFileError: The file is missing, too large or not an ONNX model, or a file with weights is missing or
                lies in another folder.
        """
        content = _read(path, MAX_MODEL_BYTES)
        digest = hashlib.sha256(content)
        try:
            model = onnx.ModelProto.FromString(content)
        except Exception:  # protobuf's class for it has no type information
            raise ModelFileError(
                f"{path}: expected an ONNX model, got a file that is cut off or of another kind"
            ) from None
        if not model.graph.node or not model.graph.output:
            raise ModelFileError(f"{path}: expected an ONNX model with a graph, got a file without one")
        if len(model.graph.node) > MAX_NODES:
            raise ModelFileError(
                f"{path}: expected at most {MAX_NODES} nodes, got {len(model.graph.node)}; export a smaller network"
            )
        _merge_external_weights(path, model, digest, MAX_MODEL_BYTES - len(content))
        weights = {tensor.name for tensor in model.graph.initializer}
        return cls(
            path,
            model,
            digest.hexdigest(),
            {value.name: TensorInfo.of(value) for value in model.graph.input if value.name not in weights},
            {value.name: TensorInfo.of(value) for value in model.graph.output},
        )

    def words(self) -> str:
        """Return names, types and shapes of all inputs and outputs, for an error."""
        return f"its inputs are {_list(self.inputs.values())}, its outputs {_list(self.outputs.values())}"

    def error(self, expected: str, remedy: str) -> ModelFileError:
        """Return an error that says what was expected of the file, what it has and what to change."""
        return ModelFileError(f"{self.path}: expected {expected}, but {self.words()}; {remedy}")


def shape_text(shape: Iterable[int | None] | None) -> str:
    """Return a shape as text, with a question mark for each open axis."""
    return "of any shape" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _list(values: Iterable[TensorInfo]) -> str:
    shown = [str(value) for value in values]
    return " and ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise ModelFileError(f"{path}: expected an ONNX file, there is no such file; correct the path")
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ModelFileError(f"{path}: expected to read it, got: {error.strerror}; check its permissions") from None
    if not 0 < len(content) <= limit:
        raise ModelFileError(
            f"{path}: expected 1 to {MAX_MODEL_BYTES} bytes with all weights, it has "
            f"{path.stat().st_size}; export a smaller network, or one in half precision"
        )
    return content


def _merge_external_weights(path: Path, model: onnx.ModelProto, digest: hashlib._Hash, room_bytes: int) -> None:
    """Read weights from files in the folder of the model into the model."""
    external = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    for name in sorted({ExternalDataInfo(tensor).location for tensor in external}):
        weights = path.parent / name
        if Path(name).name != name or weights.is_symlink():
            raise ModelFileError(
                f"{path}: expected weights in a file of the same folder, got {name[:200]!r}; export the network again "
                "with its weights inside"
            )
        if not weights.is_file():
            raise ModelFileError(f"{path}: expected its weights in {weights}, there is no such file; copy it there")
        room_bytes -= weights.stat().st_size
        if room_bytes < 0:
            raise ModelFileError(f"{path}: expected at most {MAX_MODEL_BYTES} bytes with all weights, it has more")
        _hash_file(weights, digest)
    for tensor in external:
        try:
            load_external_data_for_tensor(tensor, str(path.parent))
        except (ValueError, OSError, onnx.checker.ValidationError) as error:
            raise ModelFileError(
                f"{path}: expected the weights {tensor.name[:80]!r} in {ExternalDataInfo(tensor).location}, got: "
                f"{str(error)[:200]}; copy the whole file, or export the network again"
            ) from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _hash_file(path: Path, digest: hashlib._Hash) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_READ_CHUNK_BYTES):
            digest.update(chunk)
