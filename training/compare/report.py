"""The report of a comparison: a table for terminal and documents, JSON, and a picture."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from training.compare.statistics import Difference, Spread, difference, spread
from training.compare.teacher_report import teacher_section
from training.evaluation.bootstrap import CONFIDENCE
from training.whole_files import write_bytes, write_text

MEANS = ("miou", "ap50")

# Indexed by entry, name of the frames, and figure.
Spreads = dict[str, dict[str, dict[str, Spread]]]


def write_report(folder: Path, title: str, scores: list[str], results: Mapping[str, Any]) -> str:
    """Write report.md, report.json and report.png into `folder`.

    Args:
        folder: Folder of the comparison.
        title: Name of the comparison.
        scores: Names of the frames, in the order of the report.
        results: `shown_classes`: names of classes of boxes whose AP50 is shown, too; `entries`: figures by entry,
            frames and seed; `teacher`: figures by frames, or empty; `teachers`: what `judge_teachers` returns;
            `warnings`: sentences for the top of the report. A figure of None is one that the labels cannot yield.

    Returns:
        The text of report.md.
    """
    spreads: Spreads = {
        entry: {name: _spreads(by_seed) for name, by_seed in by_score.items()}
        for entry, by_score in results["entries"].items()
    }
    teacher = {name: _yielded(figures) for name, figures in results["teacher"].items()}
    shown = (*MEANS, *(f"{name}_ap50" for name in results["shown_classes"]))
    seeds = len(next(iter(results["entries"].values()))[scores[0]])
    sections = [f"# {title}", *results["warnings"]]
    for name in scores:
        of_score = {entry: by_score[name] for entry, by_score in spreads.items()}
        sections.append(_section(name, shown, seeds, spreads, teacher.get(name, {})))
        sections.append(teacher_section(name, of_score, results["teachers"]))
    text = "\n\n".join(section for section in sections if section) + "\n"
    write_text(folder / "report.md", text)
    write_text(folder / "report.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_bytes(folder / "report.png", _picture(scores, shown, spreads, teacher))
    return text


def _yielded(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def _spreads(by_seed: Mapping[int, Mapping[str, float | None]]) -> dict[str, Spread]:
    """Return the spread of each figure that every seed has."""
    yielded = [_yielded(figures) for figures in by_seed.values()]
    shared = set.intersection(*map(set, yielded))
    return {name: spread([figures[name] for figures in yielded]) for name in sorted(shared)}


def _section(score: str, shown: Sequence[str], seeds: int, spreads: Spreads, teacher: Mapping[str, float]) -> str:
    baseline, *candidates = spreads
    by = f"{CONFIDENCE:.0%} intervals by Student's t of pairs"
    head = f"## {score}\n\nSeeds: {seeds}. Differences are to {baseline}; {by}."
    lines = [
        "| | figure | mean | deviation | difference | interval | of the gap | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in shown:
        ours = spreads[baseline][score].get(figure)
        if ours is None:
            lines.append(f"| {baseline} | {figure} | - | | | | | |")
            continue
        if figure in teacher:
            lines.append(f"| teacher | {figure} | {_percent(teacher[figure])} | | | | | |")
        lines.append(f"| {baseline} | {figure} | {_percent(ours.mean)} | {_percent(ours.deviation)} | | | | |")
        for name in candidates:
            theirs = spreads[name][score].get(figure)
            if theirs is not None:
                lines.append(_row(name, figure, theirs, difference(theirs, ours, teacher.get(figure))))
    return head + "\n\n" + "\n".join(lines)


def _row(name: str, figure: str, found: Spread, to_baseline: Difference) -> str:
    interval = "" if math.isnan(to_baseline.low) else f"{_signed(to_baseline.low)} .. {_signed(to_baseline.high)}"
    recovered = "" if math.isnan(to_baseline.recovered) else f"{to_baseline.recovered:.0%}"
    return (
        f"| {name} | {figure} | {_percent(found.mean)} | {_percent(found.deviation)} | {_signed(to_baseline.mean)} | "
        f"{interval} | {recovered} | {to_baseline.verdict()} |"
    )


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def _picture(
    scores: list[str], shown: Sequence[str], spreads: Spreads, teacher: Mapping[str, Mapping[str, float]]
) -> bytes:
    """Draw each seed as a dot, each mean as a bar, the teacher as a line; one panel for each figure and each score."""
    figures = [
        figure
        for figure in shown
        if any(figure in found for by_score in spreads.values() for found in by_score.values())
    ]
    size = (1.5 + 1.3 * len(spreads) * len(scores), 3.2 * len(figures))
    canvas, axes = pyplot.subplots(len(figures), len(scores), figsize=size, squeeze=False)
    for row, figure in enumerate(figures):
        for column, score in enumerate(scores):
            panel = axes[row][column]
            for place, by_score in enumerate(spreads.values()):
                found = by_score[score].get(figure)
                if found is not None:
                    panel.bar(place, 100 * found.mean, color="#9db7d5", width=0.7)
                    panel.plot([place] * len(found.values), [100 * v for v in found.values], "o", color="#20446e", ms=4)
            if not panel.patches:
                panel.text(0.5, 0.5, "-", transform=panel.transAxes)
            if figure in teacher.get(score, {}):
                level = 100 * teacher[score][figure]
                panel.axhline(level, color="#b3541e", lw=1)
                panel.annotate("teacher", (-0.4, level), (0, -3), textcoords="offset points", va="top", fontsize=8)
                panel.set_ylim(top=max(panel.get_ylim()[1], 1.05 * level))
            panel.set_xticks(range(len(spreads)), list(spreads), rotation=20, ha="right", fontsize=8)
            panel.set_title(f"{figure}, {score}", fontsize=9)
            panel.set_ylabel("%")
    canvas.tight_layout()
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110)
    pyplot.close(canvas)
    return buffer.getvalue()
