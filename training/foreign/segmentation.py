"""Adds the nodes from a foreign network's segmentation to the class map, the uncertainty or the probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ros_kd_perception.model.contract import UNCERTAINTY_BLOCK_PX
from training.errors import RecipeError
from training.foreign.classes import OutputClasses
from training.foreign.description import SegmentationDescription
from training.foreign.graph_writer import GraphWriter
from training.foreign.network import PREFIX, Network, Output

STRIDES = (32, 16, 8, 4, 2, 1)
# Added before a logarithm. The sum keeps NaN, which the vehicle looks for; a maximum would not.
TINY = np.float32(1e-12)
# Where there are class ids alone, one pixel of so many counts for the uncertainty, along each axis.
SAMPLED_EVERY_PX = 4


class SegmentationWriter(Protocol):
    """Adds the nodes after the segmentation of a foreign network.

    Attributes:
        stride: Side of one cell of the class map in input pixels.
    """

    stride: int

    def write_contract(self) -> None:
        """Write the outputs `class_map` and `uncertainty` of the contract."""

    def write_teacher(self) -> None:
        """Write `probabilities`, float32 [N, C, h, w], of the reported classes, in the cells of the network."""


@dataclass(frozen=True)
class Cells:
    """The rows and columns of a segmentation, and the size of the input that they cover."""

    rows: int
    columns: int
    height: int
    width: int

    @property
    def stride(self) -> int | None:
        """Side of one cell in input pixels; None if it is not one of those that a contract may have."""
        return next((stride for stride in STRIDES if self.at(stride) == self), None)

    def at(self, stride: int) -> Cells:
        """Return the cells of a stride that cover the same input."""
        return Cells(-(-self.height // stride), -(-self.width // stride), self.height, self.width)

    def finer_stride(self) -> int:
        """Return the largest stride whose cells are at least as many along both axes; 1 if there is none."""
        finer = (self.at(stride) for stride in STRIDES)
        return next(
            (s for s, c in zip(STRIDES, finer, strict=True) if c.rows >= self.rows and c.columns >= self.columns), 1
        )


class ScoredClasses:
    """Writes the outputs of a network that has a value for each class and cell.

    Args:
        writer: Takes the nodes.
        network: The foreign network.
        description: Meaning of the output.
        classes: Its classes.

    Raises:
        ModelFileError: The output has another shape than the description says.
        RecipeError: The description asks for cells that are larger than those of the network.
    """

    def __init__(
        self, writer: GraphWriter, network: Network, description: SegmentationDescription, classes: OutputClasses
    ) -> None:
        self._writer, self._classes, self._meaning = writer, classes, description.meaning
        output = network.output(description.output, "segmentation.output")
        shape = _check_scores(network, output, description.layout, classes.channels)
        self._cells = Cells(shape[2], shape[3], network.height, network.width)
        self._values = self._read(PREFIX + output.name, description.layout, shape[1])
        self.stride = self._cells.stride or self._cells.finer_stride()
        if description.enlarge_to_stride:
            if description.enlarge_to_stride > self.stride:
                raise RecipeError(
                    f"segmentation.enlarge_to_stride must be at most {self.stride}, the stride of the network, got "
                    f"{description.enlarge_to_stride}"
                )
            self.stride = description.enlarge_to_stride

    def write_contract(self) -> None:
        """Write the outputs `class_map` and `uncertainty` of the contract."""
        enlarged = self._enlarged()
        best = self._writer.add("ArgMax", enlarged, axis=1, keepdims=0)
        table = self._classes.id_of_channel
        if (table == np.arange(len(table))).all():
            self._writer.cast(best, np.uint8, output="class_map")
        else:
            self._writer.add("Gather", table, best, output="class_map", axis=0)
        own_stride = self._cells.stride
        values, stride = (self._values, own_stride) if own_stride else (enlarged, self.stride)
        means = block_means(self._writer, self._log(values), self._cells.at(stride), stride)
        write_entropy(self._writer, self._writer.add("LogSoftmax", means, axis=1), self._classes.channels)

    def write_teacher(self) -> None:
        """Write `probabilities`, float32 [N, C, h, w], of the reported classes, in the cells of the network."""
        values = self._values
        if self._meaning == "logits":
            values = self._writer.add("Softmax", values, axis=1)
        self._writer.add("Gather", values, self._classes.kept_channels, output="probabilities", axis=1)

    def _read(self, value: str, layout: str, channels: int) -> str:
        """Return the values as float32 [N, C, h, w]."""
        writer = self._writer
        value = writer.cast(value, np.float32)
        if layout == "nhwc":
            value = writer.add("Transpose", value, perm=[0, 3, 1, 2])
        if channels == self._classes.channels:
            return value
        # One value for the second of two classes. The first class has the rest, or a logit of 0.
        rest = writer.add("Sub", np.float32(self._meaning == "probabilities"), value)
        if self._meaning == "logits":
            rest = writer.add("Mul", value, np.float32(0))
        return writer.add("Concat", rest, value, axis=1)

    def _enlarged(self) -> str:
        target = self._cells.at(self.stride)
        if target == self._cells:
            return self._values
        return resize(self._writer, self._values, target, mode="linear")

    def _log(self, values: str) -> str:
        """Return logits: the logarithms of probabilities are, up to a constant."""
        if self._meaning == "logits":
            return values
        return self._writer.add("Log", self._writer.add("Add", values, TINY))


class NumberedClasses:
    """Writes the outputs of a network that has the number of a class for each cell, and no values behind it.

    The uncertainty of a block is the entropy of the shares of the classes in it, / ln(C + 1): it tells blocks with one
    class from blocks with several. C + 1 because numbers without a class count as one more.

    Args:
        writer: Takes the nodes.
        network: The foreign network.
        description: Meaning of the output.
        classes: Its classes.

    Raises:
        ModelFileError: The output has another shape than the description says.
    """

    def __init__(
        self, writer: GraphWriter, network: Network, description: SegmentationDescription, classes: OutputClasses
    ) -> None:
        self._writer, self._classes = writer, classes
        output = network.output(description.output, "segmentation.output")
        shape = output.shape
        sides = shape[1:3] if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1) else shape[2:]
        if len(shape) not in (3, 4) or len(sides) != 2 or np.prod(shape) != np.prod(sides):
            raise network.error(
                output,
                "the shape [1, h, w] for the meaning class_ids",
                "correct segmentation.output or segmentation.meaning",
            )
        self._cells = Cells(*sides, network.height, network.width)
        self.stride = self._cells.stride or self._cells.finer_stride()
        numbers = writer.cast(PREFIX + output.name, np.int64)
        numbers = writer.reshape(numbers, (-1, self._cells.rows, self._cells.columns))
        # Numbers below 0 and above 255 become -1 and 256, which are no class; tables begin at -1.
        numbers = writer.add("Clip", numbers, np.int64(-1), np.int64(256))
        self._numbers = writer.add("Add", numbers, np.int64(1))

    def write_contract(self) -> None:
        """Write the outputs `class_map` and `uncertainty` of the contract."""
        writer = self._writer
        ids = writer.add("Gather", self._classes.id_of_number, self._numbers, axis=0)
        if self._cells.stride is None:
            single = writer.add("Unsqueeze", ids, np.array([1], np.int64))
            ids = writer.add(
                "Squeeze",
                resize(writer, single, self._cells.at(self.stride), mode="nearest"),
                np.array([1], np.int64),
            )
        writer.add("Identity", ids, output="class_map")
        self._write_uncertainty(ids)

    def write_teacher(self) -> None:
        """Write `probabilities`, float32 [N, C, h, w]: 1 for the class of a cell, 0 for the others."""
        writer, count = self._writer, len(self._classes.classes)
        places = writer.add("Gather", self._classes.place_of_number, self._numbers, axis=0)
        writer.columns(_one_hot(writer, places, count + 1), 0, count, axis=1, output="probabilities")

    def _write_uncertainty(self, ids: str) -> None:
        writer, count = self._writer, len(self._classes.classes) + 1
        step = max(1, SAMPLED_EVERY_PX // self.stride)
        sampled = writer.add(
            "Slice",
            writer.cast(ids, np.int64),
            np.array([0, 0], np.int64),
            np.array([1 << 30, 1 << 30], np.int64),
            np.array([1, 2], np.int64),
            np.array([step, step], np.int64),
        )
        places = writer.add("Gather", self._classes.place_of_id, sampled, axis=0)
        stride = self.stride * step
        shares = block_means(writer, _one_hot(writer, places, count), self._cells.at(stride), stride)
        write_entropy(writer, writer.add("Log", writer.add("Add", shares, TINY)), count)


def resize(writer: GraphWriter, value: str, cells: Cells, mode: str) -> str:
    """Resize [N, C, h, w] to other cells; pixel centres stay where they are."""
    leading = writer.columns(writer.add("Shape", value), 0, 2, axis=0)
    sizes = writer.add("Concat", leading, np.array([cells.rows, cells.columns], np.int64), axis=0)
    options = {"nearest_mode": "round_prefer_floor"} if mode == "nearest" else {}
    return writer.add("Resize", value, "", "", sizes, mode=mode, coordinate_transformation_mode="half_pixel", **options)


def block_means(writer: GraphWriter, value: str, cells: Cells, stride: int) -> str:
    """Return the means of [N, C, h, w] over blocks of 32x32 input pixels; blocks at the edges may be smaller."""
    side = UNCERTAINTY_BLOCK_PX // stride
    if side == 1:
        return value
    rows, columns = -(-cells.rows // side), -(-cells.columns // side)
    below, beside = rows * side - cells.rows, columns * side - cells.columns
    if not below and not beside:
        return writer.add("AveragePool", value, kernel_shape=[side, side], strides=[side, side])
    padded = writer.add("Pad", value, np.array([0, 0, 0, 0, 0, 0, below, beside], np.int64))
    means = writer.add("AveragePool", padded, kernel_shape=[side, side], strides=[side, side])
    filled = np.outer(_filled(cells.rows, side), _filled(cells.columns, side))
    return writer.add("Mul", means, (side * side / filled).astype(np.float32)[None, None])


def write_entropy(writer: GraphWriter, log_probabilities: str, count: int) -> None:
    """Write the output `uncertainty`: the entropy of [N, C, h, w] over C, / ln C, limited to 0..1."""
    probabilities = writer.add("Exp", log_probabilities)
    products = writer.add("Mul", probabilities, log_probabilities)
    sums = writer.add("ReduceSum", products, np.array([1], np.int64), keepdims=0)
    shares = writer.add("Mul", sums, np.float32(-1 / math.log(max(count, 2))))
    # Min and Max keep NaN, Clip may not.
    writer.add("Min", writer.add("Max", shares, np.float32(0)), np.float32(1), output="uncertainty")


def _filled(cells: int, side: int) -> np.ndarray:
    """Return how many cells each block along one axis holds."""
    first = np.arange(0, cells, side)
    return np.minimum(first + side, cells) - first


def _one_hot(writer: GraphWriter, places: str, count: int) -> str:
    """Return float32 [N, count, h, w] of places [N, h, w]."""
    return writer.add("OneHot", places, np.int64(count), np.array([0, 1], np.float32), axis=1)


def _check_scores(network: Network, output: Output, layout: str, channels: int) -> tuple[int, int, int, int]:
    """Return the shape of the values in the order N, C, h, w."""
    shape = output.shape
    order = (0, 1, 2, 3) if layout == "nchw" else (0, 3, 1, 2)
    sizes = [shape[axis] for axis in order] if len(shape) == 4 else [0] * 4
    if sizes[1] != channels and not (sizes[1] == 1 and channels == 2):
        axes = f"[1, {channels}, h, w]" if layout == "nchw" else f"[1, h, w, {channels}]"
        raise network.error(
            output,
            f"the shape {axes}, for {channels} classes in the layout {layout}",
            "correct segmentation.classes, segmentation.layout or segmentation.output",
        )
    return sizes[0], sizes[1], sizes[2], sizes[3]
