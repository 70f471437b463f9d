"""Suggests what a class becomes that maps to nothing: by the tables of the shipped sets, or by a close name."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.label_sets.label_set import LabelClass, LabelSet
from training.label_sets.loading import load_label_set, shipped_names
from training.label_sets.mapping import ENDINGS, IGNORE, Matches

_CLOSE = 0.7  # least ratio of difflib for two names to be close
_WORD = re.compile(r"[^\W_]+")  # of any script
_PART_END = re.compile(r"--|[/:|>]")


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
    steps = (
        _by_spelling(name, targets),
        _by_tables(name, task, student, {student.name}),
        _by_part(name, targets),
        _by_tables(name, task, student, set(shipped_names()) - {student.name}),
        _by_letters(name, targets),
    )
    return next((one for step in steps for one in step), Suggestion(IGNORE, "no close name"))


def _by_spelling(name: str, targets: Sequence[LabelClass]) -> Iterator[Suggestion]:
    for info in targets:
        if _words(info.name) and _words(info.name) == _words(name):
            yield Suggestion(info.name, "same name, spelt differently")


def _by_tables(name: str, task: str, student: LabelSet, others: set[str]) -> Iterator[Suggestion]:
    """Yield what the tables of the shipped sets to some other sets say, if the student has the class, too."""
    allowed = {info.name for info in student.by_task[task]}
    for shipped in _shipped_sets():
        for other in sorted(others & shipped.mappings.keys()):
            endings = set(ENDINGS[task]) if other == student.name else set()
            for known, target in getattr(shipped.mappings[other], task).items():
                if _words(known) and _words(known) == _words(name) and target in allowed | endings:
                    yield Suggestion(target, f"as {shipped.name} maps it to {other}")


def _by_part(name: str, targets: Sequence[LabelClass]) -> Iterator[Suggestion]:
    """Yield classes that are a part of the name, as in `object--vehicle--car`, or its last words, or it theirs."""
    words, parts = _words(name), {_words(part) for part in _PART_END.split(name)}
    for info in targets:
        theirs = _words(info.name)
        if words and theirs and (theirs in parts or _ends_with(words, theirs) or _ends_with(theirs, words)):
            yield Suggestion(info.name, "close name")


def _ends_with(words: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return words[-len(end) :] == end


def _by_letters(name: str, targets: Sequence[LabelClass]) -> Iterator[Suggestion]:
    by_letters = {" ".join(_words(info.name)): info.name for info in targets}
    for close in difflib.get_close_matches(" ".join(_words(name)), by_letters, n=1, cutoff=_CLOSE):
        yield Suggestion(by_letters[close], "close name")


@functools.cache
def _shipped_sets() -> tuple[LabelSet, ...]:
    return tuple(map(load_label_set, shipped_names()))


def _words(name: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(name.casefold()))
