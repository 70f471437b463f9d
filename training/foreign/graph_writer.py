"""GraphWriter: adds nodes and constants to an ONNX graph, each under a name of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

PREFIX = "adopted/"


class GraphWriter:
    """Collects nodes and constants, in the order in which they are added.

    Attributes:
        nodes: The nodes.
        initializers: The constants.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str | NDArray[Any] | np.generic, output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the name of that output.

        Args:
            operator: A standard ONNX operator.
            *inputs: Names of values, or arrays, which become constants. An empty name leaves an optional input out.
            output: Name of the output; empty chooses one.
            **attributes: Attributes of the node.
        """
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        name = f"{PREFIX}{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, names, [output or name], name=name, **attributes))
        return output or name

    def top_k(self, value: str, count: int, output: str) -> str:
        """Write the largest values along the second axis to `output`, in order, and return their places, int64."""
        places = f"{PREFIX}places_{len(self.nodes)}"
        names = [value, self.constant(np.array([count], np.int64))]
        self.nodes.append(onnx.helper.make_node("TopK", names, [output, places], name=places, axis=1, sorted=1))
        return places

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Add a constant and return its name."""
        name = f"{PREFIX}constant_{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def cast(self, value: str, dtype: np.dtype[Any] | type[np.generic], output: str = "") -> str:
        """Convert a value to another type."""
        return self.add("Cast", value, output=output, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def columns(self, value: str, first: int, end: int, axis: int = 2, output: str = "") -> str:
        """Return a slice of one axis."""
        bounds = (np.array([first], np.int64), np.array([end], np.int64), np.array([axis], np.int64))
        return self.add("Slice", value, *bounds, output=output)

    def reshape(self, value: str, shape: tuple[int, ...], output: str = "") -> str:
        """Change the shape; 0 keeps an axis and -1 takes what is left."""
        return self.add("Reshape", value, np.array(shape, np.int64), output=output)
