"""Tables of label sets and mappings as text for a terminal, with swatches of the colours if it shows them."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from ros_kd_perception.model.contract import ClassInfo
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import BACKGROUND, ENDINGS, IGNORE, Match
from training.label_tables.report import MappingReport, classes_of

MASKS_OR_BOXES = {"segmentation": "masks", "detection": "boxes"}
_MEANING = {IGNORE: "ignored: teaches nothing", BACKGROUND: "background: as if nothing were there", "": "LEFT"}
_RESET = "\x1b[0m"


def catalogue(label_sets: Sequence[LabelSet]) -> str:
    """Return a table of label sets with the numbers of their classes."""
    rows = [("label set", "masks", "boxes", "has tables to")]
    rows += [
        (one.name, str(len(one.segmentation)), str(len(one.detection)), ", ".join(one.mappings) or "-")
        for one in label_sets
    ]
    return _aligned(rows)


def one_set(label_set: LabelSet, colored: bool) -> str:
    """Return the classes of a label set with ids, and what the set says about them.

    Args:
        label_set: The set.
        colored: True puts a swatch of its colour before each class.
    """
    parts = [label_set.name]
    for task in label_set.tasks:
        rows = [(MASKS_OR_BOXES[task], "id", "")]
        rows += [(info.name, str(info.id), _remarks(label_set, task, info)) for info in classes_of(label_set, task)]
        parts.append(_aligned(rows, _swatches(classes_of(label_set, task), colored)))
    if label_set.segmentation:
        parts.append(f"not labelled in masks: 255{''.join(f', {one}' for one in label_set.void_ids)}")
    parts.append(f"tables to: {', '.join(label_set.mappings) or 'no other set'}")
    return "\n\n".join(parts)


def mapping_table(report: MappingReport, colored: bool) -> str:
    """Return what each class of a source becomes, what is left, and which classes of the student have no labels.

    Args:
        report: The mapping.
        colored: True puts a swatch of the student's colour before each class.
    """
    pair = f"{report.source.name} to {report.student.name}"
    parts = [f"{report.title}: {pair}" if report.title else pair]
    for task, matches in report.matches.items():
        if not matches:
            continue
        theirs = {info.name: info for info in classes_of(report.student, task)}
        found = [(info, matches[info.name]) for info in classes_of(report.source, task)]
        rows: list[tuple[str, ...]] = [(MASKS_OR_BOXES[task], "id", "becomes", "id", "via")]
        rows += [_row(info, match, theirs, report.source) for info, match in found]
        parts.append(_aligned(rows, _swatches([theirs.get(match.target) for _, match in found], colored)))
    parts += [line for task in report.student.tasks if (line := _without_labels(report, task))]
    if report.lost:
        parts.append(_remedy(report))
    return "\n\n".join(parts)


def _remarks(label_set: LabelSet, task: str, info: ClassInfo) -> str:
    if task == "detection":
        region = label_set.regions.get(info.name, "")
        return f"pixels: {region}" if region and region != info.name else ""
    named = {"drivable": label_set.drivable, "rare": label_set.rare}
    return ", ".join(remark for remark, names in named.items() if info.name in names)


def _row(info: ClassInfo, match: Match, theirs: dict[str, ClassInfo], source: LabelSet) -> tuple[str, ...]:
    via = f"table of {source.name}" if match.via == "table of the set" else match.via
    if match.target in theirs:
        return info.name, str(info.id), match.target, str(theirs[match.target].id), via
    return info.name, str(info.id), _MEANING[match.target], "", via if match.target else ""


def _without_labels(report: MappingReport, task: str) -> str:
    names = report.unlabeled(task)
    what = MASKS_OR_BOXES[task]
    if len(names) == len(report.student.by_task[task]):
        return f"{report.student.name}: no class of {what} is labelled here"
    return f"{report.student.name}: {what} that are not labelled here: {', '.join(names)}" if names else ""


def _remedy(report: MappingReport) -> str:
    """Return the lines that a user can paste into the source, with a suggestion for every class that is left."""
    verb = "1 class maps" if report.lost == 1 else f"{report.lost} classes map"
    lines = [
        f"{verb} to nothing. Put these lines into the source in the recipe, and correct what each class becomes:",
        f"a class of {report.student.name}, {' or '.join(ENDINGS['detection'])} ({BACKGROUND} for boxes only).",
        "",
        "map:",
    ]
    for task, by_name in report.suggestions.items():
        lines.append(f"  {task}:")
        entries = {name: f"{_yaml(name)}: {_yaml(one.target)}" for name, one in by_name.items()}
        width = max(map(len, entries.values()))
        lines += [f"    {entry:{width}}  # {by_name[name].reason}" for name, entry in entries.items()]
    return "\n".join(lines)


def _yaml(name: str) -> str:
    """Return a name as YAML writes it: in quotes if it would be read as something else."""
    text: str = yaml.safe_dump([name], default_flow_style=True, allow_unicode=True, width=1000)
    return text.strip()[1:-1]


def _swatches(classes: Sequence[ClassInfo | None], colored: bool) -> list[str]:
    """Return what stands before the rows of a table: two spaces in the colour of each class after those of the head."""
    if not colored:
        return ["  "] * (len(classes) + 1)
    swatches = [
        f"\x1b[48;2;{info.color_rgb[0]};{info.color_rgb[1]};{info.color_rgb[2]}m  {_RESET} " if info else "   "
        for info in classes
    ]
    return ["   ", *swatches]


def _aligned(rows: Sequence[tuple[str, ...]], starts: Sequence[str] = ()) -> str:
    """Return rows with columns of equal width; columns named `id` are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for place, row in enumerate(rows):
        cells = [
            cell.rjust(width) if head == "id" else cell.ljust(width)
            for cell, width, head in zip(row, widths, rows[0], strict=True)
        ]
        lines.append((starts[place] if starts else "") + "  ".join(cells).rstrip())
    return "\n".join(lines)
