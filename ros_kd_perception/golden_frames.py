"""Golden frames: a few network inputs with the outputs they must give, inside the ONNX file.

Opening a model re-runs them on the provider and precision that are really used; see `onnx_model.py`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.golden_match import GoldenResult, class_map_agreement, compare_boxes
from ros_kd_perception.model_contract import ContractError, ModelContract
from ros_kd_perception.structures import Detections, UInt8Array

GOLDEN_KEY = "ros_kd_perception.golden"
MAX_GOLDEN_CHARACTERS = 2 << 20
MAX_GOLDEN_FRAMES = 8


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

    def compare(self, class_map: UInt8Array, found: Detections, contract: ModelContract) -> GoldenResult:
        """How far the outputs of a run on `image` are off; `found` holds every row, whatever its score."""
        limit, threshold = contract.golden.box_iou_min, contract.detections.score_threshold
        return GoldenResult(
            class_map_agreement(self.class_map, class_map),
            *compare_boxes(self.detections, found, limit, threshold),
        )


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
        ],
        allow_nan=False,
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
