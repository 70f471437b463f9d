"""Reads the objects of BDD100K: a JSON list of frames in Scalabel's format.

Both releases have this form, det_20/det_{split}.json and the older bdd100k_labels_images_{split}.json, which also lists
lanes and drivable areas. github.com/bdd100k/bdd100k describes the form in doc/source/format.rst, and says which names
and marks are not scored in bdd100k/configs/det.toml and bdd100k/common/utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.label_json import is_number, read_list
from training.data.labels import SourceBoxes
from training.errors import DataError
from training.label_sets.object_names import ObjectNames

MAX_FRAMES_BYTES = 3 << 30  # the list of 2018 has the polygons of 70 000 frames
_REMEDY = "fetch the file again, or correct it"
_KEPT = {"name", "labels", "id", "category", "attributes", "box2d", "x1", "y1", "x2", "y2", "crowd", "ignored"}
_OTHER_SHAPES = ("poly2d", "rle", "box3d", "graph")
_CORNERS = ("x1", "y1", "x2", "y2")
_OF_NO_OBJECT = "-1"  # id of labels that are not single objects


@dataclass
class BddBoxes:
    """The objects of many frames.

    Attributes:
        listed: Names of all frames in the file, without suffix.
        known: Objects of each frame that was labelled, by the frame's name without suffix.
        problems: A sentence about each frame that cannot be read.
    """

    listed: set[str] = field(default_factory=set)
    known: dict[str, SourceBoxes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def read_bdd_boxes(path: Path, names: ObjectNames) -> BddBoxes:
    """Return the objects of all frames in a file.

    A frame without `labels`, or with null, was not labelled: its objects are not known. An empty list says that there
    are no objects. Labels without box2d, such as lanes, are left out. Corners are places in the picture, whose top left
    corner is (0, 0).

    Args:
        path: The file.
        names: Names that the objects may have.

    Raises:
        DataError: The file is not a list of frames.
    """
    found = BddBoxes()
    for place, frame in enumerate(read_list(path, MAX_FRAMES_BYTES, _REMEDY, _without_polygons)):
        name = frame.get("name") if isinstance(frame, dict) else None
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}: frame {place}: expected an object with a name, got {str(frame)[:80]}; {_REMEDY}")
        stem = Path(name).stem
        if stem in found.listed:
            found.problems[stem] = f"{path}: expected frame {stem} once, it is there twice; remove one"
            continue
        found.listed.add(stem)
        try:
            if frame.get("labels") is not None:
                found.known[stem] = SourceBoxes.of(_objects(frame["labels"], names))
        except ValueError as error:
            found.problems[stem] = f"{path}: frame {stem}: {error}; {_REMEDY}"
    return found


def _without_polygons(entry: dict[str, Any]) -> dict[str, Any]:
    """Keep what boxes need of an object in the file: polygons are most of it, and would fill the memory."""
    kept = {key: value for key, value in entry.items() if key in _KEPT}
    if any(entry.get(key) is not None for key in _OTHER_SHAPES):
        kept["other_shape"] = True
    return kept


def _objects(labels: Any, names: ObjectNames) -> list[tuple[list[float], int, bool]]:
    if not isinstance(labels, list):
        raise ValueError(f"expected a list of labels, got {str(labels)[:40]!r}")
    found = [_object(label, place, names) for place, label in enumerate(labels)]
    return [row for row in found if row is not None]


def _object(label: Any, place: int, names: ObjectNames) -> tuple[list[float], int, bool] | None:
    """Return corners, class and whether the region is ignored; None if the label has no box."""
    category = label.get("category") if isinstance(label, dict) else None
    if not isinstance(category, str):
        raise ValueError(f"label {place}: expected a category, got {str(label)[:80]}")
    box = label.get("box2d")
    if box is None:
        if "other_shape" in label or not _has_boxes(category, names):
            return None
        raise ValueError(f"label {place} ({category[:40]}): expected box2d or another shape, there is none")
    corners: list[Any] = [box.get(key) for key in _CORNERS] if isinstance(box, dict) else []
    if len(corners) != 4 or not all(map(is_number, corners)) or corners[0] > corners[2] or corners[1] > corners[3]:
        raise ValueError(f"label {place} ({category[:40]}): expected box2d with x1 <= x2 and y1 <= y2, got {box}")
    try:
        found = names.find(category)
    except KeyError as error:
        raise ValueError(f"label {place}: expected a category of the label set, got {error.args[0]}") from None
    return None if found is None else (corners, found.id, found.ignored or _is_ignored(label))


def _has_boxes(category: str, names: ObjectNames) -> bool:
    try:
        return names.find(category) is not None
    except KeyError:
        return False


def _is_ignored(label: dict[str, Any]) -> bool:
    attributes = label.get("attributes")
    marks = attributes if isinstance(attributes, dict) else {}
    return bool(marks.get("crowd") or marks.get("ignored")) or str(label.get("id")) == _OF_NO_OBJECT
