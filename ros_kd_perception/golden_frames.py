"""Golden frames: a few network inputs with the outputs they must give, inside the ONNX file.

Opening a model re-runs them on the provider and precision that are really used; see `onnx_model.py`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.model_contract import ContractError, GoldenLimits, ModelContract
from ros_kd_perception.structures import Detections, Float32Array, UInt8Array

GOLDEN_KEY = "ros_kd_perception.golden"
MAX_GOLDEN_CHARACTERS = 2 << 20
MAX_GOLDEN_FRAMES = 8


@dataclass(frozen=True)
class GoldenResult:
    """The worst of the golden frames: share of equal cells of the class map, IoU of the boxes, each 0..1."""

    class_map_agreement: float
    box_iou: float

    def within(self, limits: GoldenLimits) -> bool:
        """Whether both are as good as the contract asks; NaN is not."""
        return self.class_map_agreement >= limits.class_map_agreement_min and self.box_iou >= limits.box_iou_min

    def worse(self, other: GoldenResult) -> GoldenResult:
        """The worse of both figures."""
        return GoldenResult(min(self.class_map_agreement, other.class_map_agreement), min(self.box_iou, other.box_iou))


@dataclass(frozen=True)
class GoldenFrame:
    """One network input and what the exporting machine got for it.

    Attributes:
        image: uint8 `[H, W, 3]`, a network input (after the letterbox), channels as the contract says.
        class_map: uint8 `[H/s, W/s]`.
        detections: those at or above the contract's score threshold, network-input pixels.
    """

    image: UInt8Array
    class_map: UInt8Array
    detections: Detections

    def compare(self, class_map: UInt8Array, found: Detections) -> GoldenResult:
        """How far the outputs of a run on `image` are off; `found` as for `worst_box_iou`."""
        return GoldenResult(class_map_agreement(self.class_map, class_map), worst_box_iou(self.detections, found))


def golden_to_text(frames: list[GoldenFrame]) -> str:
    """JSON with PNGs in base64, for the metadata of the ONNX file.

    Raises:
        ValueError: more than `MAX_GOLDEN_FRAMES` frames, or over 2 MiB of text.
    """
    if not 0 < len(frames) <= MAX_GOLDEN_FRAMES:
        raise ValueError(f"expected 1 to {MAX_GOLDEN_FRAMES} golden frames, got {len(frames)}")
    text = json.dumps(
        [
            {
                "image_png": _to_png(frame.image),
                "class_map_png": _to_png(frame.class_map),
                "boxes": frame.detections.boxes_xyxy.round(3).tolist(),
                "scores": frame.detections.scores.round(5).tolist(),
                "labels": frame.detections.labels.tolist(),
            }
            for frame in frames
        ]
    )
    if len(text) > MAX_GOLDEN_CHARACTERS:
        raise ValueError(
            f"expected golden frames of at most {MAX_GOLDEN_CHARACTERS} bytes, got {len(text)}; use fewer frames"
        )
    return text


def golden_from_text(text: str, contract: ModelContract) -> list[GoldenFrame]:
    """Read golden frames back, checked against the contract's shapes.

    Raises:
        ContractError: malformed, too large, or of another size than the contract's.
    """
    if len(text) > MAX_GOLDEN_CHARACTERS:
        raise ContractError(
            f"expected golden frames of at most {MAX_GOLDEN_CHARACTERS} bytes, got {len(text)}; export the model again"
        )
    size = contract.input
    try:
        rows = json.loads(text)
        if not 0 < len(rows) <= MAX_GOLDEN_FRAMES:
            raise ValueError(f"{len(rows)} frames")
        return [
            GoldenFrame(
                image=_from_png(row["image_png"], (size.height, size.width, 3)),
                class_map=_from_png(row["class_map_png"], contract.output_shapes()["class_map"]),
                detections=Detections(
                    np.asarray(row["boxes"], np.float32).reshape(-1, 4),
                    np.asarray(row["scores"], np.float32).reshape(-1),
                    np.asarray(row["labels"], np.int32).reshape(-1),
                ),
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, cv2.error) as error:
        raise ContractError(
            f"expected 1 to {MAX_GOLDEN_FRAMES} golden frames that fit the contract, got {str(error)[:120]}; "
            "export the model again"
        ) from None


def class_map_agreement(expected: UInt8Array, found: UInt8Array) -> float:
    """Share of equal cells, 0..1."""
    return float(np.mean(expected == found))


def worst_box_iou(expected: Detections, found: Detections) -> float:
    """Smallest over all expected boxes of the best IoU with a found box of the same label; 1 where none is expected.

    `found` should hold every output row, those under the score threshold too, so that a score that falls from 0.301
    to 0.299 on another provider is no disagreement.
    """
    worst = 1.0
    for box, label in zip(expected.boxes_xyxy, expected.labels, strict=True):
        same = found.boxes_xyxy[found.labels == label]
        worst = min(worst, float(iou_xyxy(box[None], same).max(initial=0.0)))
    return worst


def iou_xyxy(boxes_a: Float32Array, boxes_b: Float32Array) -> Float32Array:
    """Intersection over union of every pair: `[n, 4]` and `[m, 4]` xyxy -> float32 `[n, m]`."""
    corner_min = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    corner_max = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    intersection = (corner_max - corner_min).clip(min=0).prod(axis=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).clip(min=0).prod(axis=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).clip(min=0).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - intersection
    return np.asarray(intersection / np.maximum(union, 1e-9), np.float32)


def _to_png(image: UInt8Array) -> str:
    encoded, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not encoded:
        raise ValueError(f"expected an image that PNG can hold, got {image.dtype} {image.shape}")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _from_png(text: str, shape: tuple[int, ...]) -> UInt8Array:
    data = base64.b64decode(text, validate=True)
    # Width and height stand at fixed places of a PNG; read them first, so that a lying header allocates nothing.
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if (height, width) != shape[:2]:
        raise ValueError(f"a picture of {height}x{width} instead of {shape[0]}x{shape[1]}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape != shape or image.dtype != np.uint8:
        raise ValueError("a picture that does not decode")
    return np.asarray(image, np.uint8)
