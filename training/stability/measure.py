"""Run networks over sequences of frames, side by side, and measure how stable their answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import DataError
from training.evaluation.models import EvaluatedModel
from training.label_sets.label_set import UNLABELED_ID, LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import match_classes
from training.stability import figures as named
from training.stability.figures import SourceFacts, SourceFigures, Stability
from training.stability.flicker import FlickerCounts, flicker_map
from training.stability.network_run import NetworkRun, Worst
from training.stability.real_frames import RealFrames
from training.stability.rendered_drive import RenderedDrive
from training.stability.sequence import FrameSequence
from training.stability.spread import Spread

RENDERED = "rendered drives"
EXACT, ESTIMATED = "exact, from the renderer", "estimated from the images (DIS optical flow, checked there and back)"


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
