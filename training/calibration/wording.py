"""A calibration in words: what changed on each set, what goes into the file, and what does not and why."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.calibration.measure import Calibration, Fitted, MeasuredSet
from training.calibration.promise import Promise
from training.evaluation.confidence import confidence_of
from training.evaluation.wording import percent, table_line

_THIRTY = np.array([0.3])


def text_of(found: Calibration) -> str:
    """Return the report as Markdown."""
    parts = [f"# {found.recipe.name}"]
    if found.temperature is not None:
        parts.append(_temperature(found, found.temperature))
    if found.scales:
        parts += [_scales(found), _promises(found)]
    return "\n\n".join(parts) + "\n"


def _temperature(found: Calibration, fitted: Fitted) -> str:
    temperature = 1 / fitted.scale.scale
    said = f"not in the file: {fitted.refused}" if fitted.refused else "in the file"
    head = table_line(("frames", "used for", "error before, points", "after"))
    rows = [
        table_line((each.name, use, *(percent(each.pixels.reliability(at).error) for at in (1.0, temperature))))
        for use, each in _sets(found)
        if each.pixels is not None
    ]
    return "\n".join(
        [
            f"## Class map: temperature {temperature:.2f}, {said}",
            "",
            "How far the probability of the likeliest class is off, on the mean (expected calibration error), without "
            "the temperature and with it:",
            "",
            head,
            table_line(["---"] * 4),
            *rows,
        ]
    )


def _scales(found: Calibration) -> str:
    lines = [
        "## Scores of boxes",
        "",
        "A score p becomes sigmoid(scale * logit(p) + shift).",
        "",
        table_line(("class", "scale", "shift", "what was 0.3 is", "in the file")),
        table_line(["---"] * 5),
        *(_scale_row(name, fitted) for name, fitted in found.scales.items()),
        "",
        "How far scores are off, on the mean, in points; boxes from a score of 0.05 on:",
        "",
        table_line(("frames", "used for", "class", "boxes", "error before", "after")),
        table_line(["---"] * 6),
        *(row for use, each in _sets(found) for row in _error_rows(use, each)),
    ]
    return "\n".join(lines)


def _scale_row(name: str, fitted: Fitted) -> str:
    scale = fitted.scale
    if not fitted.losses and fitted.refused:
        return table_line((name, "-", "-", "-", f"no: {fitted.refused}"))
    now = float(scale.of(_THIRTY)[0])
    said = f"no: {fitted.refused}" if fitted.refused else "yes"
    return table_line((name, f"{scale.scale:.2f}", f"{scale.shift:+.2f}", f"{now:.2f}", said))


def _error_rows(use: str, each: MeasuredSet) -> Iterator[str]:
    before, after = confidence_of(each.before), confidence_of(each.after)
    if before.boxes is None or after.boxes is None:
        return
    yield table_line(
        (each.name, use, "all", str(sum(after.boxes.boxes)), percent(before.boxes.error), percent(after.boxes.error))
    )
    for name, old in before.by_class.items():
        new = after.by_class[name]
        yield table_line((each.name, use, name, str(sum(new.boxes)), percent(old.error), percent(new.error)))


def _promises(found: Calibration) -> str:
    promised = found.recipe.promise
    checks = [each.name for each in found.check]
    lines = [
        f"## Thresholds that find {percent(promised.coverage)} % of the objects",
        "",
        f"Objects: {', '.join(promised.sizes)}. A threshold is the lowest of all drives of the fit, and goes into the "
        f"file if it finds at least {percent(promised.coverage - promised.tolerance)} % on each set of the check; "
        "after `of` stands what is found at any score.",
        "",
        table_line(("class", "threshold", *(f"found on {name}, %" for name in checks), "in the file")),
        table_line(["---"] * (3 + len(checks))),
        *(_promise_row(name, promise, checks) for name, promise in found.promises.items()),
    ]
    return "\n".join(lines)


def _promise_row(name: str, promise: Promise, checks: list[str]) -> str:
    threshold = "-" if promise.threshold is None else f"{promise.threshold:.3f}"
    shares = (f"{percent(promise.checked.get(each))} of {percent(promise.most.get(each))}" for each in checks)
    return table_line((name, threshold, *shares, said_of(promise)))


def said_of(promise: Promise) -> str:
    """Return whether a threshold goes into the file, and if not, why."""
    if promise.holds:
        return "yes"
    if not promise.drives:
        return "no: too few objects in the fit"
    if promise.threshold is None:
        short = [drive for drive, value in promise.drives.items() if value is None]
        return f"no: too few objects are found at any score on {', '.join(short)}"
    if not promise.checked:
        return "no: too few objects to check it on"
    return f"no: finds too few on {', '.join(promise.broken)}"


def _sets(found: Calibration) -> Iterator[tuple[str, MeasuredSet]]:
    yield from (("fit", each) for each in found.fit)
    yield from (("check", each) for each in found.check)
