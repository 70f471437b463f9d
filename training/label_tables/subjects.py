"""What the command `labels` is asked about: a label set, or the sources of a recipe with the set of their student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.config.loading import load_settings
from training.config.yaml_text import read_yaml
from training.data.readers.registry import recognize, source_of
from training.data.readers.source import LabeledSource
from training.errors import RecipeError
from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.loading import SUFFIXES, load_label_set
from training.recipe import Recipe


@dataclass(frozen=True)
class Subject:
    """Something with classes.

    Attributes:
        title: What it is, for example `data.train.0 (out/frames)`; empty for a label set by its name.
        label_set: Its classes.
        table: What the recipe says about them.
    """

    title: str
    label_set: LabelSet
    table: NameTable


def is_recipe(word: str) -> bool:
    """Return whether a word is the path of a recipe and not of a label set: only recipes have the key `data`."""
    if not word.lower().endswith(SUFFIXES):
        return False
    try:
        content = read_yaml(Path(word).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the reader of label sets says what is wrong
        return False
    return isinstance(content, dict) and "data" in content


def subject_of(word: str, table: NameTable) -> Subject:
    """Return the label set of a name, a file or a folder of frames, with a table that counts before its own."""
    label_set = label_set_named(word)
    return Subject("" if word == label_set.name else word, label_set, table)


def label_set_named(word: str) -> LabelSet:
    """Return the label set of a name, of a file, or of the frames in a folder.

    Raises:
        RecipeError: There is no such set, or the folder is none that a reader of labels recognizes.
        DataError: The folder should name its classes, and does not.
    """
    folder = Path(word)
    if not folder.is_dir():
        return load_label_set(word)
    kind = recognize(folder, "")
    if not kind:
        raise RecipeError(
            f"{word}: expected the folder of a labelled data set (docs/data_sets.md), no reader recognizes it; name a "
            "label set instead"
        )
    source = source_of(kind, {"folder": folder})
    assert isinstance(source, LabeledSource)
    return source.label_set()


def student_of(word: str) -> LabelSet:
    """Return the label set of a student by its name, its path, or the path of a recipe.

    Raises:
        RecipeError: There is no such set or recipe, or a student cannot have these ids.
    """
    if is_recipe(word):
        return load_settings(Path(word), Recipe).student_classes()
    label_set = load_label_set(word)
    label_set.check_student()
    return label_set


def subjects_of(recipe: Path, overrides: Sequence[str]) -> tuple[list[Subject], LabelSet]:
    """Return what has classes in a recipe, and the set of its student.

    The recipe is read without the check that every class maps to something, since the command shows just that.

    Raises:
        RecipeError: The recipe or a label set cannot be read.
        DataError: A folder does not name its classes.
    """
    content = load_settings(recipe, Recipe, overrides)
    found = [
        Subject(f"{key} ({source.folder})", source.label_set(), source.map)
        for key, source in content.sources()
        if isinstance(source, LabeledSource)
    ]
    if not found:
        raise RecipeError(f"{recipe}: expected a source with labels, all sources are without; nothing can map")
    return found, content.student_classes()
