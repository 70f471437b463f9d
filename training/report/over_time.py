"""The part of a report about answers over time: flicker, lost objects and waits on rendered drives."""

from __future__ import annotations

from html import escape

from training.evaluation.page import html_list, html_table
from training.stability.figures import Stability
from training.stability.wording import said_of, table_of, verdicts


def over_time(stability: Stability) -> str:
    """Return the section: what was watched, and a table with a column for each model."""
    parts = ["<h2>Over time</h2>", html_list(stability.left_out)]
    for source, facts in stability.sources.items():
        heads, _, *rows = table_of(stability, source)
        cells = [[escape(cell) for cell in row] for row in (heads, *rows)]
        parts.append(f"<p>{escape(' '.join(said_of(facts)))}</p>{html_table(cells)}")
        parts.append(html_list(verdicts(stability, source)))
    return "".join(parts)
