"""Run networks over sequences of frames, side by side, and measure how stable their answers are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.structures import Detections, Perception
from training.data.sample import Sample
from training.errors import DataError
from training.evaluation.class_places import ClassPlaces
from training.evaluation.models import EvaluatedModel
from training.evaluation.scoring import perceive_sample
from training.label_sets.label_set import UNLABELED_ID, LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import match_classes
from training.stability import figures as named
from training.stability.figures import SourceFacts, SourceFigures, Stability
from training.stability.flicker import FlickerCounts, FlickerMap, flicker_map
from training.stability.objects import FirstFound, FrameObjects, ObjectChanges, lost_by_pair, seen_objects
from training.stability.real_frames import RealFrames
from training.stability.rendered_drive import RenderedDrive
from training.stability.sequence import FrameSequence, FrameTruth, SequenceFrame
from training.stability.spread import PairCounts, Spread, stretches
from training.stability.warped_boxes import PartnerCounts, partners

RENDERED = "rendered drives"
EXACT, ESTIMATED = "exact, from the renderer", "estimated from the images (DIS optical flow, checked there and back)"


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
    pair_rows: dict[str, list[tuple[float, float]]] = field(init=False, default_factory=lambda: defaultdict(list))
    drives: list[list[FrameObjects]] = field(init=False, default_factory=list)
    worst: Worst = field(init=False, default_factory=Worst)

    def __post_init__(self) -> None:
        self._places = ClassPlaces(self.model.contract)
        self.flicker = FlickerCounts.none(len(self.model.contract.segmentation_classes))
        self._before: Perception | None = None

    def begin(self) -> None:
        """Begin a new sequence."""
        self._before = None
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


@dataclass(frozen=True)
class Measured:
    """What was measured, and what is to be looked at.

    Attributes:
        stability: The figures.
        worst: The worst pair of frames by name of the source and name of the network.
    """

    stability: Stability
    worst: dict[str, dict[str, Worst]]


def measure(
    models: Mapping[str, EvaluatedModel],
    drives: Sequence[RenderedDrive],
    real: Sequence[RealFrames],
    height_min_px: float,
) -> Measured:
    """Run all models over all frames.

    Args:
        models: The models by name.
        drives: Rendered drives; all of them together are one source.
        real: Folders and bags; each is a source.
        height_min_px: Rendered objects that are lower do not count.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
        DataError: A frame cannot be read, or no two frames of a source follow each other.
    """
    sources: dict[str, Sequence[FrameSequence]] = {RENDERED: drives} if drives else {}
    sources |= {str(each.path): [each] for each in real}
    facts: dict[str, SourceFacts] = {}
    found: dict[str, dict[str, SourceFigures]] = {name: {} for name in models}
    worst: dict[str, dict[str, Worst]] = {}
    lost: set[str] = set()
    for name, sequences in sources.items():
        matched = {row: box_ids(model.label_set) for row, model in models.items()}
        runs = {row: NetworkRun(model, matched[row][0]) for row, model in models.items()}
        height = height_min_px if name == RENDERED else None
        facts[name], pairs = _run(name, sequences, list(runs.values()), height)
        spreads = {row: run.spread(pairs, height_min_px, facts[name].rate_hz) for row, run in runs.items()}
        for row, run in runs.items():
            figures = run.figures(height_min_px, facts[name].rate_hz)
            found[row][name] = with_spread(figures, spreads[row], next(iter(spreads.values())))
            if name == RENDERED and matched[row][1]:
                lost.add(f"{row} has no boxes of {', '.join(matched[row][1])}: these objects of drives do not count")
        worst[name] = {row: run.worst for row, run in runs.items()}
    return Measured(Stability(facts, found, tuple(sorted(lost))), worst)


def _run(
    name: str, sequences: Sequence[FrameSequence], runs: Sequence[NetworkRun], height_min_px: float | None
) -> tuple[SourceFacts, list[int]]:
    """Run the networks, and return the facts of the source with the number of pairs of each sequence."""
    frames, pairs = 0, []
    seen: list[float] = []
    truth = FlickerCounts.none(UNLABELED_ID)
    bar = tqdm(total=sum(map(len, sequences)), desc=name, unit="frame", disable=None)
    for sequence in sequences:
        for run in runs:
            run.begin()
        before: NDArray[np.uint8] | None = None
        pairs.append(0)
        for frame in sequence:
            for run in runs:
                run.add(frame)
            frames += 1
            if frame.flow is not None:
                pairs[-1] += 1
                seen.append(float(frame.flow.visible.mean()))
                if frame.truth is not None and before is not None:
                    truth += flicker_map(before, frame.truth.class_map, frame.flow).counts(UNLABELED_ID)
            before = frame.truth.class_map if frame.truth else None
            bar.update()
    bar.close()
    if not sum(pairs):
        raise DataError(
            f"{name}: expected frames that follow each other, found no two neighbours that show the same scene; name "
            "the frames of a video in their order, such as those of extract-frames with a stride of 1"
        )
    rate = sequences[0].rate_hz
    known = height_min_px is not None
    own = {named.FLICKER: truth.share, named.BEYOND_EDGES: truth.share_beyond_edges} if known else {}
    motion = EXACT if known else ESTIMATED
    return SourceFacts(frames, sum(pairs), rate, motion, float(np.mean(seen)), own, height_min_px), pairs


def with_spread(figures: SourceFigures, spread: Spread, first: Spread) -> SourceFigures:
    """Return figures with intervals and, for all networks but the first, with differences to it."""
    intervals = {name: each for name in named.SHARES if (each := spread.interval(name)) is not None}
    if spread is first:
        return replace(figures, intervals=intervals)
    apart = {name: spread.difference(first, name) for name in named.SHARES}
    differences = {name: each for name, each in apart.items() if each is not None}
    return replace(figures, intervals=intervals, differences=differences)


def box_ids(classes: LabelSet) -> tuple[dict[int, int], list[str]]:
    """Return the model's id of each class of boxes of the renderer, and the names of those that it does not have."""
    rendered = load_label_set("rendered")
    ids = {info.name: info.id for info in classes.detection_classes}
    if not ids:
        return {}, []
    matches = match_classes(rendered, classes)["detection"]
    known = {info.id: ids[matches[info.name].target] for info in rendered.detection if matches[info.name].target in ids}
    return known, [info.name for info in rendered.detection if info.id not in known]


def sample_of(frame: SequenceFrame) -> Sample:
    """Return a frame as a sample without labels, which models perceive."""
    mask = np.full(frame.image_bgr.shape[:2], UNLABELED_ID, np.uint8)
    return Sample(frame.name, frame.image_bgr, mask, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def _quantile(values: NDArray[np.float64], share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None
