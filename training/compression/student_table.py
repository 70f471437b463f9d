"""Students side by side in one table and one plot: what each row costs, what it is worth, and which no other beats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import Field

from training.compare.recipe import ScoreRecipe
from training.compression.figures import Figures, Row, measure
from training.compression.parent import parent_stage
from training.compression.report_plot import Dot, drawing, picture
from training.compression.wording import SHOWN, conditions
from training.config.settings import PathText, Settings
from training.errors import CheckpointError, RecipeError
from training.evaluation.wording import MISSING, NAME_OF, table_line
from training.whole_files import write_bytes, write_text


class TableRecipe(Settings):
    """The rows of a table, and what they are measured on."""

    rows: Annotated[dict[str, Annotated[list[PathText], Field(min_length=1)]], Field(min_length=1)]
    """Exported files, checkpoints or weights by the name of their row; several of a row are its seeds."""
    scores: Annotated[tuple[ScoreRecipe, ...], Field(min_length=1)]
    """Frames with labels."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the network."""
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 100
    """How often each file is timed."""


@dataclass(frozen=True)
class Value:
    """A figure of a row: its mean over the files, with the interval of one file or the range of several."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class TableRow:
    """A row of the table. Shares are 0..1.

    Attributes:
        name: Name of the row.
        files: Number of its files.
        precision: Precision in the contract.
        size_bytes, parameters, multiply_accumulates: Means over the files.
        latency_ms: Median of a frame.
        ratio: Latency over that of the first file of the table.
        accuracy: `FIGURE on FRAMES` -> value.
    """

    name: str
    files: int
    precision: str
    size_bytes: float
    parameters: float
    multiply_accumulates: float | None
    latency_ms: Value
    ratio: float
    accuracy: Mapping[str, Value]


def write_table(recipe: TableRecipe, folder: Path, device: str) -> str:
    """Measure all files of a table side by side; write table.md, table.json and table.png.

    Args:
        recipe: The rows and the frames.
        folder: Folder to write into. It keeps exported checkpoints, and what was perceived.
        device: Where the files run, as in `OnnxModel.open`.

    Returns:
        The text of table.md.

    Raises:
        CheckpointError, DataError, ModelError, RecipeError: A file or the frames cannot be used.
    """
    figures, rows = _measured(recipe, folder, device)
    fronts = {figure: front(rows, figure) for figure in dict.fromkeys(name for row in rows for name in row.accuracy)}
    text = f"{_table(rows, fronts)}\n\n{conditions(figures)}\n"
    files = figures.to_json()
    content = {"rows": [asdict(row) for row in rows], "fronts": fronts, "files": files.pop("rows"), **files}
    write_text(folder / "table.md", text)
    write_text(folder / "table.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    plots = [drawing(figure, _dots(rows, figure), names) for figure, names in fronts.items()]
    write_bytes(folder / "table.png", picture(plots))
    return text


def _measured(recipe: TableRecipe, folder: Path, device: str) -> tuple[Figures, list[TableRow]]:
    """Export what is not exported yet, and measure all files side by side."""
    files: dict[str, Path] = {}
    places: dict[str, list[str]] = {}
    for name, paths in recipe.rows.items():
        for number, path in enumerate(paths, 1):
            key = name if len(paths) == 1 else f"{name} ({number})"
            if key in files:
                raise RecipeError(f"rows: expected names that stay apart, {key!r} names two files; rename a row")
            files[key] = _exported(path, folder)
            places.setdefault(name, []).append(key)
    figures = measure(files, recipe.scores, recipe.threads, folder / "perceived", rounds=recipe.rounds, device=device)
    return figures, [_row_of(name, [figures.row(key) for key in keys]) for name, keys in places.items()]


def _exported(path: Path, folder: Path) -> Path:
    """Return a network as an exported file. A checkpoint is exported once for each content."""
    if path.suffix == ".onnx":
        return path
    CheckpointError.check_file(path)
    place = folder / "exported" / hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    file = place / "parent.onnx"
    return file if file.is_file() else parent_stage(path, place, "", "").file


def _row_of(name: str, files: Sequence[Row]) -> TableRow:
    """Return the row of one or several files."""
    work = [each.multiply_accumulates for each in files if each.multiply_accumulates is not None]
    accuracy = {}
    for frames, scores in files[0].scores.items():
        for mean in SHOWN:
            figures = [each.scores[frames].means.get(mean) for each in files]
            values = [figure.value for figure in figures if figure is not None and figure.value is not None]
            if len(values) == len(files):
                first = scores.means[mean]
                ends = [end for end in (first.low, first.high) if end is not None and len(files) == 1]
                accuracy[f"{NAME_OF[mean]} on {frames}"] = _spread(values, ends)
    latency = files[0].latency
    times = [latency.low_ms, latency.high_ms] if len(files) == 1 else []
    return TableRow(
        name,
        len(files),
        " and ".join(dict.fromkeys(each.precision for each in files)),
        fmean(each.size_bytes for each in files),
        fmean(each.parameters for each in files),
        fmean(work) if len(work) == len(files) else None,
        _spread([each.latency.median_ms for each in files], times),
        fmean(each.latency.ratio for each in files),
        accuracy,
    )


def _spread(values: Sequence[float], ends: Sequence[float]) -> Value:
    """Return the mean of values, and the ends of their range or of an interval."""
    return Value(fmean(values), min([*values, *ends]), max([*values, *ends]))


def front(rows: Sequence[TableRow], figure: str) -> list[str]:
    """Return the names of the rows that no other row beats: none is as quick and as accurate, and better in one."""
    known = [(row.latency_ms.mean, -row.accuracy[figure].mean, row.name) for row in rows if figure in row.accuracy]
    return [
        name
        for latency, loss, name in known
        if not any(a <= latency and b <= loss and (a, b) != (latency, loss) for a, b, _ in known)
    ]


def _dots(rows: Sequence[TableRow], figure: str) -> list[Dot]:
    """Return the rows as dots of a panel."""
    dots = []
    for row in rows:
        if figure in row.accuracy:
            latency, value = row.latency_ms, row.accuracy[figure]
            shares = (100 * value.mean, 100 * value.low, 100 * value.high)
            dots.append(Dot(row.name, latency.mean, latency.low, latency.high, *shares))
    return dots


def _table(rows: Sequence[TableRow], fronts: Mapping[str, Sequence[str]]) -> str:
    """Return the table as Markdown, with the rows of each front in bold, and the fronts by name below it."""
    heads = ["", "files", "precision", "MB", "parameters, M", "GMAC", "latency, ms", "ratio", *fronts]
    lines = [table_line(heads), "|" + "---|" * len(heads)]
    for row in rows:
        work = row.multiply_accumulates
        cells = [
            row.name,
            str(row.files),
            row.precision,
            f"{row.size_bytes / 1e6:.2f}",
            f"{row.parameters / 1e6:.3f}",
            MISSING if work is None else f"{work / 1e9:.2f}",
            _words(row.latency_ms, 1),
            f"{row.ratio:.3f}",
        ]
        for figure, names in fronts.items():
            value = row.accuracy.get(figure)
            text = MISSING if value is None else _words(Value(*(100 * share for share in vars(value).values())), 1)
            cells.append(f"**{text}**" if row.name in names else text)
        lines.append(table_line(cells))
    sets = [f"{figure}: no other row beats {', '.join(names)}." for figure, names in fronts.items()]
    return "\n".join([*lines, "", *sets])


def _words(value: Value, digits: int) -> str:
    """Return a value with the ends of its interval or range."""
    return f"{value.mean:.{digits}f} ({value.low:.{digits}f} .. {value.high:.{digits}f})"
