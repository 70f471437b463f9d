"""Where the images, labels and class names of a YOLO data set are.

The conventions are those of docs.ultralytics.com/datasets/detect, as the tools that export the format follow them:
a YAML file names the classes and, for each split, a folder of images, a text file that lists images, or several of
them; the label file of an image lies where `labels` stands for the last `images` of its path.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.config.yaml_text import read_yaml
from training.data.data_set_root import check_folder
from training.data.image_listing import IMAGE_SUFFIXES
from training.data.label_rows import read_text
from training.errors import DataError

NAMES_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt")
_IMAGES, _LABELS, _TRAIN = "images", "labels", "train"
_SHOWN_PLACES = 3


def label_file(image: Path) -> Path:
    """Return where the label file of an image lies: in labels/ for images/, else beside the image."""
    parts = list(image.parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == _IMAGES]
    if folders:
        parts[folders[-1]] = _LABELS
    return Path(*parts).with_suffix(".txt")


class YoloLayout:
    """The files of a YOLO data set.

    Attributes:
        names_path: The file with the names of the classes; None if there is none.
    """

    def __init__(self, folder: Path, names_file: str = "") -> None:
        """Look for the file with the names.

        Args:
            folder: The data set.
            names_file: Name of that file in the folder; empty looks for those of NAMES_FILES.

        Raises:
            DataError: There is no such folder, the named file does not exist, or a file is not of the expected form.
        """
        check_folder(folder)
        self._folder = folder
        found = [folder / name for name in ((names_file,) if names_file else NAMES_FILES) if (folder / name).is_file()]
        if names_file and not found:
            raise DataError(f"{folder / names_file}: expected the names of the classes, there is no such file")
        self.names_path = found[0] if found else None
        self._keys = _read_keys(found[0]) if found else {}

    @property
    def names(self) -> dict[int, str]:
        """The names of the classes by their ids.

        Raises:
            DataError: The file has no names, or they are not a list or a table by id.
        """
        names = self._keys.get("names")
        numbered = dict(enumerate(names)) if isinstance(names, list) else names
        fits = isinstance(numbered, dict) and all(
            type(number) is int and isinstance(name, (str, int, float)) for number, name in numbered.items()
        )
        if not isinstance(numbered, dict) or not fits:
            raise DataError(
                f"{self.names_path}: expected names as a list or as a table from id to name, got "
                f"{repr(names)[:80]}; correct it"
            )
        return {number: str(name).strip() for number, name in numbered.items()}

    def images(self, split: str) -> list[Path]:
        """Return the image files of a split, in name order; of a list file, those that it lists, there or not.

        Args:
            split: A key of the YAML file, or a folder or list file of that name; empty for images/ itself, or for the
                key `train` if no image lies there.

        Raises:
            DataError: There is no such split, or it holds no image.
        """
        split = split or self._usual_split()
        entries = self._keys.get(split) if split else None
        listed = entries if isinstance(entries, list) else [entries]
        places = [self._find([str(entry)]) for entry in listed] if entries else [self._find(_usual_places(split))]
        images = sorted({image for place in places for image in self._images_at(place, deep=bool(split))})
        if not images:
            raise DataError(
                f"{places[0]}: expected .jpg or .png images, found none; correct `split`, the name of a key of the "
                "YAML file or of a folder such as images/train"
            )
        return images

    def _usual_split(self) -> str:
        """Return `train` if the YAML file has it and no image lies in images/ itself, else an empty name."""
        images = self._folder / _IMAGES
        there = images.is_dir() and any(self._images_at(images, deep=False))
        return _TRAIN if self._keys.get(_TRAIN) and not there else ""

    def _find(self, names: list[str]) -> Path:
        """Return the first place that exists: exported files often name folders of the machine that they are from."""
        base = self._keys.get("path")
        bases = [self._folder, *([self._folder / base] if isinstance(base, str) else [])]
        places = [parent / name for name in names for parent in bases]
        places += [self._folder / name.removeprefix("../") for name in names]
        for place in places:
            if place.exists():
                return place
        tried = ", ".join(str(place) for place in dict.fromkeys(places[: _SHOWN_PLACES * len(bases)]))
        raise DataError(
            f"{self._folder}: expected images or a list of them at {tried}, there is nothing; correct `folder` or "
            "`split`, or the paths in its YAML file"
        )

    def _images_at(self, place: Path, deep: bool) -> Iterator[Path]:
        if place.is_file():
            for line in filter(None, map(str.strip, read_text(place).splitlines())):
                candidates = [parent / line for parent in (place.parent, self._folder)]
                yield next((path for path in candidates if path.exists()), candidates[0])
            return
        for path in place.rglob("*") if deep else place.iterdir():
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                yield path


def _usual_places(split: str) -> list[str]:
    if not split:
        return [_IMAGES]
    return [f"{_IMAGES}/{split}", f"{split}/{_IMAGES}", f"{split}.txt", split]


def _read_keys(path: Path) -> dict[Any, Any]:
    """Return the keys of the YAML file; of a text file, the names of its lines."""
    text = read_text(path)
    if path.suffix == ".txt":
        return {"names": [line.strip() for line in text.splitlines() if line.strip()]}
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise DataError(f"{path}: expected YAML with the names of the classes ({error}); correct it") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected YAML with keys, names among them, got {type(content).__name__}; correct it")
    return content
