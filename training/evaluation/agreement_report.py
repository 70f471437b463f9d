"""What models make of frames without labels: as plain values for JSON, and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.evaluation.agreement import Agreement, SeenFrames
from training.evaluation.model_facts import ModelFacts
from training.evaluation.score_figures import Figure
from training.evaluation.wording import MISSING, with_interval


def agreement_json(data: str, facts: Sequence[ModelFacts], seen: Mapping[str, SeenFrames]) -> dict[str, Any]:
    """Return plain values.

    Args:
        data: Name of the frames.
        facts: The models; the others were compared with the first.
        seen: What each of them saw, by its name.
    """
    models = [
        {
            **each.values(),
            "inference_ms_median": each.median_ms,
            "time_ratio": each.time_ratio(facts[0]),
            "boxes_a_frame": seen[each.name].boxes,
            "agreement": _values(seen[each.name].agreement),
        }
        for each in facts
    ]
    return {"data": data, "frames": len(facts[0].times_ms), "labels": None, "models": models}


def agreement_table(data: str, facts: Sequence[ModelFacts], seen: Mapping[str, SeenFrames]) -> str:
    """Return the figures as a table for people; the arguments are those of `agreement_json`."""
    first, *others = facts
    lines = [each.words(first) for each in facts]
    lines += [
        f"{len(first.times_ms)} frames of {data} without labels: the figures say how far a model agrees with "
        f"{first.name}, not which one is right; in percent",
        "",
    ]
    columns = [seen[each.name] for each in others]
    rows = [["", *(each.name for each in others)]]
    rows += [[title, *cells] for title, cells in agreement_rows([each.agreement for each in columns])]
    rows.append([f"boxes a frame ({first.name}: {_boxes(seen[first.name])})", *map(_boxes, columns)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def agreement_rows(agreements: Sequence[Agreement | None]) -> list[tuple[str, list[str]]]:
    """Return the rows of a table: a title, and a cell for each model."""
    found = [each for each in agreements if each is not None]
    rows = [
        ("pixels of the same class", [_cell(each.same_pixels) for each in found]),
        ("mIoU between both", [_cell(each.miou) for each in found]),
        ("boxes that both report", [_cell(each.same_boxes) for each in found]),
    ]
    names = dict.fromkeys(name for each in found for name in each.iou)
    return rows + [(f"  IoU of {name}", [_cell(each.iou.get(name)) for each in found]) for name in names]


def _cell(figure: Figure | None) -> str:
    return MISSING if figure is None or figure.value is None else with_interval(figure)


def _boxes(seen: SeenFrames) -> str:
    return MISSING if seen.boxes is None else f"{seen.boxes:.1f}"


def _values(agreement: Agreement | None) -> dict[str, Any] | None:
    return None if agreement is None else asdict(agreement)
