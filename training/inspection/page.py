"""Writes the report as one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from ros_kd_perception.model.contract import ClassInfo
from training.inspection.figures import SIZES, BoxClassFigures, MaskClass
from training.inspection.inspection import InspectedSource, Inspection
from training.inspection.pictures import jpeg_of
from training.inspection.words import facts_of, percent

SHOWN_AT_FIRST = 20
_TEMPLATE = Path(__file__).with_name("page.html")
_UNLABELED = "not labelled by this source"


def page_of(inspection: Inspection) -> str:
    """Return the page: problems first, then figures and pictures of each source."""
    problems = inspection.problems
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(inspection.name),
        subtitle=escape(f"Labels as a student with the label set {inspection.student.name} sees them."),
        tiles=_tiles(inspection),
        findings=_listed("Problems", problems, "bad") + _listed("Notes", inspection.notes, ""),
        sources="".join(_source(source) for source in inspection.sources),
    )


def _tiles(inspection: Inspection) -> str:
    frames = sum(source.figures.frames for source in inspection.sources)
    boxes = sum(one.total for source in inspection.sources for one in source.figures.boxes)
    masks = sum(source.figures.with_mask for source in inspection.sources)
    problems = len(inspection.problems)
    found = [("frames", frames), ("frames with a mask", masks), ("boxes", boxes)]
    tiles = [f'<div class="card tile"><b>{count:,}</b><span>{what}</span></div>' for what, count in found]
    mood = "bad" if problems else "good"
    return "".join([*tiles, f'<div class="card tile {mood}"><b>{problems:,}</b><span>problems</span></div>'])


def _listed(title: str, sentences: Sequence[str], mood: str) -> str:
    """Return a card with sentences, the first of them open."""
    if not sentences:
        return ""
    first, more = sentences[:SHOWN_AT_FIRST], sentences[SHOWN_AT_FIRST:]
    rest = f"<details><summary>{len(more):,} more</summary>{_bullets(more)}</details>" if more else ""
    return f'<div class="card"><h3 class="{mood}">{title}</h3>{_bullets(first)}{rest}</div>'


def _bullets(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _source(source: InspectedSource) -> str:
    facts = "".join(f"<tr><td>{escape(what)}</td><td>{escape(value)}</td></tr>" for what, value in facts_of(source))
    cards = [f'<div class="card scroll"><table class="facts">{facts}</table></div>']
    figures = source.figures
    if figures.with_mask:
        cards.append(_mask_table(figures.masks))
    if figures.with_boxes:
        cards.append(_box_table(figures.boxes))
    pictures = "".join(_picture(one.name, one.reason, jpeg_of(one.image_bgr)) for one in source.pictures)
    return (
        f"<h2>{escape(source.title)}</h2>"
        f"<p>{escape(source.subtitle)}</p>"
        f'<div class="two">{"".join(cards)}</div><div class="sheet">{pictures}</div>'
    )


def _mask_table(classes: Sequence[MaskClass]) -> str:
    most = max((one.share for one in classes), default=0.0)
    rows = "".join(
        f"<tr{_silent(one.labeled)}><td>{_named(one.info)}</td>"
        + (f"<td>{percent(one.share)}</td>" if one.labeled else f"<td>{_UNLABELED}</td>")
        + f"{_bar(one.info, one.share, most)}<td>{one.frames:,}</td><td>{percent(one.frame_share)}</td></tr>"
        for one in classes
    )
    head = "<tr><th>masks</th><th>of labelled pixels</th><th></th><th>frames</th><th>of frames</th></tr>"
    return f'<div class="card scroll"><table>{head}{rows}</table></div>'


def _box_table(classes: Sequence[BoxClassFigures]) -> str:
    most = max((one.total for one in classes), default=0)
    rows = "".join(
        f"<tr{_silent(one.labeled)}><td>{_named(one.info)}</td>"
        + (f"<td>{one.total:,}</td>" if one.labeled else f"<td>{_UNLABELED}</td>")
        + _bar(one.info, one.total, most)
        + "".join(f"<td>{one.boxes[size]:,}</td>" for size in SIZES)
        + f"<td>{one.frames:,}</td><td>{f'{one.aspect.median:.2f}' if one.aspect else '-'}</td></tr>"
        for one in classes
    )
    sizes = "".join(f"<th>{size}</th>" for size in SIZES)
    head = f"<tr><th>boxes</th><th>number</th><th></th>{sizes}<th>frames</th><th>width / height</th></tr>"
    return f'<div class="card scroll"><table>{head}{rows}</table></div>'


def _silent(labeled: bool) -> str:
    return "" if labeled else ' class="silent"'


def _named(info: ClassInfo) -> str:
    return f'<i class="swatch" style="background:{_color(info)}"></i>{escape(info.name)}'


def _bar(info: ClassInfo, value: float, most: float) -> str:
    width = 100 * value / most if most else 0
    bar = f'<div style="width:{width:.1f}%;background:{_color(info)}"></div>' if value else ""
    return f'<td class="bar">{bar}</td>'


def _color(info: ClassInfo) -> str:
    return "#{:02x}{:02x}{:02x}".format(*info.color_rgb)


def _picture(name: str, reason: str, jpeg: bytes) -> str:
    address = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    caption = f"<b>{escape(name)}</b>" + (f" {escape(reason)}" if reason else "")
    return (
        f'<figure><img loading="lazy" alt="{escape(name)} with its labels" src="{address}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
