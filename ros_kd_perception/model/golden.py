"""Golden frames: a few network inputs and their expected outputs, stored inside the ONNX file.

`onnx_model` runs them when it opens a model, on the execution provider and precision that the model will use.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.contract import (
    DETECTION,
    SEGMENTATION,
    ContractError,
    GoldenLimits,
    ModelContract,
)
from ros_kd_perception.structures import Detections, Float32Array, UInt8Array

GOLDEN_KEY = "ros_kd_perception.golden"
MAX_GOLDEN_CHARACTERS = 2 << 20
_PNG_START = b"\x89PNG\r\n\x1a\n"
_BYTES_AROUND_A_CHUNK = 12
"""Length, name and checksum."""
MAX_GOLDEN_FRAMES = 8

BOX_MARGIN_PX = 0.5
"""Boxes are grown by this much on each side before they are compared, because a fraction of a pixel does not matter.

Without it, boxes of zero width at the edge of the input would have an IoU of 0 even with themselves.
"""


@dataclass(frozen=True)
class GoldenFrame:
    """One network input and the outputs that the exporting machine computed for it.

    Attributes:
        image: uint8 `[H, W, 3]`, a network input (after letterbox or stretch) in the contract's channel order.
        class_map: uint8 `[ceil(H/s), ceil(W/s)]`. None without segmentation.
        detections: The network's rows at or above the contract's score threshold, in network-input pixels, with all
            duplicates that the perceiver would drop. None without detection.
    """

    image: UInt8Array
    class_map: UInt8Array | None
    detections: Detections | None

    def compare(self, class_map: UInt8Array | None, found: Detections | None, contract: ModelContract) -> GoldenResult:
        """Compare the outputs of a run on `image` with the expected ones, of the tasks that the frame has.

        Args:
            class_map: uint8 `[ceil(H/s), ceil(W/s)]`. None without segmentation.
            found: Every output row, also rows below the score threshold, in network-input pixels. None without
                detection.
            contract: The contract of the model that ran.
        """
        result = GoldenResult()
        if self.class_map is not None and class_map is not None:
            result = replace(result, class_map_agreement=class_map_agreement(self.class_map, class_map))
        if self.detections is not None and found is not None:
            box_iou, score_difference, unexpected = compare_boxes(
                self.detections, found, contract.golden, contract.score_threshold
            )
            result = replace(result, box_iou=box_iou, score_difference=score_difference, unexpected_boxes=unexpected)
        return result

    def to_row(self) -> dict[str, Any]:
        """Return the frame for JSON. The keys of an absent task are absent."""
        row: dict[str, Any] = {"image_png": _to_png(self.image)}
        if self.class_map is not None:
            row["class_map_png"] = _to_png(self.class_map)
        if self.detections is not None:
            row["boxes"] = self.detections.boxes_xyxy.round(3).tolist()
            row["scores"] = self.detections.scores.round(5).tolist()
            row["labels"] = self.detections.labels.tolist()
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any], contract: ModelContract) -> GoldenFrame:
        """Read a frame with the tasks of a contract.

        Raises:
            ValueError, KeyError, TypeError, OverflowError, cv2.error: The row does not fit the contract.
        """
        shapes, class_map, detections = contract.output_shapes(), None, None
        if contract.class_map is not None:
            class_map = _from_png(row["class_map_png"], shapes["class_map"])
        if contract.detections is not None:
            detections = Detections(
                np.asarray(row["boxes"], np.float32).reshape(-1, 4),
                np.asarray(row["scores"], np.float32).reshape(-1),
                np.asarray(row["labels"], np.int32).reshape(-1),
            )
        image = _from_png(row["image_png"], (contract.input.height, contract.input.width, 3))
        return cls(image, class_map, detections)


def golden_to_text(frames: list[GoldenFrame]) -> str:
    """Return JSON with PNGs in base64, for the metadata of the ONNX file.

    Raises:
        ValueError: There is no frame, there are more than `MAX_GOLDEN_FRAMES`, or the text exceeds 2 MiB.
    """
    if not 0 < len(frames) <= MAX_GOLDEN_FRAMES:
        raise ValueError(f"expected 1 to {MAX_GOLDEN_FRAMES} golden frames, got {len(frames)}")
    text = json.dumps([frame.to_row() for frame in frames], allow_nan=False)
    if len(text) > MAX_GOLDEN_CHARACTERS:
        raise ValueError(
            f"expected golden frames of at most {MAX_GOLDEN_CHARACTERS} bytes, got {len(text)}; use fewer frames"
        )
    return text


def golden_from_text(text: str, contract: ModelContract) -> list[GoldenFrame]:
    """Parse the text of `golden_to_text` and check it against the contract's tasks and shapes.

    Raises:
        ContractError: The text is malformed or too large, or a picture has another size than the contract says.
    """
    if len(text) > MAX_GOLDEN_CHARACTERS:
        raise ContractError(
            f"expected golden frames of at most {MAX_GOLDEN_CHARACTERS} bytes, got {len(text)}; export the model again"
        )
    try:
        rows = json.loads(text)
        if not 0 < len(rows) <= MAX_GOLDEN_FRAMES:
            raise ValueError(f"{len(rows)} frames")
        return [GoldenFrame.from_row(row, contract) for row in rows]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, cv2.error) as error:
        raise ContractError(
            f"expected 1 to {MAX_GOLDEN_FRAMES} golden frames that fit the contract, got {str(error)[:120]}; "
            "export the model again"
        ) from None


def _to_png(image: UInt8Array) -> str:
    encoded, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not encoded:
        raise ValueError(f"expected an image that PNG can hold, got {image.dtype} {image.shape}")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _from_png(text: str, shape: tuple[int, ...]) -> UInt8Array:
    data = base64.b64decode(text, validate=True)
    _check_whole_png(data)
    # Width and height are at fixed positions in a PNG. Check them first, so that a wrong header cannot cause a huge
    # allocation.
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if (height, width) != shape[:2]:
        raise ValueError(f"a picture of {height}x{width} instead of {shape[0]}x{shape[1]}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape != shape or image.dtype != np.uint8:
        raise ValueError("a picture that does not decode")
    return np.asarray(image, np.uint8)


def _check_whole_png(data: bytes) -> None:
    """Refuse other files, and a PNG whose chunks claim more bytes than it has: OpenCV allocates what a chunk claims."""
    position = len(_PNG_START)
    while position < len(data):
        position += int.from_bytes(data[position : position + 4], "big") + _BYTES_AROUND_A_CHUNK
    if not data.startswith(_PNG_START) or data[12:16] != b"IHDR" or position != len(data):
        raise ValueError("a picture that is not a whole PNG")


@dataclass(frozen=True)
class GoldenResult:
    """The worst figures over the golden frames. Those of an absent task are perfect.

    Attributes:
        class_map_agreement: Share of equal cells of the class map, 0..1.
        box_iou: IoU of an expected box with the best found box of its class, 0..1. Boxes are grown by BOX_MARGIN_PX.
        score_difference: Difference between an expected box and the found box of the same class and place that is
            nearest in score.
        unexpected_boxes: Number of boxes clearly above the score threshold that match no expected box.
    """

    class_map_agreement: float = 1.0
    box_iou: float = 1.0
    score_difference: float = 0.0
    unexpected_boxes: int = 0

    def within(self, limits: GoldenLimits) -> bool:
        """Return whether every figure meets the contract's limits. NaN does not meet them."""
        return (
            self.class_map_agreement >= limits.class_map_agreement_min
            and self.box_iou >= limits.box_iou_min
            and self.score_difference <= limits.score_difference_max
            and self.unexpected_boxes == 0
        )

    def worse(self, other: GoldenResult) -> GoldenResult:
        """Return the worse of both results for each figure."""
        return GoldenResult(
            min(self.class_map_agreement, other.class_map_agreement),
            min(self.box_iou, other.box_iou),
            max(self.score_difference, other.score_difference),
            max(self.unexpected_boxes, other.unexpected_boxes),
        )

    def words(self, contract: ModelContract) -> str:
        """Return the figures of a contract's tasks as text, for an error."""
        figures = {
            SEGMENTATION: f"{self.class_map_agreement:.2%}",
            DETECTION: f"IoU {self.box_iou:.3f}, scores off by {self.score_difference:.3f} and "
            f"{self.unexpected_boxes} unexpected boxes",
        }
        return " and ".join(figures[task] for task in contract.tasks)


def golden_limits_in_words(contract: ModelContract) -> str:
    """Return what the golden frames of a contract's tasks must meet, for an error."""
    limits = contract.golden
    expected = {
        SEGMENTATION: f"in at least {limits.class_map_agreement_min:.2%} of its class map",
        DETECTION: f"with box IoU of at least {limits.box_iou_min}, scores within {limits.score_difference_max} and no "
        "other boxes",
    }
    return ", ".join(expected[task] for task in contract.tasks)


def compare_boxes(
    expected: Detections, found: Detections, limits: GoldenLimits, score_threshold: float
) -> tuple[float, float, int]:
    """Compare the found boxes of one frame with the expected ones.

    Args:
        expected: The boxes at or above the score threshold.
        found: Every output row, also rows below the score threshold. A score that falls from 0.301 to 0.299 on another
            provider then does not count as a missing box.
        limits: The smallest IoU at which two boxes are at the same place, and how far a score may be off.
        score_threshold: The threshold of the contract. A box that rises from just below to just above it is allowed.

    Returns:
        The worst IoU, the worst score difference and the number of unexpected boxes, as in `GoldenResult`.
    """
    grown_iou = iou_xyxy(_grown(expected.boxes_xyxy), _grown(found.boxes_xyxy))
    iou = np.where(expected.labels[:, None] == found.labels[None, :], grown_iou, 0)
    apart = np.abs(expected.scores[:, None] - found.scores[None, :])
    same_place = iou >= limits.box_iou_min
    sure = found.scores >= score_threshold + limits.score_difference_max
    matched = (same_place & (apart <= limits.score_difference_max)).any(axis=0)
    # NumPy's min and max keep NaN, so that `within` fails. Python's may drop it.
    worst_iou = iou.max(axis=1, initial=0.0).min(initial=1.0)
    nearest = np.where(same_place, apart, 1.0).min(axis=1, initial=1.0)
    return float(worst_iou), float(nearest.max(initial=0.0)), int((sure & ~matched).sum())


def _grown(boxes_xyxy: Float32Array) -> Float32Array:
    margin = np.array([-BOX_MARGIN_PX, -BOX_MARGIN_PX, BOX_MARGIN_PX, BOX_MARGIN_PX], np.float32)
    return np.asarray(boxes_xyxy + margin, np.float32)


def class_map_agreement(expected: UInt8Array, found: UInt8Array) -> float:
    """Return the share of equal cells, 0..1."""
    return float(np.mean(expected == found))
