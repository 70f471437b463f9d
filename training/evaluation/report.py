"""What an evaluation found: as plain values for JSON, and as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.at_threshold import reported_boxes
from training.evaluation.confidence import confidence_of
from training.evaluation.coverage import not_scored_lines
from training.evaluation.evaluate import Evaluation
from training.evaluation.memory import Memory
from training.evaluation.model_facts import ModelFacts
from training.evaluation.score_figures import AP50, BETTER, MIOU, NOISE, TOO_FEW, WORSE, ScoreFigures
from training.evaluation.wording import EVERY_NAME_OF, MISSING, percent, points, with_interval

SUMMARISED = (MIOU, AP50)  # of which a verdict speaks


@dataclass(frozen=True)
class Conditions:
    """How an evaluation was made.

    Attributes:
        data: Name of the folder of the frames.
        labels: Name of the label set of the frames.
        boxes: What the true boxes are, in words.
        drawn: What was drawn again for the intervals: `frames` or `drives`.
        drives: Number of drives of the frames.
    """

    data: str
    labels: str
    boxes: str
    drawn: str
    drives: int


@dataclass(frozen=True)
class Scored:
    """What an evaluation found of one model.

    Attributes:
        name: Name of the model, unique among those of the evaluation.
        path: Its file.
        evaluation: Its frames and counts.
        figures: Its figures with intervals, and differences to the first model.
        memory: What it adds to a process; None if it was not measured.
    """

    name: str
    path: Path
    evaluation: Evaluation
    figures: ScoreFigures
    memory: Memory | None = None

    @property
    def threshold(self) -> float:
        """The score from which on the file reports boxes."""
        return self.evaluation.model.contract.score_threshold

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model besides its scores."""
        times_ms = self.evaluation.scorer.times_ms
        return ModelFacts(self.name, self.path, self.evaluation.model, times_ms, self.memory)


def to_json(scored: Sequence[Scored], conditions: Conditions) -> dict[str, Any]:
    """Return the figures as plain values: of one model at the top, of several under `models` in their order."""
    each = [_of_model(model, scored[0], conditions) for model in scored]
    return each[0] if len(each) == 1 else {"models": each, "verdicts": list(verdicts(scored))}


def _of_model(scored: Scored, first: Scored, conditions: Conditions) -> dict[str, Any]:
    records = scored.evaluation.recorder.records()
    return {
        **scored.facts.values(),
        "data": conditions.data,
        "labels": conditions.labels,
        "boxes": conditions.boxes,
        "drawn_for_intervals": conditions.drawn,
        "drives": conditions.drives,
        **scored.evaluation.results(),
        "time_ratio": scored.facts.time_ratio(first.facts),
        "figures": asdict(scored.figures),
        "confidence": asdict(confidence_of(records)),
        "at_threshold": {name: each.to_json() for name, each in reported_boxes(records, scored.threshold).items()},
        "confusion": {
            "classes": records.mask_classes.tolist(),
            "pixels": records.confusion.sum(axis=0, dtype=np.int64).tolist(),
        },
    }


def verdicts(scored: Sequence[Scored]) -> Iterator[str]:
    """Yield a sentence for each model but the first: where it is better, worse or within the noise of the first."""
    for model in scored[1:]:
        said: dict[str, list[str]] = {}
        for mean in SUMMARISED:
            figure = model.figures.means.get(mean)
            if figure is not None and figure.difference is not None:
                text = f"{EVERY_NAME_OF[mean]} ({points(figure.difference)} points)"
                said.setdefault(figure.difference.verdict, []).append(text)
        parts = [f"{word} in {', '.join(said[word])}" for word in (WORSE, BETTER, NOISE, TOO_FEW) if word in said]
        found = "; ".join(parts).replace(f"{NOISE} in", f"{NOISE} of").replace(f"{TOO_FEW} in", f"{TOO_FEW} of")
        yield f"{model.name} against {scored[0].name}: {found or 'nothing to compare'}"


def table(scored: Sequence[Scored], conditions: Conditions) -> str:
    """Return the verdicts and the figures as a table for people."""
    first = scored[0]
    lines = [*(f"{line}." for line in verdicts(scored)), *([""] if len(scored) > 1 else [])]
    lines += [model.facts.words(first.facts) for model in scored]
    lines += [f"{first.figures.frames} frames of {conditions.data}, boxes {conditions.boxes}; figures in percent", ""]
    lines += _rows(scored)
    for model in scored:
        lines += ["", *_confidence_lines(model, len(scored) > 1), *_duplicates(model, len(scored) > 1)]
        lines += _at_threshold(model, len(scored) > 1)
    for model in scored:
        lines += not_scored_lines(model.evaluation.results()["not_scored"])
    lines += ["", _interval_words(first, conditions)]
    return "\n".join(lines)


def _rows(scored: Sequence[Scored]) -> list[str]:
    """Return the rows of the table, in percent, in columns as wide as their longest cell."""
    rows = [["", *(model.name for model in scored)]] if len(scored) > 1 else []
    rows += [_cells(EVERY_NAME_OF[mean], [each.figures.means.get(mean) for each in scored]) for mean in _means(scored)]
    by_class = (("IoU", "iou"), ("boundary IoU", "boundary_iou"), ("AP", "ap"), ("AP50", "ap50"))
    for title, field in by_class:
        of_each: list[Mapping[str, Any]] = [getattr(each.figures, field) for each in scored]
        names = dict.fromkeys(name for figures in of_each for name in figures)
        rows += [[""], [f"{title} of"]] if names else []
        for name in names:
            rows.append(_cells(f"  {name}", [figures.get(name) for figures in of_each]))
    widths = [max(len(row[place]) for row in rows if place < len(row)) for place in range(max(map(len, rows)))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def _means(scored: Sequence[Scored]) -> Iterable[str]:
    return (mean for mean in EVERY_NAME_OF if any(mean in each.figures.means for each in scored))


def _cells(title: str, figures: Sequence[Any]) -> list[str]:
    first, *others = figures
    return [title, MISSING if first is None else with_interval(first), *map(_compared, others)]


def _compared(figure: Any) -> str:
    """Return a figure with its difference to that of the first model and a verdict, if there is one."""
    if figure is None:
        return MISSING
    text = percent(figure.value)
    if figure.difference is None:
        return text
    verdict = figure.difference.verdict
    said = "" if figure.difference.low is None else f" {verdict}"
    return f"{text} {points(figure.difference)}{said}"


def _confidence_lines(scored: Scored, named: bool) -> list[str]:
    """Return what scores and uncertainty are worth, in sentences."""
    found, start, lines = confidence_of(scored.evaluation.recorder.records()), f"{scored.name}: " if named else "", []
    if found.boxes is not None and found.boxes.error is not None:
        lines.append(
            f"{start}scores of boxes are off by {percent(found.boxes.error)} points on average "
            "(expected calibration error, IoU 0.5)"
        )
    if found.doubt is not None and found.doubt.auroc is not None:
        lines.append(
            f"{start}a wrong pixel is more uncertain than a right one in {percent(found.doubt.auroc)} % of all "
            f"pairs (AUROC); {percent(found.doubt.wrong_of(1.0))} % of all pixels are wrong, and "
            f"{percent(found.doubt.wrong_of(0.8))} % without the most uncertain fifth"
        )
    return lines


def _duplicates(scored: Scored, named: bool) -> list[str]:
    detection = scored.evaluation.results().get("detection")
    if detection is None:
        return []
    start = f"{scored.name}: " if named else ""
    return [
        f"{start}{detection['detections']} detections above the score threshold; of their same-class pairs "
        f"{percent(detection['duplicate_pair_share'])} overlap by IoU 0.7; "
        f"{percent(detection['duplicate_detection_share'])} of the detections repeat a better one",
    ]


def _at_threshold(scored: Scored, named: bool) -> list[str]:
    found = reported_boxes(scored.evaluation.recorder.records(), scored.threshold)
    if not found:
        return []
    start = f"{scored.name}: " if named else ""
    each = (
        f"{name} {percent(boxes.precision)} % of {boxes.boxes} boxes are right, {percent(boxes.recall)} % of "
        f"{boxes.objects} objects are found"
        for name, boxes in found.items()
    )
    return [f"{start}at the score threshold of {scored.threshold:g}: {'; '.join(each)}"]


def _interval_words(first: Scored, conditions: Conditions) -> str:
    if all(figure.low is None for figure in first.figures.means.values()):
        return f"No intervals: fewer than five {conditions.drawn}."
    return f"In brackets: 95 % of resamples of the {conditions.drawn}; AP of one size of boxes has no interval."
