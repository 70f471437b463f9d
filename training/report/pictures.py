"""Pictures of frames in a report: the frame, its labels, and what each model sees."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.structures import Perception, UInt8Array
from training.data.sample import Sample
from training.evaluation.evaluate import Evaluation, reported, true_perception
from training.report.measure import Measured, MeasuredFrames, frame_scores

WIDTH_PX = 460
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 82)


@dataclass(frozen=True)
class ShownFrame:
    """A frame of a report.

    Attributes:
        name: Name of the frame.
        score: Its score, see `frame_scores`.
        pictures: JPEGs as data URIs, by what they show.
    """

    name: str
    score: float
    pictures: dict[str, str]


def shown_frames(measured: Measured, frames: MeasuredFrames) -> tuple[list[ShownFrame], list[ShownFrame]]:
    """Return the worst and the best frames with their pictures."""
    evaluations = {name: Evaluation.of(model, frames.frames) for name, model in measured.models.items()}
    scores = frame_scores(frames.records["model"])

    def shown(place: int) -> ShownFrame:
        return ShownFrame(frames.frames.names[place], float(scores[place]), _pictures(evaluations, place))

    return [shown(place) for place in frames.worst], [shown(place) for place in frames.best]


def _pictures(evaluations: Mapping[str, Evaluation], place: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, evaluation in evaluations.items():
        sample, perception = evaluation.add(place)
        contract = evaluation.scorer.contract
        if not found:
            found["frame"] = _encoded(sample.image_bgr)
        if name == "model":
            found["labels"] = _encoded(_labels(sample, perception, contract))
        found[name] = _encoded(draw_overlay(sample.image_bgr, reported(perception, contract), contract))
    order = [name for name in ("frame", "labels", "teacher", "baseline", "model") if name in found]
    return {name: found[name] for name in order}


def _labels(sample: Sample, perception: Perception, contract: ModelContract) -> UInt8Array:
    return draw_overlay(sample.image_bgr, true_perception(sample, perception), contract)


def _encoded(image_bgr: UInt8Array) -> str:
    """Return a picture as a data URI, as wide as it is shown at most."""
    height, width = image_bgr.shape[:2]
    if width > WIDTH_PX:
        size = (WIDTH_PX, max(1, round(height * WIDTH_PX / width)))
        image_bgr = np.asarray(cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", image_bgr, _JPEG)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
