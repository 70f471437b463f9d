"""The report of a chain: report.html for people, report.json with every figure, report.png for documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from training.compression.figures import Figures
from training.compression.report_page import page_of
from training.compression.report_plot import drawing, panels, picture
from training.compression.stage import Stage
from training.compression.wording import SHOWN, conditions, size_words, verdict
from training.evaluation.wording import MISSING, NAME_OF, points, table_line, with_interval
from training.whole_files import write_bytes, write_text


def write_report(folder: Path, title: str, figures: Figures, stage: Stage, beyond: Sequence[str]) -> str:
    """Write report.html, report.json and report.png.

    Args:
        folder: Folder of the chain.
        title: Name of the chain.
        figures: What was measured; the first row is the parent, the last the result.
        stage: What is there after the last step, with a sentence for each step and their tables.
        beyond: What the result lost beyond the budget, in sentences without a subject; empty if it is written.

    Returns:
        Verdict and table as Markdown, for the terminal.
    """
    content = {
        "title": title,
        "verdict": verdict(figures, beyond),
        "beyond_budget": list(beyond),
        "steps": list(stage.said),
        "tables": dict(stage.tables),
        "conditions": conditions(figures),
        **figures.to_json(),
    }
    write_text(folder / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", page_of(title, figures, stage, beyond))
    write_bytes(folder / "report.png", picture([drawing(name, dots) for name, dots in panels(figures).items()]))
    return "\n\n".join([f"# {title}", " ".join(verdict(figures, beyond)), table_of(figures), conditions(figures)])


def table_of(figures: Figures) -> str:
    """Return a row for each file: size, latency, and the means with their differences to the parent."""
    means = [
        (frames, mean) for frames in figures.frames for mean in SHOWN if mean in figures.rows[0].scores[frames].means
    ]
    heads = ["", *size_words(figures.rows[0])]
    for frames, mean in means:
        heads += [f"{NAME_OF[mean]} on {frames}", "difference"]
    lines = [table_line(heads), "|" + "---|" * len(heads)]
    for row in figures.rows:
        cells = [row.name, *size_words(row).values()]
        for frames, mean in means:
            figure = row.scores[frames].means.get(mean)
            cells += [MISSING, MISSING] if figure is None else [with_interval(figure), points(figure.difference)]
        lines.append(table_line(cells))
    return "\n".join(lines)
