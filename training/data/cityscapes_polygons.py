"""Boxes around the polygons of Cityscapes.

Objects are drawn from back to front, each over the earlier ones, as cityscapesscripts/preparation/json2instanceImg.py
of github.com/mcordts/cityscapesScripts does: annotators draw an object that stands behind another one carelessly where
the other hides it. A box surrounds what is left of its object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.data.label_json import is_number, read_object
from training.data.labels import SourceBoxes
from training.data.object_extents import boxes_of_objects
from training.errors import DataError
from training.label_sets.object_names import ObjectClass, ObjectNames

MAX_POLYGONS_BYTES = 1 << 26
_EXPORT_AGAIN = "fetch the file again, or correct it"


def read_polygon_boxes(path: Path, size: tuple[int, ...], names: ObjectNames) -> SourceBoxes:
    """Return the boxes of a ..._polygons.json file, with exclusive far edges.

    Deleted objects are left out. Groups (cargroup) are regions that teach nothing. What lies outside of the image does
    not count.

    Args:
        path: The file.
        size: Height and width of its image in pixels.
        names: Names that the objects may have.

    Raises:
        DataError: The file has another form, belongs to an image of another size, or names an unknown class.
    """
    content = read_object(path, MAX_POLYGONS_BYTES, _EXPORT_AGAIN)
    found = content.get("imgHeight"), content.get("imgWidth")
    if found != tuple(size):
        raise DataError(
            f"{path}: expected imgHeight and imgWidth {tuple(size)} like its image, got {found}; make them the same "
            "frame"
        )
    objects = content.get("objects")
    if not isinstance(objects, list):
        raise DataError(f"{path}: expected a list of objects, got {str(objects)[:40]!r}; {_EXPORT_AGAIN}")
    canvas = np.zeros(size, np.int32)
    classes: list[ObjectClass] = []
    for place, entry in enumerate(objects):
        polygon = _polygon(entry, f"{path}: object {place}")
        if polygon is None:
            continue
        found_class = _class_of(entry["label"], names, f"{path}: object {place}")
        if found_class is not None:
            classes.append(found_class)
        cv2.fillPoly(canvas, [polygon], len(classes) if found_class is not None else 0)
    return boxes_of_objects(canvas, classes)


def _polygon(entry: Any, where: str) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """Return the corners of an object, int32 (n, 2); None if it was deleted."""
    label, polygon = (entry.get(key) for key in ("label", "polygon")) if isinstance(entry, dict) else (None, None)
    if not isinstance(label, str) or not isinstance(polygon, list):
        raise DataError(f"{where}: expected label and polygon, got {str(entry)[:80]!r}; {_EXPORT_AGAIN}")
    if entry.get("deleted"):
        return None
    if not polygon or not all(
        isinstance(corner, list) and len(corner) == 2 and all(map(is_number, corner)) for corner in polygon
    ):
        raise DataError(f"{where} ({label[:40]}): expected corners [x, y], got {str(polygon)[:80]}; {_EXPORT_AGAIN}")
    return np.rint(polygon).astype(np.int32)


def _class_of(label: str, names: ObjectNames, where: str) -> ObjectClass | None:
    try:
        return names.find(label)
    except KeyError as error:
        raise DataError(
            f"{where}: expected a name of the label set, got {error.args[0]}; correct it, or name the label set of "
            "these files (labels)"
        ) from None
