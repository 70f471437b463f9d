"""The figures in words: for the terminal, and rows for the page and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

from training.inspection.figures import SIZES, Figures, Spread
from training.inspection.inspection import InspectedSource, Inspection

SHOWN_SIZES = 4
SHOWN_SENTENCES = 20


def percent(share: float) -> str:
    """Return a share with two digits at least: rare classes would all be 0 %."""
    return f"{100 * share:.1f} %" if share >= 0.01 or share == 0 else f"{100 * share:.2g} %"


def facts_of(source: InspectedSource) -> list[tuple[str, str]]:
    """Return the figures of a source that belong to no class, as rows of a name and a value."""
    figures, problems = source.figures, ("problems", f"{len(source.problems):,}")
    if not figures.frames:
        return [("frames", "0"), problems]
    sizes = [f"{width}x{height} ({count:,})" for (width, height), count in figures.sizes.items()]
    more = len(sizes) - SHOWN_SIZES
    rows = [
        ("frames", f"{figures.frames:,}"),
        ("sizes in pixels (frames)", ", ".join(sizes[:SHOWN_SIZES] + [f"{more} more"] * (more > 0)) or "-"),
        ("brightness of frames, 0 to 1", _spread(figures.brightness, ".2f")),
        ("frames with a mask", f"{figures.with_mask:,}"),
    ]
    if figures.with_mask:
        rows.append(("pixels without a class", percent(figures.unlabeled)))
    rows.append(("frames whose objects are known", f"{figures.with_boxes:,}"))
    if figures.with_boxes:
        rows.append(("boxes in a frame", _spread(figures.boxes_per_frame, ".0f")))
        rows.append(("regions that teach nothing", f"{figures.ignored_regions:,}"))
    return [*rows, problems]


def summary_of(inspection: Inspection) -> str:
    """Return the report for a terminal."""
    parts = [_source(source) for source in inspection.sources]
    parts += [_listed("notes", inspection.notes), _listed("problems", inspection.problems)]
    return "\n\n".join(filter(None, parts))


def _source(source: InspectedSource) -> str:
    facts = facts_of(source)
    lines = [f"{source.title} ({source.subtitle})"]
    lines += _columns(facts, "  ")
    figures = source.figures
    if figures.with_mask:
        rows = [("masks", "of pixels", "frames")]
        rows += [(one.info.name, percent(one.share), f"{one.frames:,}") for one in figures.masks if one.labeled]
        lines += ["", *_columns(rows, "  ")]
    if figures.with_boxes:
        lines += ["", *_columns([("boxes", "number", *SIZES, "frames", "width / height"), *_box_rows(figures)], "  ")]
    return "\n".join(lines)


def _box_rows(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (
            one.info.name,
            *(f"{count:,}" for count in (one.total, *one.boxes.values(), one.frames)),
            f"{one.aspect.median:.2f}" if one.aspect else "-",
        )
        for one in figures.boxes
        if one.labeled
    ]


def _listed(title: str, sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    more = len(sentences) - SHOWN_SENTENCES
    lines = [f"{title}:", *(f"- {sentence}" for sentence in sentences[:SHOWN_SENTENCES])]
    return "\n".join([*lines, *([f"- and {more:,} more, in the report"] if more > 0 else [])])


def _columns(rows: Sequence[tuple[str, ...]], start: str) -> list[str]:
    """Return rows with columns of equal width, numbers aligned to the right; two columns are names and text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        aligned.append(start + "  ".join([first.ljust(widths[0]), *(others if len(others) == 1 else cells)]).rstrip())
    return aligned


def _spread(values: Spread | None, form: str) -> str:
    if values is None:
        return "-"
    return f"{values.least:{form}} to {values.most:{form}}, median {values.median:{form}}"
