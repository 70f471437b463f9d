"""Reads annotation files of COCO: instances and panoptic segments.

The format is that of cocodataset.org/#format-data: boxes are [left, top, width, height] in pixels, category ids may
have gaps, `iscrowd` marks a region of many objects. github.com/cocodataset/panopticapi reads the panoptic form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from training.data.json_stream import stream_json
from training.data.labels import SourceBoxes
from training.errors import DataError, listed

_FIRST_PROBLEMS = 3  # of one image
_LARGEST_CORNER_PX = 1e6

Row = tuple[tuple[float, float, float, float], int, bool]


@dataclass
class CocoImage:
    """One image of an annotation file.

    Attributes:
        file_name: Path of the image below the folder of the images.
        size: Height and width in pixels; None if the file does not say.
        rows: Corners xyxy in pixels, category id and whether the region teaches nothing, of each object.
        shapes: Category id and segmentation (polygons or run lengths) of each object that is no crowd.
        segments: Category of each id in the panoptic mask; None without one.
        mask_name: File of the panoptic mask.
        problems: What is wrong with its annotations.
    """

    file_name: str
    size: tuple[int, int] | None = None
    rows: list[Row] = field(default_factory=list)
    shapes: list[tuple[int, Any]] = field(default_factory=list)
    segments: dict[int, int] | None = None
    mask_name: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def boxes(self) -> SourceBoxes:
        """The objects. One that is listed twice counts once."""
        return SourceBoxes.of(dict.fromkeys(self.rows))


@dataclass
class CocoFile:
    """The content of an annotation file.

    Attributes:
        categories: Names by id.
        things: The categories that have boxes.
        images: The images by their file names, in the order of the file.
        notes: Oddities that do no harm, a sentence each.
    """

    categories: dict[int, str]
    things: dict[int, str]
    images: dict[str, CocoImage]
    notes: list[str]

    @property
    def panoptic(self) -> bool:
        """Whether the file describes panoptic masks."""
        return any(image.segments is not None for image in self.images.values())


def read_coco(path: Path, shapes: bool = False) -> CocoFile:
    """Read an annotation file. A file that has not changed since it was read last is not read again.

    Args:
        path: JSON of instances or of panoptic segments.
        shapes: Whether to keep polygons and run lengths, which need ten times the memory of the boxes.

    Raises:
        DataError: The file is not of this form. What is wrong with single annotations is kept with their image.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: expected the annotations of COCO as JSON ({error.strerror}); correct the recipe's `annotations`"
        ) from error
    return _read(path, shapes, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=2)
def _read(path: Path, shapes: bool, state: tuple[int, int]) -> CocoFile:
    del state  # part of the key of the cache
    reading = _Reading(path, shapes)
    for key, entry in stream_json(path):
        reading.add(key, entry)
    return reading.finished()


class _Reading:
    """Collects the parts of a file, in whatever order they stand."""

    def __init__(self, path: Path, shapes: bool) -> None:
        self._path = path
        self._shapes = shapes
        self._categories: dict[int, str] = {}
        self._things: dict[int, str] = {}
        self._images: dict[Any, CocoImage] = {}
        self._found: dict[Any, CocoImage] = {}  # what the annotations say, by image id
        self._ids: set[Any] = set()
        self._repeated = 0
        self._flat = 0
        self._problems: list[str] = []
        self._parts = {"categories": self._add_category, "images": self._add_image, "annotations": self._add_annotation}
        self._seen = dict.fromkeys(self._parts, 0)

    def add(self, key: str, entry: Any) -> None:
        if key not in self._parts:
            return
        place = f"{key}[{self._seen[key]}]"
        self._seen[key] += 1
        try:
            if not isinstance(entry, dict):
                raise _Odd(f"expected an object, got {repr(entry)[:60]}; correct it")
            self._parts[key](entry)
        except _Odd as error:
            self._problems.append(f"{self._path}: {place}: {error}")

    def _add_category(self, entry: dict[str, Any]) -> None:
        number, name = _of_kind(entry.get("id"), int, "id"), _of_kind(entry.get("name"), str, "name")
        if number in self._categories:
            raise _Odd(f"expected each id once, got {number} for {self._categories[number]!r} and {name!r}; correct it")
        self._categories[number] = name
        if entry.get("isthing", 1):
            self._things[number] = name

    def _add_image(self, entry: dict[str, Any]) -> None:
        number, name = _of_kind(entry.get("id"), (int, str), "id"), _of_kind(entry.get("file_name"), str, "file_name")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise _Odd(f"expected a file_name below the folder of the images, got {name!r}; correct it")
        if number in self._images:
            raise _Odd(f"expected each id once, got {number!r} for {self._images[number].file_name!r} and {name!r}")
        height, width = entry.get("height"), entry.get("width")
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        self._images[number] = CocoImage(name, size)

    def _add_annotation(self, entry: dict[str, Any]) -> None:
        found = self._found.setdefault(_of_kind(entry.get("image_id"), (int, str), "image_id"), CocoImage(""))
        try:
            if "segments_info" in entry:
                self._add_segments(found, entry)
            else:
                self._add_object(found, entry, f"annotation {entry.get('id')}")
        except _Odd as error:
            found.problems.append(str(error))

    def _add_segments(self, found: CocoImage, entry: dict[str, Any]) -> None:
        found.mask_name = _of_kind(entry.get("file_name"), str, "file_name of a panoptic mask")
        found.segments = found.segments or {}
        for segment in _of_kind(entry["segments_info"], list, "segments_info"):
            number = _of_kind(_of_kind(segment, dict, "a segment").get("id"), int, "id of a segment")
            found.segments[number] = _of_kind(segment.get("category_id"), int, f"category_id of segment {number}")
            self._add_object(found, segment, f"segment {number}", repeats=False)

    def _add_object(self, found: CocoImage, entry: dict[str, Any], where: str, repeats: bool = True) -> None:
        category = _of_kind(entry.get("category_id"), int, f"{where}: category_id")
        left, top, width, height = _box(entry.get("bbox"), where)
        crowd = bool(entry.get("iscrowd") or entry.get("ignore"))
        if repeats and "id" in entry:
            self._repeated += _of_kind(entry["id"], (int, str), f"{where}: id") in self._ids
            self._ids.add(entry["id"])
        self._flat += not (width and height)
        if width and height:
            found.rows.append(((left, top, left + width, top + height), category, crowd))
        if self._shapes and not crowd and entry.get("segmentation"):
            found.shapes.append((category, entry["segmentation"]))

    def finished(self) -> CocoFile:
        """Return the images with their annotations.

        Raises:
            DataError: Parts are missing, or single ones cannot be read.
        """
        for key in ("images", "categories"):
            if not self._seen[key]:
                self._problems.append(f"{self._path}: expected a list of {key}, there is none; export it again")
        images = self._joined()
        if self._problems:
            raise DataError(listed(self._problems))
        return CocoFile(self._categories, self._things, images, self._notes())

    def _joined(self) -> dict[str, CocoImage]:
        images: dict[str, CocoImage] = {}
        for number, image in self._images.items():
            if image.file_name in images:
                self._problems.append(f"{self._path}: two images have the file_name {image.file_name!r}; remove one")
            found = self._found.pop(number, CocoImage(""))
            for key in ("rows", "shapes", "segments", "mask_name", "problems"):
                setattr(image, key, getattr(found, key))
            self._check_categories(image)
            image.rows = [row for row in image.rows if row[1] in self._things]  # stuff has boxes in panoptic files
            images[image.file_name] = image
        if self._found and not any(image.rows or image.problems for image in images.values()):
            self._problems.append(
                f"{self._path}: expected annotations of the images that it lists, all belong to others, such as "
                f"image_id {next(iter(self._found))!r}; correct the ids"
            )
        return images

    def _check_categories(self, image: CocoImage) -> None:
        used = {category for _, category, _ in image.rows} | set((image.segments or {}).values())
        unknown = sorted(used - self._categories.keys())
        if unknown:
            image.problems.append(f"expected ids of its categories, got category_id {unknown[:5]}; add them")

    def _notes(self) -> list[str]:
        lost = len(self._found)
        notes = {
            f"{self._repeated} annotations have the id of another; objects that are equal count once": self._repeated,
            f"{self._flat} boxes have no width or height and are left out": self._flat,
            f"annotations of {lost} images that it does not list are left out": lost,
        }
        return [f"{self._path}: {note}" for note, count in notes.items() if count]


class _Odd(ValueError):
    """Part of a file has another form than expected."""


def _of_kind(value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise _Odd(f"{what}: expected {names}, got {repr(value)[:60]}; correct it")
    return value


def _box(value: Any, where: str) -> list[float]:
    """Return left, top, width and height."""
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 4 or not all(_is_number(number) for number in numbers) or min(numbers[2:]) < 0:
        raise _Odd(
            f"{where}: expected bbox as left, top, width and height in pixels, got {repr(value)[:80]}; correct it"
        )
    return [float(number) for number in numbers]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_CORNER_PX


def first_problems(image: CocoImage) -> str:
    """Return what is wrong with the annotations of an image, the first few of it; empty if nothing is."""
    more = len(image.problems) - _FIRST_PROBLEMS
    return " | ".join([*image.problems[:_FIRST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])
