"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from training.evaluation.agreement import Agreement
from training.evaluation.agreement_report import agreement_rows
from training.evaluation.bootstrap import RESAMPLES
from training.evaluation.memory import Memory
from training.evaluation.page import html_list, html_table, page_style
from training.evaluation.score_figures import AP50, BETTER, BOUNDARY_IOU, MIOU, NO_INTERVAL, WORSE, Figure, ScoreFigures
from training.evaluation.wording import EVERY_NAME_OF, MISSING, interval, percent, points
from training.report.confusion import confusion_table, worst_confusions
from training.report.harder import harder_conditions
from training.report.measure import MODEL, AgreedFrames, Measured, MeasuredFrames, frame_scores
from training.report.over_time import over_time
from training.report.pictures import ShownFrame
from training.report.plots import doubt_svg, frames_svg, reliability_svg
from training.report.verdict import Verdict

_TEMPLATE = Path(__file__).with_name("page.html")
_MOOD_OF = {BETTER: "good", WORSE: "bad"}
_ROWS = ("teacher", "baseline", MODEL)
_BY_CLASS = {"iou": "IoU", "boundary_iou": "boundary IoU", "ap50": "AP50", "ap": "AP"}
Shown = Mapping[str, tuple[Sequence[ShownFrame], Sequence[ShownFrame]]]
"""The worst and the best frames by the name of the set."""


def page_of(measured: Measured, verdict: Verdict, shown: Shown) -> str:
    """Return the page: verdict, side by side, then each set of frames."""
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(measured.recipe.name),
        style=page_style(),
        subtitle=escape(_subtitle(measured)),
        mood="good" if verdict.passed else "bad",
        headline=escape(verdict.headline),
        verdict=_verdict(verdict),
        tiles=_tiles(measured),
        models=_models(measured),
        side_by_side=_side_by_side(measured),
        sets="".join(_set(measured, frames, *shown[frames.name]) for frames in measured.sets)
        + "".join(map(_agreed, measured.agreed)),
        harder=harder_conditions(measured.robustness) if measured.robustness else "",
        over_time=over_time(measured.stability) if measured.stability else "",
        never_seen=html_list(measured.recipe.never_seen) or "<p>The recipe of this report does not say it.</p>",
        method=html_list(_method(measured)),
    )


def rows_of(measured: Measured) -> list[str]:
    """Return the rows in the order of the page."""
    return [name for name in _ROWS if name in measured.models]


def _subtitle(measured: Measured) -> str:
    files = (f"{name}: {measured.recipe.models[name].name}" for name in rows_of(measured))
    return "; ".join(files)


def _verdict(verdict: Verdict) -> str:
    parts = (("Why it fails", verdict.failed), ("Better", verdict.good), ("Cannot be told apart", verdict.open))
    return "".join(f"<h3>{title}</h3>{html_list(said)}" for title, said in parts if said)


def _tiles(measured: Measured) -> str:
    tiles = []
    for frames in measured.sets:
        for mean in (MIOU, AP50):
            figure = frames.figures[MODEL].means.get(mean)
            if figure is not None and figure.value is not None:
                tiles.append((f"{percent(figure.value)} %", f"{EVERY_NAME_OF[mean]} on {frames.name}"))
    size = measured.model.size
    if size is not None:
        tiles.append((f"{size.parameters / 1e6:.2f} M", "parameters"))
        if size.multiply_accumulates is not None:
            tiles.append((f"{size.multiply_accumulates / 1e9:.2f}", "GMAC a frame"))
    return "".join(f'<div class="card tile"><b>{value}</b><span>{escape(text)}</span></div>' for value, text in tiles)


def _models(measured: Measured) -> str:
    rows = [["", "file", "runs on", "input", "parameters, M", "GMAC", "memory, MB"]]
    for name in rows_of(measured):
        model = measured.models[name]
        spec, size = model.contract.input, model.size
        work = size and size.multiply_accumulates
        rows.append(
            [
                name,
                escape(measured.recipe.models[name].name),
                escape(model.runtime),
                f"{spec.width}x{spec.height}" if size else "as the frame is",
                f"{size.parameters / 1e6:.2f}" if size else MISSING,
                f"{work / 1e9:.2f}" if work else MISSING,
                _megabytes(measured.memory.get(name)),
            ]
        )
    return html_table(rows) + "<p>Memory is what a model adds to a process that has its libraries loaded.</p>"


def _megabytes(memory: Memory | None) -> str:
    return MISSING if memory is None or memory.added_bytes is None else f"{memory.added_bytes / 1e6:.0f}"


def _side_by_side(measured: Measured) -> str:
    """Return one table: a line for each set of frames and mean, a column for each model."""
    rows = [["", *rows_of(measured)]]
    for frames in measured.sets:
        for mean, name in EVERY_NAME_OF.items():
            figures = {row: frames.figures[row].means.get(mean) for row in rows_of(measured)}
            if any(figure is not None and figure.value is not None for figure in figures.values()):
                cells = [_cell(figures[row], row == MODEL) for row in rows_of(measured)]
                rows.append([f"{escape(frames.name)}: {name}", *cells])
    return html_table(rows)


def _cell(figure: Figure | None, judged: bool) -> str:
    """Return a figure with its interval, and for the model its difference to the baseline."""
    if figure is None or figure.value is None:
        return MISSING
    text = percent(figure.value)
    if ends := interval(figure):
        text += f" <small>{ends}</small>"
    difference = figure.difference
    if judged and difference is not None:
        mood, said = _MOOD_OF.get(difference.verdict, ""), difference.verdict.replace(NO_INTERVAL, "")
        text += f'<br><small class="{mood}">{points(difference)} {said}</small>'
    return text


def _set(measured: Measured, frames: MeasuredFrames, worst: Sequence[ShownFrame], best: Sequence[ShownFrame]) -> str:
    parts = [f"<h2>{escape(frames.name)}</h2>", f"<p>{escape(_said_of(frames))}</p>"]
    scores = [(row, frame_scores(frames.records[row])) for row in rows_of(measured)]
    parts.append(f'<div class="card"><h3>Score of each frame</h3>{frames_svg(scores, frames.name)}</div>')
    parts += _classes(measured, frames)
    records = frames.records[MODEL]
    if table := confusion_table(records):
        parts.append(f"<h3>What is taken for what, % of the true class</h3>{table}")
        parts.append(html_list(worst_confusions(records)))
    parts.append(_confidence(frames))
    for title, chosen in (("Worst frames", worst), ("Best frames", best)):
        if chosen:
            parts.append(f"<h3>{title}</h3>" + "".join(map(_frame, chosen)))
    return "".join(parts)


def _agreed(frames: AgreedFrames) -> str:
    """Return the section of a set without labels."""
    others = [row for row in _ROWS if row in frames.seen and row != MODEL]
    rows = [["", *others], *([escape(title), *cells] for title, cells in agreement_rows(_agreements(frames, others)))]
    return (
        f"<h2>{escape(frames.name)}</h2><p>{frames.frames} frames of {escape(frames.folder)} without labels: how far "
        f"the model agrees with the others, not which one is right. In percent.</p>{html_table(rows)}"
    )


def _agreements(frames: AgreedFrames, rows: Sequence[str]) -> list[Agreement | None]:
    return [frames.seen[row].agreement for row in rows]


def _said_of(frames: MeasuredFrames) -> str:
    taught = f"; its labels are what the teachers of {frames.teachers} are sure of" if frames.teachers else ""
    boxes = "" if frames.exact_boxes else "; its boxes are approximate, from connected regions of the masks"
    unscored = "".join(f"; {line}" for line in frames.unscored)
    return f"{len(frames.frames)} frames of {frames.frames.folder.name}{taught}{boxes}{unscored}."


def _classes(measured: Measured, frames: MeasuredFrames) -> Iterator[str]:
    """Yield a table of all classes for masks, and one for boxes."""
    for what, kinds in (("Masks", ("iou", "boundary_iou")), ("Boxes", ("ap50", "ap"))):
        heads = [f"{_BY_CLASS[kind]}, {row}" for kind in kinds for row in rows_of(measured)]
        found = {row: frames.figures[row] for row in rows_of(measured)}
        names = [name for name, figure in getattr(found[MODEL], kinds[0]).items() if figure.value is not None]
        if names:
            rows = [[escape(name), *_class_cells(found, kinds, name)] for name in names]
            yield f"<h3>{what} of each class, %</h3>{html_table([['', *heads], *rows])}"


def _class_cells(found: dict[str, ScoreFigures], kinds: Sequence[str], name: str) -> Iterator[str]:
    for kind in kinds:
        for row, figures in found.items():
            figure: Figure | None = getattr(figures, kind).get(name)
            difference = figure.difference if figure is not None and row == MODEL else None
            mood = _MOOD_OF.get(difference.verdict, "") if difference else ""
            more = f' <small class="{mood}">{100 * difference.value:+.1f}</small>' if difference else ""
            yield f"{percent(figure.value if figure else None)}{more}"


def _confidence(frames: MeasuredFrames) -> str:
    found, cards = frames.confidence, []
    if found.boxes is not None and found.boxes.error is not None:
        cards.append(
            f'<div class="card"><h3>Can the scores of boxes be trusted?</h3>{reliability_svg(found.boxes, frames.name)}'
            f"<p>Above the dashed line, boxes are right more often than their score says; below it, less often. "
            f"On average the score is off by {percent(found.boxes.error)} points. Numbers: boxes of the bin.</p></div>"
        )
    doubt = found.doubt
    if doubt is not None and doubt.auroc is not None:
        cards.append(
            f'<div class="card"><h3>Does it know where it is wrong?</h3>{doubt_svg(doubt, frames.name)}'
            f"<p>{percent(doubt.wrong_of(1.0))} % of all pixels are wrong, {percent(doubt.wrong_of(0.8))} % without "
            f"the most uncertain fifth. A wrong pixel is more uncertain than a right one in {percent(doubt.auroc)} % "
            "of all pairs; 50 % would say nothing.</p></div>"
        )
    return f'<div class="pair">{"".join(cards)}</div>' if cards else ""


def _frame(frame: ShownFrame) -> str:
    pictures = "".join(
        f'<figure><img src="{uri}" alt="{escape(f"{frame.name}, {name}")}"><figcaption>{name}</figcaption></figure>'
        for name, uri in frame.pictures.items()
    )
    return (
        f'<div class="frame"><h4>{escape(frame.name)}, score {percent(frame.score)} %</h4>'
        f'<div class="pictures">{pictures}</div></div>'
    )


def _method(measured: Measured) -> Iterator[str]:
    yield f"Small figures after a value hold 95 % of {RESAMPLES} resamples of the frames."
    if "baseline" in measured.models:
        yield (
            "Differences are to the baseline, on the same resamples. Better and worse mean that the whole interval of "
            "the difference lies on one side of zero."
        )
    yield (
        "Frames of one drive resemble each other, so the true uncertainty is larger than these intervals; on a new "
        "drive expect less than on one that taught."
    )
    yield (
        f"{EVERY_NAME_OF[BOUNDARY_IOU]} counts the pixels along outlines, within 0.5 % of the diagonal. AP is COCO's. "
        "The score of a frame is the mean of the IoU of its masks and the F1 of its boxes at a score of 0.3."
    )
    if "teacher" in measured.models:
        yield "Boxes of teachers in a .yaml are those that it calls sure, so their AP is that of one threshold."
