"""Reads label sets: those of this folder by their name, and those of users by the path of their file."""

from __future__ import annotations

from pathlib import Path

from training.config.loading import load_settings
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet

FOLDER = Path(__file__).resolve().parent
DEFAULT_LABEL_SET = "camvid11"  # of recipes that name no other
SUFFIXES = (".yaml", ".yml")


def shipped_names() -> list[str]:
    """Return the names of the sets that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def is_shipped(name_or_path: str | Path) -> bool:
    """Return whether a text names a set that comes with the package, and not a file of the user."""
    text = str(name_or_path)
    return "/" not in text and (FOLDER / f"{text}.yaml").is_file()


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """Return a label set.

    Args:
        name_or_path: The name of a set that comes with the package, or the path of a YAML file.

    Raises:
        RecipeError: There is no such set, or the file is not a label set.
    """
    text = str(name_or_path)
    if is_shipped(text):
        return _read(FOLDER / f"{text}.yaml")
    if not text.lower().endswith(SUFFIXES):
        raise RecipeError(
            f"there is no label set {text!r}; name one of {', '.join(shipped_names())}, or the path of a .yaml file"
        )
    return _read(Path(text))


def _read(path: Path) -> LabelSet:
    label_set = load_settings(path, LabelSet)
    try:
        label_set.check_classes()
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    return label_set
