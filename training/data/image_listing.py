"""The image files of a folder. Nothing here decodes an image, so that settings can be checked without OpenCV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from training.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
FRAMES_FILE = "frames.json"  # in a folder of frames that were taken out of a bag
OTHER_PICTURE_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def list_images(folder: Path) -> list[Path]:
    """Return the JPEG and PNG files of a folder in name order, without hidden ones.

    Raises:
        DataError: There is no such folder, or it holds none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with .jpg or .png frames, there is none; correct its name")
    paths = sorted(
        path
        for path in folder.iterdir()
        # Hidden files are not frames: macOS leaves a ._NAME.jpg beside each NAME.jpg on foreign disks.
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise DataError(f"{folder}: expected .jpg or .png frames in the folder itself, found none; name another folder")
    return paths


def other_pictures(folder: Path) -> list[str]:
    """Return the names of pictures in formats that are not read, in name order."""
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in OTHER_PICTURE_SUFFIXES)


def frame_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each image: its stem, or its path below their common folder if stems come twice.

    Raises:
        DataError: Two images differ in their suffix only.
    """
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = Path(os.path.commonpath([path.parent for path in paths]))
    named: dict[str, Path] = {}
    for path in paths:
        name = "__".join(path.relative_to(common).with_suffix("").parts)
        if name in named:
            raise DataError(f"{path}: expected one image of the name {name}, there is {named[name]} too; rename one")
        named[name] = path
    return list(named)
