"""Suggests what a class becomes that maps to nothing: by the tables of the shipped sets, or by a close name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.label_sets.label_set import LabelClass, LabelSet
from training.label_sets.loading import load_label_set, shipped_names
from training.label_sets.mapping import ENDINGS, IGNORE, Matches

_CLOSE = 0.7  # least ratio of difflib for two names to be close
_WORD = re.compile(r"[^\W_]+")  # of any script


@dataclass(frozen=True)
class Suggestion:
    """What a class may become.

    Attributes:
        target: Class of the student, `ignore` or `background`.
        reason: Why, in a few words.
    """

    target: str
    reason: str


def suggestions_for(matches: Matches, student: LabelSet) -> dict[str, dict[str, Suggestion]]:
    """Return a suggestion for every class that maps to nothing, by task and name; tasks without one are absent."""
    found = {
        task: {name: suggest(name, task, student) for name, match in by_name.items() if not match.target}
        for task, by_name in matches.items()
    }
    return {task: by_name for task, by_name in found.items() if by_name}


def suggest(name: str, task: str, student: LabelSet) -> Suggestion:
    """Return what a class of another set may become in the student's set.

    Args:
        name: Class of the other set.
        task: `segmentation` or `detection`.
        student: Set of the student.
    """
    targets = student.by_task[task]
    steps = (_by_spelling(name, targets), _by_shipped_tables(name, task, student), _by_closeness(name, targets))
    return next((one for step in steps for one in step), Suggestion(IGNORE, "no close name"))


def _by_spelling(name: str, targets: Sequence[LabelClass]) -> Iterator[Suggestion]:
    for info in targets:
        if _words(info.name) and _words(info.name) == _words(name):
            yield Suggestion(info.name, "same name, spelt differently")


def _by_shipped_tables(name: str, task: str, student: LabelSet) -> Iterator[Suggestion]:
    allowed = {info.name for info in student.by_task[task]} | {*ENDINGS[task]}
    for shipped in map(load_label_set, shipped_names()):
        table = shipped.mappings.get(student.name)
        for other, target in getattr(table, task, {}).items():
            if _words(other) and _words(other) == _words(name) and target in allowed:
                yield Suggestion(target, f"as in the table of {shipped.name}")


def _by_closeness(name: str, targets: Sequence[LabelClass]) -> Iterator[Suggestion]:
    """Yield classes whose words are among those of the name or hold them, then classes of similar letters."""
    words = set(_words(name))
    for info in targets:
        others = set(_words(info.name))
        if words and others and (words <= others or others <= words):
            yield Suggestion(info.name, "close name")
    by_letters = {" ".join(_words(info.name)): info.name for info in targets}
    for close in difflib.get_close_matches(" ".join(_words(name)), by_letters, n=1, cutoff=_CLOSE):
        yield Suggestion(by_letters[close], "close name")


def _words(name: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(name.casefold()))
