"""The part of a comparison's report about teachers: a ranking, their own figures, and who follows their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from training.compare.error_following import NOTHING
from training.compare.following_rule import (
    FEW,
    MORE_THAN_BASELINE,
    OF_ALL_MIN,
    OF_CLASS_MIN,
    Followed,
    clear_pairs,
    followed_errors,
)
from training.compare.ranking import ranking
from training.compare.statistics import Spread
from training.evaluation.bootstrap import CONFIDENCE

RANKED_BY = ("miou", "ap50")
TASKS = ("pixels", "boxes")
PAIRS_NAMED = 5  # of a task in a warning


def teacher_section(score: str, spreads: Mapping[str, Mapping[str, Spread]], teachers: Mapping[str, Any]) -> str:
    """Return the section of one set of frames; empty if no entry has teachers.

    Args:
        score: Name of the frames.
        spreads: Figures by entry and name.
        teachers: What `judge_teachers` returns.
    """
    if not teachers:
        return ""
    parts = [f"### Teachers on {score}", *_rankings(score, spreads, teachers), _following_table(score, teachers)]
    return "\n\n".join(part for part in parts if part)


def following_warnings(scores: list[str], teachers: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each entry and each set of frames in which students follow their teachers' errors."""
    return [
        f"WARNING: on {score}, {entry} follows the errors of its teacher{'s' * (len(found['teachers']) > 1)}: "
        + "; ".join(words)
        for score in scores
        for entry, found in teachers.items()
        if (words := [sentence for task in TASKS for sentence in _clear(found["following"][score], task)])
    ]


def _clear(found: Mapping[int, Any], task: str) -> Iterator[str]:
    pairs = clear_pairs(followed_errors(found, task), task)
    for pair in pairs[:PAIRS_NAMED]:
        yield (
            f"{_words(pair, task)} ({_percent(pair.student)} of {pair.errors} {task}, without teacher "
            f"{_percent(pair.baseline)})"
        )
    if len(pairs) > PAIRS_NAMED:
        yield f"and {len(pairs) - PAIRS_NAMED} more pairs of classes in {task}"


def _words(pair: Followed, task: str) -> str:
    if pair.label == NOTHING:
        return f"{pair.said} where there is none"
    if pair.said == NOTHING and task == "boxes":
        return f"{pair.label} overlooked"
    return f"{pair.label} taken for {pair.said}"


def _rankings(score: str, spreads: Mapping[str, Mapping[str, Spread]], teachers: Mapping[str, Any]) -> Iterator[str]:
    for figure in RANKED_BY:
        students = {entry: spreads[entry][figure] for entry in teachers if figure in spreads[entry]}
        if not students:
            continue
        lines = [f"| rank | entry | {figure} of the student | of the teacher | |", "|---|---|---|---|---|"]
        for place in ranking(students):
            noise = f"within the noise of {', '.join(place.alike)}" if place.alike else ""
            of_teachers = "; ".join(
                f"{name} {_percent(by_score[score][figure])}"
                for name, by_score in teachers[place.entry]["teachers"].items()
            )
            mean = _percent(place.student.mean)
            lines.append(f"| {place.rank} | {place.entry} | {mean} | {of_teachers} | {noise} |")
        if any(len(spread.values) == 1 for spread in students.values()):
            lines.append("\nOne seed: this order says nothing about the noise.")
        yield "\n".join(lines)


def _following_table(score: str, teachers: Mapping[str, Any]) -> str:
    rows = []
    for entry, found in teachers.items():
        for task in TASKS:
            errors = followed_errors(found["following"][score], task)
            if errors:
                every = errors[0]
                more = every.more
                interval = "" if math.isnan(more.low) else f"{_signed(more.low)} .. {_signed(more.high)}"
                rows.append(
                    f"| {entry} | {task} | {every.errors} of {every.total} | {_percent(every.student)} | "
                    f"{_percent(every.baseline)} | {_signed(more.mean)} | {interval} |"
                )
    if not rows:
        return ""
    head = (
        "Errors of the teachers that the students make, too. A warning names the pairs of classes of whose errors the "
        f"student makes at least {MORE_THAN_BASELINE:.0%} more than the entry without a teacher, if the "
        f"{CONFIDENCE:.0%} interval of this difference is above 0 (with several seeds), and if these errors are at "
        f"least {OF_ALL_MIN:.0%} of all labelled pixels or boxes, or {OF_CLASS_MIN:.0%} of those of the class and "
        f"{FEW:.1%} of all."
    )
    table = ["| entry | | errors of the teachers | followed | without teacher | difference | interval |"]
    return "\n".join([head, "", *table, "|---|---|---|---|---|---|---|", *rows])


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def _signed(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:+.1f}"
