"""The doctor's report, as text for a terminal and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from training.doctor.finding import Finding


def verdict(findings: Sequence[Finding]) -> str:
    """Return one sentence: whether training works here, and otherwise what stops it."""
    stopping = [finding.name for finding in findings if finding.stops_training]
    if stopping:
        return f"Training cannot work here: {', '.join(stopping)} must be put right first."
    return "Training works here."


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings by section, each with what to do, and the verdict."""
    lines: list[str] = []
    for section, group in groupby(findings, key=lambda finding: finding.section):
        lines += ["", section]
        of_section = list(group)
        width = max(len(finding.name) for finding in of_section)
        for finding in of_section:
            lines.append(f"  {finding.state:8}{finding.name:{width}}  {finding.found}".rstrip())
            lines += [f"  {'':8}  -> {finding.remedy}"] if finding.remedy else []
    return "\n".join([*lines[1:], "", verdict(findings)])


def as_json(findings: Sequence[Finding]) -> str:
    """Return `{"works": bool, "verdict": sentence, "findings": [{section, name, state, found, ...}]}`."""
    works = not any(finding.stops_training for finding in findings)
    content = {"works": works, "verdict": verdict(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=1, allow_nan=False)
