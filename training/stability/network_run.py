"""One network on one source of frames: what flips, which boxes lose their partner, and which objects come and go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.flow import Flow
from ros_kd_perception.structures import Detections, Perception
from training.data.sample import Sample
from training.evaluation.class_places import ClassPlaces
from training.evaluation.models import EvaluatedModel
from training.evaluation.scoring import perceive_sample
from training.label_sets.label_set import UNLABELED_ID
from training.stability import figures as named
from training.stability.figures import SourceFigures
from training.stability.flicker import FlickerCounts, FlickerMap, flicker_map, in_cells
from training.stability.objects import FirstFound, FrameObjects, ObjectChanges, lost_by_pair, seen_objects
from training.stability.sequence import FrameTruth, SequenceFrame
from training.stability.spread import PairCounts, Spread, stretches
from training.stability.warped_boxes import PartnerCounts, partners


@dataclass
class Worst:
    """The pair of frames with the most flips beyond edges.

    Attributes:
        frame: The later frame.
        flips: Its flips.
        share: Share of the pixels that flip beyond edges.
    """

    frame: SequenceFrame | None = None
    flips: FlickerMap | None = None
    share: float = -1.0


@dataclass
class NetworkRun:
    """One network on one source, frame by frame.

    Attributes:
        model: The network.
        flicker: Counts of all pairs so far.
        course: Share of flips of each pair so far.
        cells_flicker: Flips of the exact labels of all pairs so far, in cells as large as those of the network.
        pair_rows: Part and whole of each pair so far, by the names of SHARES.
        partner_counts: Boxes with and without partners so far.
        drives: Objects of each frame of each drive so far.
        worst: The worst pair so far.
    """

    model: EvaluatedModel
    box_ids: Mapping[int, int]
    flicker: FlickerCounts = field(init=False)
    course: list[float] = field(init=False, default_factory=list)
    partner_counts: PartnerCounts = field(init=False, default_factory=PartnerCounts)
    cells_flicker: FlickerCounts = field(init=False, default_factory=lambda: FlickerCounts.none(UNLABELED_ID))
    pair_rows: dict[str, list[tuple[float, float]]] = field(init=False, default_factory=lambda: defaultdict(list))
    drives: list[list[FrameObjects]] = field(init=False, default_factory=list)
    worst: Worst = field(init=False, default_factory=Worst)

    def __post_init__(self) -> None:
        self._places = ClassPlaces(self.model.contract)
        self.flicker = FlickerCounts.none(len(self.model.contract.segmentation_classes))
        self._before: Perception | None = None
        self._cells_before: NDArray[np.uint8] | None = None

    def begin(self) -> None:
        """Begin a new sequence."""
        self._before = self._cells_before = None
        self.drives.append([])

    def add(self, frame: SequenceFrame) -> None:
        """Perceive a frame and compare it with the one before.

        Raises:
            CheckpointError: The outputs of the network contain NaN or infinity.
        """
        perception = perceive_sample(self.model.perceiver, self._places, sample_of(frame))
        before, flow = self._before, frame.flow
        self._before = perception
        if before is not None and flow is not None:
            if before.class_map is not None and perception.class_map is not None:
                self._add_flips(frame, flicker_map(before.class_map, perception.class_map, flow))
            if before.detections is not None and perception.detections is not None:
                self._add_partners(partners(self._reported(before), self._reported(perception), flow))
        if frame.truth is not None:
            self._add_cells(frame.truth.class_map, flow)
        if frame.truth is not None and perception.detections is not None:
            self.drives[-1].append(self._objects(self._reported(perception), frame.truth))

    def _add_flips(self, frame: SequenceFrame, found: FlickerMap) -> None:
        counts = found.counts(len(self.flicker.pixels))
        self.flicker += counts
        self.course.append(counts.share or 0.0)
        pixels = float(counts.pixels.sum())
        self.pair_rows[named.FLICKER].append((float(counts.flips.sum()), pixels))
        self.pair_rows[named.BEYOND_EDGES].append((float(counts.beyond_edges.sum()), pixels))
        if (counts.share_beyond_edges or 0.0) > self.worst.share:
            self.worst = Worst(frame, found, counts.share_beyond_edges or 0.0)

    def _add_cells(self, labels: NDArray[np.uint8], flow: Flow | None) -> None:
        spec, size = self.model.contract.class_map, self.model.contract.input
        if spec is None:
            return
        height, width = labels.shape
        cells = in_cells(labels, spec.stride / min(size.height / height, size.width / width))
        if self._cells_before is not None and flow is not None:
            self.cells_flicker += flicker_map(self._cells_before, cells, flow).counts(UNLABELED_ID)
        self._cells_before = cells

    def _add_partners(self, found: PartnerCounts) -> None:
        self.partner_counts += found
        self.pair_rows[named.ALONE].append((float(found.alone), float(found.boxes)))

    def spread(self, pairs: Sequence[int], height_min_px: float, rate_hz: float | None) -> Spread:
        """Return the shares on resampled stretches of the sequences, which have so many pairs each."""
        rows = self.pair_rows | {named.LOST: lost_by_pair(self.drives, height_min_px)}
        return Spread.of({name: PairCounts.of(each) for name, each in rows.items() if each}, stretches(pairs, rate_hz))

    def _reported(self, perception: Perception) -> Detections:
        assert perception.detections is not None
        return perception.detections.at_least(self.model.contract.score_threshold)

    def _objects(self, found: Detections, truth: FrameTruth) -> FrameObjects:
        labels = np.array([self.box_ids.get(int(label), -1) for label in truth.labels], np.int32)
        known = labels >= 0
        return seen_objects(found, truth.boxes_xyxy[known], labels[known], truth.instance_ids[known])

    def figures(self, height_min_px: float, rate_hz: float | None) -> SourceFigures:
        """Return the figures of all frames so far."""
        names = [info.name for info in self._places.contract.segmentation_classes]
        shares = [
            float(flips / pixels) if pixels else None
            for flips, pixels in zip(self.flicker.flips, self.flicker.pixels, strict=True)
        ]
        values: dict[str, float | None] = {}
        counts: dict[str, int] = {}
        if self.model.contract.class_map is not None:
            values |= {
                named.FLICKER: self.flicker.share,
                named.BEYOND_EDGES: self.flicker.share_beyond_edges,
            }
            if self.cells_flicker.pixels.any():
                values |= {
                    named.CELLS_FLICKER: self.cells_flicker.share,
                    named.CELLS_BEYOND: self.cells_flicker.share_beyond_edges,
                }
            counts["pixels"] = int(self.flicker.pixels.sum())
        if self.model.contract.detections is not None:
            values[named.ALONE] = self.partner_counts.share
            counts["boxes followed"] = self.partner_counts.boxes
            if any(self.drives) and rate_hz is not None:
                values |= self._object_values(height_min_px, rate_hz, counts)
        return SourceFigures(values, dict(zip(names, shares, strict=True)), tuple(self.course), counts)

    def _object_values(self, height_min_px: float, rate_hz: float, counts: dict[str, int]) -> dict[str, float | None]:
        changes = ObjectChanges.of(self.drives, height_min_px)
        first = FirstFound.of(self.drives, height_min_px, rate_hz)
        counts |= {"object views": changes.watched, "objects that came": len(first.frames)}
        waits = {name: first.quantile(share) for name, share in ((named.FIRST_MS, 0.5), (named.FIRST_MS_P90, 0.9))}
        return {
            named.LOST: changes.lost / changes.found_before if changes.found_before else None,
            named.FLIPS_PER_S: (changes.lost + changes.gained) * rate_hz / changes.watched if changes.watched else None,
            named.MOVES_PX: _quantile(changes.moves_px, 0.5),
            named.MOVES_PX_P90: _quantile(changes.moves_px, 0.9),
            named.MOVES_SHARE: _quantile(changes.moves_share, 0.5),
            named.GROWTHS: _quantile(changes.growths, 0.5),
            named.GROWTHS_P90: _quantile(changes.growths, 0.9),
            **{name: None if wait is None else wait * 1e3 / rate_hz for name, wait in waits.items()},
            named.NEVER: first.never / len(first.frames) if len(first.frames) else None,
        }


def sample_of(frame: SequenceFrame) -> Sample:
    """Return a frame as a sample without labels, which models perceive."""
    mask = np.full(frame.image_bgr.shape[:2], UNLABELED_ID, np.uint8)
    return Sample(frame.name, frame.image_bgr, mask, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def _quantile(values: NDArray[np.float64], share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None
