"""Finds the folder of a data set when a recipe names one that lies above or below it."""

from __future__ import annotations

from pathlib import Path

from training.errors import DataError, from_here

_LEVELS_UP = 4


def check_folder(folder: Path, content: str = "frames") -> None:
    """Refuse a path that is no folder.

    Args:
        folder: The folder that a recipe names.
        content: What should be in it, for the error.

    Raises:
        DataError: There is nothing of this name, or a file.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DataError(
            f"{folder}: expected a folder with {content}, there is {found}{from_here(folder)}; correct the path of the "
            "folder"
        )


def check_root(folder: Path, part: str, layout: str) -> None:
    """Refuse a folder that is not the root of a data set, and name the root if it is near.

    Args:
        folder: The folder that a recipe names.
        part: A path that every root has, for example `images/100k`.
        layout: What the root holds, for the error.

    Raises:
        DataError: There is no such path in the folder.
    """
    if (folder / part).is_dir():
        return
    above = [parent for parent in folder.resolve().parents[:_LEVELS_UP] if (parent / part).is_dir()]
    below = [child for child in _folders(folder) if (child / part).is_dir()]
    if not folder.is_dir():
        advice = "there is no such folder; correct the path of the folder"
    elif above:
        advice = f"this is an inner folder of it; set folder: {above[0]}"
    elif below:
        advice = f"it lies one level below; set folder: {below[0]}"
    else:
        found = ", ".join(path.name for path in _folders(folder)[:5]) or "no folders"
        advice = (
            f"there is no {part}/ but {found}; correct the path of the folder, or its kind, or unpack what is missing"
        )
    raise DataError(f"{folder}: expected {layout}: {advice}")


def check_split(folder: Path, split: str) -> None:
    """Refuse a split that a data set does not have.

    Raises:
        DataError: There is no folder of this name.
    """
    if not split or not (folder / split).is_dir():
        found = ", ".join(path.name for path in _folders(folder)) or "no folders"
        raise DataError(f"{folder}: expected a split {split}/, there are {found}; correct the recipe's split")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
