"""Reads boxes.json, the objects of all frames of a folder, and checks every number before the training starts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from training.data.image_files import MAX_SIDE_PX
from training.data.labels import SourceBoxes
from training.errors import DataError
from training.label_sets.label_set import LabelSet

MAX_BOXES_JSON_BYTES = 1 << 30


def read_boxes_file(path: Path, names: Iterable[str], label_set: LabelSet) -> dict[str, SourceBoxes]:
    """Return the boxes of each frame, in pixels. A repeated box counts once.

    Args:
        path: JSON of `{frame: {"boxes_xyxy": [[left, top, right, bottom], ...], "labels": [id, ...]}, ...}`.
        names: Frames that must have an entry.
        label_set: Its classes of boxes are the labels that may occur.

    Raises:
        DataError: The file has another form, a frame is missing or listed twice, or a box or label is not valid.
    """
    entries = _read_json(path)
    boxes: dict[str, SourceBoxes] = {}
    repeated = 0
    for name in names:
        if name not in entries:
            raise DataError(f"{path}: expected an entry for frame {name}, there is none; render the folder again")
        objects = _check_entry(entries[name], f"{path}: frame {name}", label_set)
        distinct = list(dict.fromkeys(objects))
        repeated += len(objects) - len(distinct)
        boxes[name] = SourceBoxes.of((box, label, False) for box, label in distinct)
    if repeated:
        print(f"{path}: {repeated} boxes are listed twice in their frame with the same label; each counts once")
    return boxes


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BOXES_JSON_BYTES:
            raise ValueError(f"expected at most {MAX_BOXES_JSON_BYTES} bytes, got {path.stat().st_size}")
        entries = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeated_keys)
        if not isinstance(entries, dict):
            raise ValueError(f"expected an object of frames, got {type(entries).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected the boxes of all frames as JSON ({error}); render the folder again"
        ) from error
    return entries


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse a repeated key, of which Python would silently take the last value."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in entries if names.count(name) > 1)} is there twice")
    return entries


def _check_entry(entry: Any, where: str, label_set: LabelSet) -> list[tuple[tuple[float, ...], int]]:
    """Return box and label of each object in a frame's entry."""
    boxes, labels = (entry.get(key) for key in ("boxes_xyxy", "labels")) if isinstance(entry, dict) else (None, None)
    if not isinstance(boxes, list) or not isinstance(labels, list):
        raise DataError(f"{where}: expected boxes_xyxy (n x 4) and labels (n), got {_short(entry)}; write it again")
    if len(boxes) != len(labels):
        raise DataError(f"{where}: expected as many labels as boxes, got {len(labels)} and {len(boxes)}")
    for box in boxes:
        _check_box(box, where)
    known = {info.id for info in label_set.detection}
    strange = [label for label in labels if not _is_number(label) or label not in known]
    if strange:
        raise DataError(
            f"{where}: expected whole numbers as labels, ids of boxes in the label set {label_set.name} "
            f"({sorted(known)}), got {_short(strange)}; name the label set that they are of (labels), or add them to "
            "its file"
        )
    return [(tuple(map(float, box)), int(label)) for box, label in zip(boxes, labels, strict=True)]


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
