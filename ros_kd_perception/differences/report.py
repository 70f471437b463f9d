"""The report of a comparison: one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

import numpy as np

from ros_kd_perception.differences.boxes import BOX_COLUMNS
from ros_kd_perception.differences.comparison import Side
from ros_kd_perception.differences.figures import Figures, Totals, percentiles_of
from ros_kd_perception.differences.figures_json import classes_moved_to
from ros_kd_perception.differences.limits import Judged, percent
from ros_kd_perception.differences.masks import class_ious, share
from ros_kd_perception.differences.moments import Moment
from ros_kd_perception.differences.pictures import CHANGED_RGB, LEFT_OUT_RGB, LOST_RGB, NEW_RGB
from ros_kd_perception.differences.timeline_plot import Scale, timeline_svg
from ros_kd_perception.differences.verdict import Verdict

NONE = "&ndash;"

_COLORS = (
    ("pixels with another class", CHANGED_RGB),
    ("class of one side only", LEFT_OUT_RGB),
    ("lost box", LOST_RGB),
    ("new box", NEW_RGB),
)

Cell = str | tuple[str, str]
"""HTML, or HTML and a style class."""


def page_of(
    figures: Figures,
    verdict: Verdict,
    judged: Sequence[Judged],
    sides: tuple[Side, Side],
    pictures: Mapping[str, tuple[Moment, bytes]],
    conditions: Mapping[str, str],
) -> str:
    """Return the page.

    Args:
        figures: All figures.
        verdict: What they say.
        judged: The limits.
        sides: The old side and the new one.
        pictures: Worst moments with their JPEG, by the name of the file.
        conditions: How the comparison was made, by the name of the fact.
    """
    template = Template(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    old, new = (escape(side.title) for side in sides)
    moments = [moment for moment, _ in pictures.values()]
    return template.substitute(
        title=f"{old} and {new}",
        heading=f"{old} <i>against</i> {new}",
        subtitle=escape(conditions.get("compared", "")),
        mood="good" if verdict.is_within else "bad",
        headline=escape(verdict.headline),
        sentences="<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in verdict.sentences) + "</ul>",
        tiles=_tiles(figures),
        limits=_limits(judged),
        curve_legend=_legend(
            ("share of the pixels with the same class", "var(--curve)"),
            ("new boxes of a frame, upwards", "var(--gained)"),
            ("lost boxes of a frame, downwards", "var(--lost)"),
        ),
        timelines=_timelines(figures, moments),
        moments=_moments(pictures),
        classes=_mask_table(figures) + _box_table(figures),
        cameras=_camera_table(figures),
        sides=_facts(f"Old: {sides[0].title}", sides[0].facts) + _facts(f"New: {sides[1].title}", sides[1].facts),
        conditions=_facts("Conditions", conditions),
    )


def _tiles(figures: Figures) -> str:
    total = figures.total
    tiles = [(str(total.frames), "frames compared")]
    if figures.classes.masks is not None:
        spread = percentiles_of(figures.rows) or {}
        ious = class_ious(total.pixels)
        mean = float(np.nanmean(ious)) if np.isfinite(ious).any() else None
        tiles += [
            (percent(total.changed_share), "of the pixels changed"),
            (percent(spread.get("max")), "changed in the worst frame"),
            (percent(mean), "mean IoU of the classes"),
        ]
    if figures.classes.boxes is not None:
        tiles += [
            (percent(total.lost_share), "of the old boxes lost"),
            (percent(total.gained_share), "of the new boxes not there before"),
            (str(total.frames_with_lost), "frames in which an object is lost"),
        ]
    return "".join(f'<div class="card tile"><b>{escape(value)}</b><span>{text}</span></div>' for value, text in tiles)


def _limits(judged: Sequence[Judged]) -> str:
    rows: list[list[Cell]] = []
    for one in judged:
        mood, word = ("good", "kept") if one.is_kept else ("bad", "beyond")
        where = f" ({escape(one.measured.where)})" if one.measured.where else ""
        rows.append(
            [
                (f"{escape(one.limit.text)}<br><small>{one.limit.option}</small>", "wrap"),
                f"{escape(percent(one.measured.value))}{where}",
                one.bound_in_words,
                (word if one.measured.value is not None else NONE, mood if one.measured.value is not None else ""),
            ]
        )
    return _table(["what is measured", "value", "limit", ""], rows)


def _timelines(figures: Figures, moments: Sequence[Moment]) -> str:
    scale = Scale.of(figures.rows)
    cards = []
    for camera in figures.cameras:
        marks = [(number, moment.row) for number, moment in enumerate(moments, 1) if moment.row.camera == camera]
        svg = timeline_svg(camera, figures.rows_of(camera), scale, marks)
        cards.append(f'<div class="card"><h3>{escape(camera)}</h3>{svg}</div>')
    return "".join(cards)


def _moments(pictures: Mapping[str, tuple[Moment, bytes]]) -> str:
    if not pictures:
        return "<p>No frame differs, or no pictures were asked for.</p>"
    legend = _legend(*((text, f"rgb{color}") for text, color in _COLORS))
    cards = []
    for number, (moment, jpeg) in enumerate(pictures.values(), 1):
        url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        title, told = escape(moment.title), escape("; ".join(moment.sentences))
        cards.append(
            f'<figure class="card" id="moment-{number}"><figcaption><b>{number}</b>{title} <span>{told}</span>'
            f'</figcaption><img src="{url}" alt="{title}: old, new, and what differs"></figure>'
        )
    head = f'<p>Left the old side, in the middle the new one, right what differs.</p><div class="legend">{legend}</div>'
    return head + "".join(cards)


def _mask_table(figures: Figures) -> str:
    common, pixels = figures.classes.masks, figures.total.pixels
    if common is None:
        return "<p>Masks are not compared.</p>"
    whole, words = max(1, int(pixels.sum())), [*common.names, "unlabeled"]
    ious, moved = class_ious(pixels), classes_moved_to(pixels)
    rows: list[list[Cell]] = []
    for index in np.argsort(ious, kind="stable").tolist():  # classes that neither side sees are last
        became = moved[index]
        iou = float(ious[index])
        shown = f'{percent(iou)}<span class="meter"><i style="width:{100 * iou:.1f}%"></i></span>'
        rows.append(
            [
                escape(common.names[index]),
                percent(float(pixels[index].sum() / whole)),
                percent(float(pixels[:, index].sum() / whole)),
                shown if np.isfinite(iou) else NONE,
                (NONE if became is None else f"{escape(words[became[0]])} {percent(became[1])}", "text"),
            ]
        )
    heads = ["class of the mask", "of the pixels, old", "of the pixels, new", "IoU of both sides", "mostly became"]
    return _table(heads, rows)


def _box_table(figures: Figures) -> str:
    common = figures.classes.boxes
    if common is None:
        return "<p>Boxes are not compared.</p>"
    sums = figures.total.boxes
    rows = [[escape(name), *_box_cells(row)] for name, row in zip(common.names, sums.tolist(), strict=True)]
    rows.append(["all", *_box_cells(sums.sum(axis=0).tolist())])
    heads = ["class of the boxes", "old", "new", "both", "lost", "not there before", "mean IoU", "score change"]
    return _table(heads, rows)


def _box_cells(sums: Sequence[float]) -> list[str]:
    row = dict(zip(BOX_COLUMNS, sums, strict=True))
    matched, change = row["matched"], share(row["score_change_sum"], row["matched"])
    cells = [f"{row[column]:.0f}" for column in ("old", "new", "matched")]
    for side in ("old", "new"):
        alone = row[side] - matched
        cells.append(f"{alone:.0f} ({percent(alone / row[side])})" if row[side] else NONE)
    cells.append(percent(row["iou_sum"] / matched) if matched else NONE)
    return [*cells, NONE if change is None else f"{change:+.3f}"]


def _camera_table(figures: Figures) -> str:
    heads = ["camera", "frames", "only old", "only new", "changed pixels", "worst frame", "lost boxes", "new boxes"]
    rows = [[escape(camera), *_camera_cells(figures, camera, totals)] for camera, totals in figures.cameras.items()]
    return _table(heads, rows)


def _camera_cells(figures: Figures, camera: str, totals: Totals) -> list[str]:
    worst = (percentiles_of(figures.rows_of(camera)) or {}).get("max")
    counts = (totals.frames, totals.one_sided["old"], totals.one_sided["new"])
    shares = (totals.changed_share, worst, totals.lost_share, totals.gained_share)
    return [*map(str, counts), *(NONE if value is None else percent(value) for value in shares)]


def _facts(title: str, facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f'<div class="card"><h3>{escape(title)}</h3><dl>{rows}</dl></div>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table."""
    lines = []
    for row in rows:
        cells = (cell if isinstance(cell, tuple) else (cell, "") for cell in row)
        lines.append("".join(f'<td class="{kind}">{html}</td>' if kind else f"<td>{html}</td>" for html, kind in cells))
    kinds = [' class="text"' if head == "mostly became" else "" for head in heads]
    head = "".join(f"<th{kind}>{escape(text)}</th>" for text, kind in zip(heads, kinds, strict=True))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="card scroll long"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _legend(*entries: tuple[str, str]) -> str:
    return "".join(f'<span><i style="background:{color}"></i>{escape(text)}</span>' for text, color in entries)
