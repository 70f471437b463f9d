"""Ranges of activations: which values the tensors of a graph take on calibration frames, and what an integer spans.

ONNX Runtime's own calibration keeps every output of every frame until the last one, 40 MB a frame for the shipped
student, and its entropy rule has a single candidate at its default number of bins. Here a tensor has one histogram.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.execution_provider import INPUT_NAME, ProviderError, SessionRequest, open_session
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.structures import UInt8Array
from training.quantization.settings import CalibrationSettings

BINS = 2048
LEVELS = 256
# Candidates of the entropy rule keep at least this share of the bins.
SMALLEST_SHARE = 1 / 8
CANDIDATES = 64

Values = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TensorRange:
    """The values that an 8-bit integer spans.

    Attributes:
        lowest: The value of the smallest integer.
        highest: The value of the largest integer.
    """

    lowest: float
    highest: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lowest) and np.isfinite(self.highest) and self.lowest <= self.highest):
            raise ValueError(f"expected a finite range from low to high, got {self.lowest} to {self.highest}")


def measured_ranges(
    graph: onnx.ModelProto, tensors: Sequence[str], images: Sequence[UInt8Array], calibration: CalibrationSettings
) -> dict[str, TensorRange]:
    """Run a network on calibration frames and return the range of each tensor.

    `percentile` and `entropy` run it twice: the first pass finds the limits of the histograms.

    Args:
        graph: The network in fp32, with the input `images`.
        tensors: Names of float tensors of the graph.
        images: Network inputs, uint8 [H, W, 3].
        calibration: The rule.

    Raises:
        ModelFileError: The network cannot be run, or a tensor contains NaN or infinity.
    """
    network = _Network(graph, tensors)
    lowest = dict.fromkeys(tensors, np.inf)
    highest = dict.fromkeys(tensors, -np.inf)
    for values in network.runs(images, "ranges of activations"):
        for name, array in values.items():
            # Not `min` and `max`, which drop a NaN unless it comes first: one broken frame must be seen.
            lowest[name] = float(np.minimum(lowest[name], array.min()))
            highest[name] = float(np.maximum(highest[name], array.max()))
    _check_finite(lowest, highest)
    if calibration.method == "minmax":
        return {name: TensorRange(lowest[name], highest[name]) for name in tensors}
    histograms = {name: Histogram(lowest[name], highest[name]) for name in tensors}
    for values in network.runs(images, "histograms of activations"):
        for name, array in values.items():
            histograms[name].add(array)
    if calibration.method == "percentile":
        return {name: histogram.percentile(calibration.percentile) for name, histogram in histograms.items()}
    return {name: histogram.least_entropy_lost() for name, histogram in histograms.items()}


class Histogram:
    """Counts the values of a tensor in bins of equal width between known limits."""

    def __init__(self, lowest: float, highest: float) -> None:
        """Begin with no values; all of them must lie between `lowest` and `highest`."""
        self._lowest, self._highest = lowest, highest
        self._counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count an array of any shape."""
        self._counts += np.bincount(self._bins_of(values.ravel()), minlength=BINS)

    def _bins_of(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        span = self._highest - self._lowest
        # Not in float32: the width of a bin may be below its smallest number, and the span above its largest.
        scaled = (values.astype(np.float64) - self._lowest) * (BINS / span if span else 0.0)
        return np.asarray(np.clip(scaled, 0, BINS - 1), np.int64)

    def percentile(self, percent: float) -> TensorRange:
        """Return the range that holds so many percent of the values. Half of the rest is cut off at each end."""
        cut = (1 - percent / 100) / 2
        below = np.cumsum(self._counts) / self._counts.sum()
        first = int(np.searchsorted(below, cut, side="right"))
        last = int(np.searchsorted(below, 1 - cut, side="left"))
        return self._range(min(first, BINS - 1), min(last, BINS - 1) + 1)

    def least_entropy_lost(self) -> TensorRange:
        """Return the range whose 256 levels keep the most of the distribution.

        It minimises the Kullback-Leibler divergence between the clipped distribution and its quantised form (Migacz,
        8-bit Inference with TensorRT, 2017). Candidates shrink towards zero, from both ends by the same share.
        """
        zero = int(np.clip(np.searchsorted(self._edges(), 0.0), 0, BINS))
        counts = self._counts
        if self._lowest <= 0 <= self._highest:
            counts = _without_zeros(counts, int(self._bins_of(np.zeros(1, np.float32))[0]))
        best, best_loss = (0, BINS), np.inf
        for share in np.linspace(1, SMALLEST_SHARE, CANDIDATES):
            first, end = round(zero * (1 - share)), round(zero + (BINS - zero) * share)
            if end - first < LEVELS // 2:
                break
            loss = _divergence(counts, first, end)
            if loss < best_loss:
                best, best_loss = (first, end), loss
        return self._range(*best)

    def _edges(self) -> NDArray[np.float64]:
        return np.linspace(self._lowest, self._highest, BINS + 1)

    def _range(self, first: int, end: int) -> TensorRange:
        edges = self._edges()
        return TensorRange(float(edges[first]), float(edges[end]))


def _without_zeros(counts: NDArray[np.int64], zero: int) -> NDArray[np.int64]:
    """Give the bin of zero, number `zero`, the count of its neighbour.

    A Relu makes half of all values zero. An integer holds zero exactly, and the peak would hide all other values.
    """
    counts = counts.copy()
    neighbour = zero + 1 if zero + 1 < BINS else zero - 1
    counts[zero] = min(counts[zero], counts[neighbour])
    return counts


def _divergence(counts: NDArray[np.int64], first: int, end: int) -> float:
    """Return the divergence of a distribution, clipped to some of its bins, from its form in 256 levels."""
    inside = counts[first:end].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[end:].sum()
    level = np.arange(len(inside)) * LEVELS // len(inside)
    filled = clipped > 0
    in_level = np.bincount(level, weights=inside, minlength=LEVELS)
    bins_filled = np.bincount(level, weights=filled, minlength=LEVELS)
    quantised = np.where(filled, in_level[level] / np.maximum(bins_filled[level], 1), 0)
    if not quantised.sum():
        return float("inf")
    p, q = clipped / clipped.sum(), quantised / quantised.sum()
    # A bin that holds only clipped values has no quantised form. A small share keeps the logarithm finite.
    return float((p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-9))).sum())


class _Network:
    """Runs a graph with some of its tensors as additional outputs."""

    def __init__(self, graph: onnx.ModelProto, tensors: Sequence[str]) -> None:
        self._tensors = list(tensors)
        opened = onnx.ModelProto()
        opened.CopyFrom(graph)
        known = {value.name: value for value in graph.graph.value_info}
        present = {value.name for value in graph.graph.output}
        opened.graph.output.extend(
            known.get(name, onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
            for name in tensors
            if name not in present
        )
        shape = tuple(axis.dim_value for axis in graph.graph.input[0].type.tensor_type.shape.dim[1:])
        request = SessionRequest(opened.SerializeToString(), "", "cpu", "auto", "fp32", shape)
        try:
            self._session, _ = open_session(request)
        except ProviderError as error:
            raise ModelFileError(f"expected a network that can be run, got: {error}; export it again") from None

    def runs(self, images: Sequence[UInt8Array], words: str) -> Iterator[Values]:
        """Yield the values of the tensors on each image, with a progress bar. Each is freed before the next."""
        for image in tqdm(images, desc=words, unit="frame", disable=None):
            values = self._session.run(self._tensors, {INPUT_NAME: np.ascontiguousarray(image[None])})
            yield dict(zip(self._tensors, values, strict=True))


def _check_finite(lowest: Mapping[str, float], highest: Mapping[str, float]) -> None:
    wrong = [name for name in lowest if not (np.isfinite(lowest[name]) and np.isfinite(highest[name]))]
    if wrong:
        raise ModelFileError(
            f"expected finite activations on the calibration frames, {wrong[0]} and {len(wrong) - 1} more contain NaN "
            "or infinity; the network is broken, train it again"
        )
