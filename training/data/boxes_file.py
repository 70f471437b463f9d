"""Reads boxes.json, the objects of all frames of a folder, and checks every number before the training starts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from training.data.image_files import MAX_SIDE_PX
from training.data.labels import EVERY_CLASS, SourceBoxes
from training.errors import DataError, listed
from training.label_sets.label_set import LabelSet

MAX_BOXES_JSON_BYTES = 1 << 30

Row = tuple[tuple[float, ...], int, bool]


def read_boxes_file(
    path: Path, names: Iterable[str], label_set: LabelSet, *, every_frame: bool = True, score_min: float = 0.0
) -> dict[str, SourceBoxes]:
    """Return the boxes of each frame, in pixels. A repeated box counts once.

    Args:
        path: JSON of `{frame: {"boxes_xyxy": [[left, top, right, bottom], ...], "labels": [id, ...]}, ...}`. An entry
            may have `ignored` (true for a region that teaches nothing; its label may be EVERY_CLASS) and `scores`
            (0..1, what a teacher gave each box, or null), with a value for each box.
        names: Frames to read.
        label_set: Its classes of boxes are the labels that may occur.
        every_frame: Whether each of these frames must have an entry.
        score_min: Boxes with a lower score are ignored regions.

    Raises:
        DataError: The file has another form, a frame is missing or listed twice, or a box or label is not valid.
    """
    entries = _read_json(path)
    boxes: dict[str, SourceBoxes] = {}
    problems: list[str] = []
    repeated = 0
    listed_names = list(names)
    lost = [name for name in listed_names if name not in entries]
    if lost and every_frame:
        problems.append(
            f"{path}: expected an entry for frame {lost[0]}, there is none ({len(lost)} frames have none); add the "
            "entries, with empty lists for frames without objects, or write the file again"
        )
    for name in (name for name in listed_names if name in entries):
        try:
            objects = _check_entry(entries[name], f"{path}: frame {name}", label_set, score_min)
        except DataError as error:
            problems.append(str(error))
            continue
        distinct = list(dict.fromkeys(objects))
        repeated += len(objects) - len(distinct)
        boxes[name] = SourceBoxes.of(distinct)
    if problems:
        raise DataError(listed(problems))
    if repeated:
        print(f"{path}: {repeated} boxes are listed twice in their frame with the same label; each counts once")
    return boxes


def check_inside(boxes: SourceBoxes | None, size: tuple[int, ...], where: str) -> SourceBoxes | None:
    """Return the boxes of a frame if they lie in its image of height and width `size`.

    Raises:
        DataError: A box reaches out of the image. The error begins with `where`.
    """
    height, width = size
    if boxes is not None and (boxes.boxes_xyxy > (width, height, width, height)).any():
        raise DataError(
            f"{where}: expected boxes within its {width} x {height} pixels, got one that reaches out; clip them, or "
            "give the frame the boxes that belong to it"
        )
    return boxes


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BOXES_JSON_BYTES:
            raise ValueError(f"expected at most {MAX_BOXES_JSON_BYTES} bytes, got {path.stat().st_size}")
        entries = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeated_keys)
        if not isinstance(entries, dict):
            raise ValueError(f"expected an object of frames, got {type(entries).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the boxes of all frames as JSON ({error}); write the file again") from error
    return entries


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse a repeated key, of which Python would silently take the last value."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in entries if names.count(name) > 1)} is there twice")
    return entries


def _check_entry(entry: Any, where: str, label_set: LabelSet, score_min: float) -> list[Row]:
    """Return box, label and whether it is ignored, of each object in a frame's entry."""
    boxes, labels = (entry.get(key) for key in ("boxes_xyxy", "labels")) if isinstance(entry, dict) else (None, None)
    if not isinstance(boxes, list) or not isinstance(labels, list):
        raise DataError(f"{where}: expected boxes_xyxy (n x 4) and labels (n), got {_short(entry)}; write it again")
    if len(boxes) != len(labels):
        raise DataError(f"{where}: expected as many labels as boxes, got {len(labels)} and {len(boxes)}")
    for box in boxes:
        _check_box(box, where)
    ignored = _check_ignored(entry, len(boxes), where, score_min)
    known = {info.id for info in label_set.detection}
    strange = [
        label
        for label, hidden in zip(labels, ignored, strict=True)
        if not _is_number(label) or not (label in known or (hidden and label == EVERY_CLASS))
    ]
    if strange:
        raise DataError(
            f"{where}: expected whole numbers as labels, ids of boxes in the label set {label_set.name} "
            f"({sorted(known)}), got {_short(strange)}; name the label set that they are of (labels), or add them to "
            "its file"
        )
    return [
        (tuple(map(float, box)), int(label), hidden) for box, label, hidden in zip(boxes, labels, ignored, strict=True)
    ]


def _check_ignored(entry: dict[str, Any], count: int, where: str, score_min: float) -> list[bool]:
    """Return which boxes teach nothing: those that are marked, and those of a score that is too low."""
    ignored, scores = entry.get("ignored", [False] * count), entry.get("scores", [None] * count)
    if not isinstance(ignored, list) or len(ignored) != count or not all(isinstance(one, bool) for one in ignored):
        raise DataError(
            f"{where}: expected `ignored` as true or false for each of {count} boxes, got {_short(ignored)}"
        )
    if (
        not isinstance(scores, list)
        or len(scores) != count
        or not all(score is None or (_is_number(score) and 0 <= score <= 1) for score in scores)
    ):
        raise DataError(f"{where}: expected `scores` of 0..1 or null for each of {count} boxes, got {_short(scores)}")
    return [hidden or (score is not None and score < score_min) for hidden, score in zip(ignored, scores, strict=True)]


def _check_box(box: Any, where: str) -> None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(corner) for corner in box):
        raise DataError(f"{where}: expected a box of four numbers (n x 4 in all), got {_short(box)}; write it again")
    if not all(0 <= corner <= MAX_SIDE_PX for corner in box):
        raise DataError(f"{where}: expected box corners within 0..{MAX_SIDE_PX} pixels, got {_short(box)}; clip it")
    left, top, right, bottom = np.asarray(box, np.float32)
    if not (left < right and top < bottom):
        raise DataError(
            f"{where}: expected left, top, right, bottom of a box with a positive size, got {_short(box)}; correct it"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return repr(value)[:80]
