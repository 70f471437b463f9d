"""The part of a model card that holds figures, as Markdown, made from a report."""

from __future__ import annotations

from collections.abc import Iterator

from training.evaluation.bootstrap import RESAMPLES
from training.evaluation.score_figures import AP50, MIOU
from training.evaluation.wording import EVERY_NAME_OF, percent, points, table_line, with_interval
from training.report.confusion import worst_confusions
from training.report.measure import MODEL, Measured, MeasuredFrames
from training.report.verdict import Verdict

TOP = (MIOU, AP50)


def card_of(measured: Measured, verdict: Verdict) -> str:
    """Return the part: verdict, figures of each set of frames, and what the model has never seen."""
    lines = ["## Figures", "", f"{verdict.headline}.", "", *_table(measured), ""]
    lines += [
        f"In brackets: 95 % of {RESAMPLES} resamples of the frames. "
        "Frames of one drive resemble each other, so the true uncertainty is larger."
    ]
    for frames in measured.sets:
        lines += ["", *_of_set(frames)]
    if measured.recipe.never_seen:
        lines += ["", "### Never seen", "", *(f"- {sentence}" for sentence in measured.recipe.never_seen)]
    return "\n".join(lines) + "\n"


def _table(measured: Measured) -> Iterator[str]:
    compared = "baseline" in measured.models
    baseline = [f"baseline ({measured.recipe.models['baseline'].name})", "difference"] if compared else []
    heads = ["", f"this file ({measured.recipe.model.name})", *baseline]
    yield table_line(heads)
    yield "|" + "---|" * len(heads)
    for frames in measured.sets:
        for mean, name in EVERY_NAME_OF.items():
            figure = frames.figures[MODEL].means.get(mean)
            if figure is None or figure.value is None:
                continue
            cells = [f"{name}, {frames.name}, %", with_interval(figure)]
            if compared:
                before = frames.figures["baseline"].means.get(mean)
                said = "" if figure.difference is None or figure.difference.low is None else figure.difference.verdict
                cells += [percent(before.value if before else None), f"{points(figure.difference)} {said}".strip()]
            yield table_line(cells)


def _of_set(frames: MeasuredFrames) -> Iterator[str]:
    figures, found = frames.figures[MODEL], frames.confidence
    yield f"### {frames.name}"
    yield ""
    approximate = "" if frames.exact_boxes else " Its boxes are approximate: connected regions of the masks."
    yield f"{len(frames.frames)} frames.{approximate}"
    for title, by_class in (("IoU", figures.iou), ("AP50", figures.ap50)):
        known = [f"{name} {percent(figure.value)}" for name, figure in by_class.items() if figure.value is not None]
        if known:
            yield ""
            yield f"{title} of each class, %: {', '.join(known)}."
    sentences = worst_confusions(frames.records[MODEL], 3)
    if found.boxes is not None and found.boxes.error is not None:
        sentences.append(f"Scores of boxes are off by {percent(found.boxes.error)} points on average.")
    if found.doubt is not None and found.doubt.auroc is not None:
        sentences.append(
            f"{percent(found.doubt.wrong_of(1.0))} % of all pixels are wrong, {percent(found.doubt.wrong_of(0.8))} % "
            "without the fifth with the highest uncertainty."
        )
    if sentences:
        yield ""
        yield " ".join(sentences)
