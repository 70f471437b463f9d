"""The verdict of a comparison in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ros_kd_perception.differences.figures import NEW, OLD, Figures
from ros_kd_perception.differences.limits import Judged, beyond, percent
from ros_kd_perception.differences.masks import class_ious

EXIT_WITHIN, EXIT_BEYOND, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 1, 2, 130

_WORST_CLASSES = 3


@dataclass(frozen=True)
class Verdict:
    """What the comparison says.

    Attributes:
        headline: The verdict in one line.
        sentences: What it rests on.
        is_within: Whether every limit is kept.
    """

    headline: str
    sentences: tuple[str, ...]
    is_within: bool

    @classmethod
    def of(cls, figures: Figures, judged: Sequence[Judged], notes: Sequence[str]) -> Verdict:
        """Put the figures into words.

        Args:
            figures: The figures.
            judged: The limits.
            notes: Sentences that a reader of the verdict must know.
        """
        broken = beyond(judged)
        frames = counted(figures.total.frames, "frame")
        if broken:
            headline = f"Beyond {len(broken)} of {len(judged)} limits"
        elif has_no_difference(figures):
            headline = f"No difference in {frames}"
        else:
            headline = f"Within all {len(judged)} limits"
        reasons = [one.sentence() for one in broken]
        told = [] if has_no_difference(figures) else [*_mask_sentences(figures), *_box_sentences(figures)]
        sentences = [*reasons, f"Compared {frames} of {', '.join(figures.cameras)}.", *told, *_frame_sentences(figures)]
        return cls(headline, (*map(_as_sentence, sentences), *map(_as_sentence, notes)), not broken)

    @property
    def exit_status(self) -> int:
        """0 within the limits, 1 beyond one of them."""
        return EXIT_WITHIN if self.is_within else EXIT_BEYOND


def has_no_difference(figures: Figures) -> bool:
    """Return whether both sides have the same results for the same frames."""
    total = figures.total
    alone = total.one_sided.total() + total.left_out_px + total.left_out_boxes
    shares = (total.changed_share, total.lost_share, total.gained_share, total.score_distance)
    return not alone and not any(shares) and total.mean_iou in (None, 1.0)


def _mask_sentences(figures: Figures) -> list[str]:
    common, total = figures.classes.masks, figures.total
    if common is None:
        return []
    ious = class_ious(total.pixels)
    order = [index for index in np.argsort(ious, kind="stable").tolist() if ious[index] < 1][:_WORST_CLASSES]
    worst = ", ".join(f"{common.names[index]} {percent(ious[index])}" for index in order)
    told = f"; the classes that differ most by IoU are {worst}" if worst else ""
    sentences = [f"{percent(total.changed_share)} of the pixels have another class{told}"]
    if total.left_out_px:
        sentences.append(f"{percent(total.left_out_share)} of the pixels are not compared: one side lacks their class")
    return sentences


def _box_sentences(figures: Figures) -> list[str]:
    if figures.classes.boxes is None:
        return []
    total = figures.total
    old, new, matched = (round(total.box_sum(column)) for column in ("old", "new", "matched"))
    sentence = f"Of {old} old boxes {old - matched} are lost, of {new} new boxes {new - matched} were not there before"
    if total.renamed_boxes:
        verb = "has" if total.renamed_boxes == 1 else "have"
        sentence += f"; of the lost ones, {total.renamed_boxes} {verb} another class now"
    sentences = [f"{sentence}; an object is lost in {counted(total.frames_with_lost, 'frame')}"]
    if total.left_out_boxes:
        sentences.append(f"{counted(total.left_out_boxes, 'box', 'boxes')} not compared: only one side has their class")
    return sentences


def _frame_sentences(figures: Figures) -> list[str]:
    alone = figures.total.one_sided
    sentences = [f"{counted(alone[side], 'frame')} only on the {side} side" for side in (OLD, NEW) if alone[side]]
    if figures.dropped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in figures.dropped.most_common())
        sentences.append(f"{counted(figures.dropped.total(), 'frame')} without results on both sides: {reasons}")
    return sentences


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def printed(verdict: Verdict, folder: Path) -> str:
    """Return the verdict as text for a terminal."""
    sentences = (f"  {sentence}" for sentence in verdict.sentences)
    return "\n".join([verdict.headline, *sentences, f"wrote {folder}/report.html"])


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
