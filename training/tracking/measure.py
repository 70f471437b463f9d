"""Run models and trackers over rendered drives, whose objects are known, and score the ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.structures import Detections
from ros_kd_perception.tracking.byte_tracker import NO_TRACK, ByteTracker, TrackingSettings
from training.evaluation.class_places import ClassPlaces
from training.evaluation.models import EvaluatedModel
from training.evaluation.scoring import perceive_sample
from training.stability.measure import box_ids
from training.stability.network_run import sample_of
from training.stability.rendered_drive import RenderedDrive
from training.stability.sequence import FrameTruth, SequenceFrame
from training.tracking.greedy_tracker import GreedyTracker
from training.tracking.scores import IDENTITY_OVERLAP, ScoredFrame, TrackingScores

TRUE_BOXES = "true boxes"


class Tracker(Protocol):
    """Gives boxes ids."""

    def update(self, stamp_ns: int, found: Detections) -> NDArray[np.int64]:
        """Return the ids of the boxes of a frame, int64 `[n]`; `NO_TRACK` for boxes without one."""
        ...


TRACKERS: dict[str, Callable[[TrackingSettings], Tracker]] = {"ByteTrack": ByteTracker, "greedy IoU": GreedyTracker}


def measure(
    models: Mapping[str, EvaluatedModel],
    drives: Sequence[RenderedDrive],
    settings: TrackingSettings,
    height_min_px: float,
) -> dict[str, dict[str, TrackingScores]]:
    """Return the scores by model and tracker. The first model is `TRUE_BOXES`: every object, exactly where it is.

    Args:
        models: The models by name.
        drives: Rendered drives.
        settings: How objects are followed.
        height_min_px: Objects that are lower do not count, nor do boxes on them.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
    """
    names = (TRUE_BOXES, *models)
    scores = {name: {tracker: TrackingScores() for tracker in TRACKERS} for name in names}
    places = {name: ClassPlaces(model.contract) for name, model in models.items()}
    labels = {name: box_ids(model.label_set)[0] for name, model in models.items()}
    bar = tqdm(total=sum(map(len, drives)), desc="drives", unit="frame", disable=None)
    for drive in drives:
        trackers = {(name, kind): make(settings) for name in names for kind, make in TRACKERS.items()}
        scored: dict[tuple[str, str], list[ScoredFrame]] = {pair: [] for pair in trackers}
        for number, frame in enumerate(drive):
            stamp_ns = round(number * 1e9 / drive.rate_hz)
            truth = _truth(frame)
            found = {TRUE_BOXES: (_exact(truth, height_min_px), truth)}
            for name, model in models.items():
                perception = perceive_sample(model.perceiver, places[name], sample_of(frame))
                boxes = perception.require_detections().at_least(model.contract.score_threshold)
                found[name] = boxes, _in_classes(truth, labels[name])
            for (name, kind), tracker in trackers.items():
                boxes, true = found[name]
                scored[name, kind].append(scored_frame(boxes, tracker.update(stamp_ns, boxes), true, height_min_px))
            bar.update()
        for (name, kind), frames in scored.items():
            scores[name][kind] += TrackingScores.of(frames)
    bar.close()
    return scores


def scored_frame(found: Detections, ids: NDArray[np.int64], truth: FrameTruth, height_min_px: float) -> ScoredFrame:
    """Return a frame to score: the boxes that have ids, without those on objects that do not count.

    Args:
        found: The boxes.
        ids: int64 `[n]`, their ids.
        truth: The objects.
        height_min_px: Objects that are lower do not count.
    """
    tracked = found.rows(ids != NO_TRACK)
    overlaps = iou_xyxy(tracked.boxes_xyxy, truth.boxes_xyxy).astype(np.float64)
    overlaps[tracked.labels[:, None] != truth.labels] = 0.0
    counts = truth.boxes_xyxy[:, 3] - truth.boxes_xyxy[:, 1] >= height_min_px
    best = overlaps[:, counts].max(axis=1, initial=0.0)
    on_others = overlaps[:, ~counts].max(axis=1, initial=0.0)
    kept = ~((on_others >= IDENTITY_OVERLAP) & (on_others > best))
    own_ids = ids[ids != NO_TRACK][kept]
    return ScoredFrame(truth.instance_ids[counts].astype(np.int64), own_ids, overlaps[kept][:, counts].T)


def _truth(frame: SequenceFrame) -> FrameTruth:
    assert frame.truth is not None  # rendered drives have it
    return frame.truth


def _exact(truth: FrameTruth, height_min_px: float) -> Detections:
    counts = truth.boxes_xyxy[:, 3] - truth.boxes_xyxy[:, 1] >= height_min_px
    ones = np.ones(int(counts.sum()), np.float32)
    return Detections(truth.boxes_xyxy[counts].astype(np.float32), ones, truth.labels[counts].astype(np.int32))


def _in_classes(truth: FrameTruth, labels: Mapping[int, int]) -> FrameTruth:
    """Return the objects of classes that a model has, with its labels."""
    own = np.array([labels.get(int(label), -1) for label in truth.labels], np.int32)
    known = own >= 0
    return FrameTruth(truth.class_map, truth.boxes_xyxy[known], own[known], truth.instance_ids[known])
