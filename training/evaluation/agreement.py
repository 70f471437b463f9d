"""How far models agree on frames without labels: figures that need no truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Detections, Perception
from training.data.readers.frame_folder import FrameFolder
from training.evaluation.bootstrap import Values, frame_weights, mean_of
from training.evaluation.class_places import ClassPlaces
from training.evaluation.models import EvaluatedModel
from training.evaluation.score_figures import Figure, figure_of
from training.evaluation.scoring import perceive_sample

SAME_BOX_IOU = 0.5


@dataclass(frozen=True)
class Agreement:
    """How far a model agrees with the first one. A figure is None where a model lacks the output, or nothing is seen.

    Attributes:
        same_pixels: Share of the pixels to which both give one class, by its name.
        miou: Mean of `iou`.
        iou: Intersection over union between both class maps, of each class that both models have.
        same_boxes: Share of the boxes of both models that the other one reports, too: same class, IoU of 0.5.
    """

    same_pixels: Figure | None
    miou: Figure | None
    iou: dict[str, Figure]
    same_boxes: Figure | None


@dataclass(frozen=True)
class SeenFrames:
    """What one model made of frames without labels.

    Attributes:
        agreement: With the first model; None for the first one.
        times_ms: Time of its network for each frame.
        boxes: Mean number of boxes that it reports on a frame; None without boxes.
    """

    agreement: Agreement | None
    times_ms: tuple[float, ...]
    boxes: float | None


def agree_side_by_side(
    models: Mapping[str, EvaluatedModel], frames: FrameFolder, groups: Sequence[str] | None = None
) -> dict[str, SeenFrames]:
    """Run all models on each frame in turn and compare each with the first.

    Args:
        models: The models by name.
        frames: Frames; their labels are not used.
        groups: Group of each frame, for example its drive, see `frame_weights`. None = frames are drawn one by one.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
    """
    first, *others = models
    places = {name: ClassPlaces(model.contract) for name, model in models.items()}
    counts = {name: AgreementCounts(places[first], places[name]) for name in others}
    times_ms: dict[str, list[float]] = {name: [] for name in models}
    boxes: dict[str, list[int]] = {name: [] for name in models}
    for model in models.values():
        model.perceiver.warm_up()
    for number in tqdm(range(len(frames)), desc="comparing", unit="frame", disable=None):
        sample = frames[number]
        seen = {name: perceive_sample(model.perceiver, places[name], sample) for name, model in models.items()}
        for name, perception in seen.items():
            times_ms[name].append(perception.timing.inference_ms)
            boxes[name] += _count(perception, places[name])
        for name in others:
            counts[name].add(seen[first], seen[name])
    return {
        name: SeenFrames(
            counts[name].figures(groups) if name in counts else None,
            tuple(times_ms[name]),
            float(np.mean(boxes[name])) if boxes[name] else None,
        )
        for name in models
    }


class AgreementCounts:
    """Counts pixels and boxes of two models on the same frames."""

    def __init__(self, first: ClassPlaces, other: ClassPlaces) -> None:
        """Begin with no frames.

        Args:
            first: The classes of the first model. They are compared by name.
            other: Those of the other model.
        """
        self._contracts = first.contract, other.contract
        of_first, of_other = (contract.segmentation_classes for contract in self._contracts)
        known = {info.name for info in of_other}
        self._classes = [info.name for info in of_first if info.name in known]
        # After the shared classes: a class that the other model lacks, and no class.
        self._numbers = [_numbers(each, self._classes) for each in (of_first, of_other)]
        self._pixels: list[NDArray[np.int64]] = []
        self._boxes: list[tuple[int, int]] = []  # boxes of both models, and those that the other one has, too

    def add(self, first: Perception, other: Perception) -> None:
        """Add what both made of a frame, with places for ids, see `ClassPlaces`."""
        if first.class_map is not None and other.class_map is not None:
            rows, columns = (
                table[each.class_map].astype(np.int64).ravel()
                for table, each in zip(self._numbers, (first, other), strict=True)
            )
            side = len(self._classes) + 2
            self._pixels.append(np.bincount(rows * side + columns, minlength=side * side).reshape(side, side))
        if first.detections is not None and other.detections is not None:
            found = [
                each.at_least(contract.score_threshold)
                for each, contract in zip((first.detections, other.detections), self._contracts, strict=True)
            ]
            names = [[info.name for info in contract.detection_classes] for contract in self._contracts]
            pairs = same_boxes(found[0], names[0], found[1], names[1])
            self._boxes.append((len(found[0].labels) + len(found[1].labels), 2 * pairs))

    def figures(self, groups: Sequence[str] | None = None) -> Agreement:
        """Return the figures of all frames so far, with intervals over resamples of the frames, or of their groups."""
        same_pixels = miou = None
        iou: dict[str, Figure] = {}
        shared = len(self._classes)
        if self._pixels:
            units = len(self._pixels) if groups is None else len({*groups})
            weights = frame_weights(len(self._pixels), groups=groups)
            pixels = np.tensordot(weights, np.stack(self._pixels), axes=1)  # (1 + resamples, side, side)
            hits = np.diagonal(pixels, axis1=1, axis2=2)[:, :shared]
            either = pixels.sum(axis=2)[:, :shared] + pixels.sum(axis=1)[:, :shared] - hits
            counted = pixels.sum(axis=(1, 2)) - pixels[:, -1, -1]
            shares = _ratio(hits, either)
            same_pixels = figure_of(_ratio(hits.sum(axis=1), counted), None, units)
            miou = figure_of(mean_of(shares), None, units)
            iou = {name: figure_of(shares[:, place], None, units) for place, name in enumerate(self._classes)}
        same = None
        if self._boxes:
            units = len(self._boxes) if groups is None else len({*groups})
            boxes = frame_weights(len(self._boxes), groups=groups) @ np.array(self._boxes)
            same = figure_of(_ratio(boxes[:, 1], boxes[:, 0]), None, units)
        return Agreement(same_pixels, miou, iou, same)


def same_boxes(first: Detections, first_names: Sequence[str], other: Detections, other_names: Sequence[str]) -> int:
    """Return how many boxes of two models are of one object: one class, and an IoU of SAME_BOX_IOU or more.

    Each box is in one pair at most; pairs of a higher IoU come first.
    """
    overlap = iou_xyxy(first.boxes_xyxy, other.boxes_xyxy)
    names = [[names[label] for label in found.labels] for names, found in ((first_names, first), (other_names, other))]
    overlap = np.where(np.array(names[0], np.str_)[:, None] == np.array(names[1], np.str_)[None, :], overlap, 0.0)
    pairs = 0
    while overlap.size and overlap.max() >= SAME_BOX_IOU:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        overlap[row], overlap[:, column] = 0.0, 0.0
        pairs += 1
    return pairs


def _numbers(classes: Sequence[ClassInfo], shared: Sequence[str]) -> NDArray[np.uint8]:
    """Return for each id of a class map, 0..255, the place of its class among the shared ones."""
    table = np.full(256, len(shared) + 1, np.uint8)
    for info in classes:
        table[info.id] = shared.index(info.name) if info.name in shared else len(shared)
    return table


def _count(perception: Perception, places: ClassPlaces) -> list[int]:
    found = perception.detections
    return [] if found is None else [len(found.at_least(places.contract.score_threshold).labels)]


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Values:
    ratio: Values = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return ratio
