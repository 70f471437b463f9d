"""Finding: the result of one check of `check_vehicle`, as a sentence and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ros_kd_perception.health.verdict import Level

WORDS = {Level.OK: "ok", Level.WARN: "warning", Level.ERROR: "problem"}
JSON_VERSION = 1
_MAX_CHARACTERS = 600


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was checked, for example `shared memory` or `camera front: stamps`.
        level: OK, or how bad it is. An ERROR keeps the node from doing its work.
        sentence: What was found.
        remedy: What to do about it. Empty if nothing has to be done.
    """

    check: str
    level: Level
    sentence: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return one line of text."""
        text = " ".join(f"{self.check}: {self.sentence}".split())[:_MAX_CHARACTERS]
        return f"{WORDS[self.level]:7}  {text}{f'; {self.remedy}' if self.remedy else ''}"


def summary(findings: Sequence[Finding]) -> str:
    """Return one sentence with the numbers of problems and warnings."""
    problems, warnings = (sum(f.level == level for f in findings) for level in (Level.ERROR, Level.WARN))
    return f"{_number(problems, 'problem')} and {_number(warnings, 'warning')} in {_number(len(findings), 'check')}"


def has_problem(findings: Sequence[Finding]) -> bool:
    """Return whether one of the findings is an ERROR."""
    return any(finding.level == Level.ERROR for finding in findings)


def to_json(node: str, findings: Sequence[Finding]) -> str:
    """Return the findings as JSON.

    Args:
        node: Full name of the node that was checked for.
        findings: The findings.
    """
    rows = [{"check": f.check, "level": WORDS[f.level], "sentence": f.sentence, "remedy": f.remedy} for f in findings]
    document = {"version": JSON_VERSION, "node": node, "has_problem": has_problem(findings), "findings": rows}
    return json.dumps(document, indent=2, allow_nan=False)


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
