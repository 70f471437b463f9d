"""The confusion matrix as a table: rows are true classes, and every row adds up to 100 %."""

from __future__ import annotations

from html import escape

import numpy as np

from training.evaluation.frame_records import FrameRecords

LEAST_SHOWN = 0.005  # smaller shares are empty cells
OUTSIDE = "none"


def confusion_table(records: FrameRecords) -> str:
    """Return the table of a model as HTML; empty without a labelled pixel."""
    pixels = records.confusion.sum(axis=0, dtype=np.int64)
    names = records.mask_classes.tolist()
    there = np.flatnonzero(pixels.sum(axis=1) > 0)
    if not len(there):
        return ""
    shares = pixels[there] / pixels[there].sum(axis=1, keepdims=True)
    heads = [*names, OUTSIDE] if pixels[:, -1].any() else names
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    rows = []
    for place, row in zip(there, shares, strict=True):
        cells = "".join(_cell(share, column == place) for column, share in enumerate(row[: len(heads)]))
        rows.append(f"<tr><td>{escape(names[place])}</td>{cells}</tr>")
    lines = f"<tr><th>true \\ seen</th>{head}</tr>{''.join(rows)}"
    return f'<div class="card scroll"><table class="matrix">{lines}</table></div>'


def _cell(share: float, right: bool) -> str:
    if share < LEAST_SHOWN:
        return "<td></td>"
    mood = "right" if right else "wrong"
    return f'<td class="{mood}" style="--share: {share:.3f}">{100 * share:.0f}</td>'


def worst_confusions(records: FrameRecords, count: int = 5) -> list[str]:
    """Return the largest confusions in sentences, as shares of the true class."""
    pixels = records.confusion.sum(axis=0, dtype=np.int64)[:, :-1]
    total = records.confusion.sum(axis=(0, 2), dtype=np.int64)
    shares = pixels / np.maximum(total[:, None], 1)
    np.fill_diagonal(shares, 0.0)
    names = records.mask_classes.tolist()
    places = np.dstack(np.unravel_index(np.argsort(-shares, axis=None), shares.shape))[0][:count]
    return [
        f"{100 * shares[true, seen]:.0f} % of the pixels of {names[true]} are taken for {names[seen]}."
        for true, seen in places
        if shares[true, seen] >= LEAST_SHOWN
    ]
