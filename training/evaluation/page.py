"""Parts of HTML pages: their style, tables and lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE = Path(__file__).with_name("page_style.css")


def page_style() -> str:
    """Return the style sheet of a page, for light and dark screens and for paper."""
    return _STYLE.read_text(encoding="utf-8")


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are HTML; the first row holds the heads."""
    head, *body = (
        "".join(f"<{tag}>{cell}</{tag}>" for cell in row)
        for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)
    )
    lines = "".join(f"<tr>{line}</tr>" for line in body)
    return f'<div class="card scroll"><table><tr>{head}</tr>{lines}</table></div>'


def html_list(sentences: Iterable[str], kind: str = "ul") -> str:
    """Return sentences as a list; empty without any."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<{kind}>{items}</{kind}>" if items else ""
