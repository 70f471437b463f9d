"""The figures of stability in words: what was measured, and a table with a line for each figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.evaluation.score_figures import BETTER, NOISE, TOO_FEW, UNITS_MIN, WORSE, Difference
from training.evaluation.wording import MISSING, percent, table_line
from training.stability import figures as named
from training.stability.figures import SourceFacts, SourceFigures, Stability

SHARE, PLAIN = "share", "plain"
# What each figure is called, and whether it is a share 0..1.
WORDS: dict[str, tuple[str, str]] = {
    named.FLICKER: ("pixels that flip, %", SHARE),
    named.CELLS_FLICKER: ("exact labels in cells of the same size, %", SHARE),
    named.BEYOND_EDGES: ("pixels that flip beyond edges, %", SHARE),
    named.CELLS_BEYOND: ("exact labels in these cells, beyond edges, %", SHARE),
    named.ALONE: ("boxes without a partner in the next frame, %", SHARE),
    named.LOST: ("objects lost in the next frame, %", SHARE),
    named.FLIPS_PER_S: ("found or lost, per object and second", PLAIN),
    named.MOVES_PX: ("jitter of the centre, px, median", PLAIN),
    named.MOVES_PX_P90: ("jitter of the centre, px, 90 %", PLAIN),
    named.MOVES_SHARE: ("jitter of the centre, % of the height, median", SHARE),
    named.GROWTHS: ("jitter of the size, %, median", SHARE),
    named.GROWTHS_P90: ("jitter of the size, %, 90 %", SHARE),
    named.FIRST_MS: ("first found after, ms, median", PLAIN),
    named.FIRST_MS_P90: ("first found after, ms, 90 %", PLAIN),
    named.NEVER: ("never found, %", SHARE),
}
TRUTH = "labels"


def text_of(stability: Stability) -> str:
    """Return a heading, a sentence and a table for each source, as text."""
    parts = list(stability.left_out)
    for name, facts in stability.sources.items():
        parts += ["", f"# {name}", "", *said_of(facts), "", *map(table_line, table_of(stability, name)), ""]
        parts += [*verdicts(stability, name), *_classes(stability, name)]
    return "\n".join(parts).strip()


def said_of(facts: SourceFacts) -> list[str]:
    """Return what is known of a source, in sentences."""
    rate = f" at {facts.rate_hz:g} Hz" if facts.rate_hz else ""
    said = [
        f"{facts.frames} frames{rate}, {facts.pairs} pairs that follow each other; motion {facts.motion}; both "
        f"frames of a pair show {percent(facts.seen_in_both)} % of the pixels."
    ]
    said.append(
        "In brackets: 95 % of resamples of stretches of a second, or of 10 pairs if the rate is not known; none for "
        f"fewer than {UNITS_MIN} stretches."
    )
    if facts.height_min_px is not None:
        said.append(f"Objects of at least {facts.height_min_px:g} px in height count.")
    return said


def table_of(stability: Stability, source: str) -> list[list[str]]:
    """Return the table of a source as cells, heads first: a line for each figure that any network has."""
    facts, networks = stability.sources[source], stability.networks
    found = [sources[source] for sources in networks.values()]
    heads = ["", *([TRUTH] if facts.truth else []), *networks]
    rows = [heads, ["---"] * len(heads)]
    for name, (words, form) in WORDS.items():
        if any(each.values.get(name) is not None for each in found):
            truth = [_cell(facts.truth.get(name), form)] if facts.truth else []
            rows.append([words, *truth, *(_with_interval(each, name, form) for each in found)])
    rows += [[what, *([""] if facts.truth else []), *_counted(found, what)] for what in _counts(found)]
    return rows


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return MISSING
    return percent(value) if form == SHARE else f"{value:.2f}"


def _with_interval(figures: SourceFigures, name: str, form: str) -> str:
    cell, interval = _cell(figures.values.get(name), form), figures.intervals.get(name)
    return cell if interval is None else f"{cell} ({' .. '.join(_cell(end, form) for end in interval)})"


def verdicts(stability: Stability, source: str) -> Iterator[str]:
    """Yield a sentence for each network but the first: where it is better, worse or within the noise of the first."""
    first, *others = stability.networks
    for network in others:
        said: dict[str, list[str]] = {}
        for name, apart in stability.networks[network][source].differences.items():
            words = WORDS[name][0].removesuffix(", %")
            said.setdefault(apart.verdict, []).append(f"{words} ({points_of(apart)} points)")
        parts = [f"{word} in {', '.join(said[word])}" for word in (WORSE, BETTER, NOISE, TOO_FEW) if word in said]
        found = "; ".join(parts).replace(f"{NOISE} in", f"{NOISE} of").replace(f"{TOO_FEW} in", f"{TOO_FEW} of")
        yield f"{network} against {first}: {found or 'nothing to compare'}."


def points_of(apart: Difference) -> str:
    """Return a difference of shares in points, with its interval if there is one."""
    value = f"{100 * apart.value:+.2f}"
    if apart.low is None or apart.high is None:
        return value
    return f"{value}, {100 * apart.low:+.2f} .. {100 * apart.high:+.2f}"


def _counts(found: Sequence[SourceFigures]) -> list[str]:
    return [what for what in dict.fromkeys(what for each in found for what in each.counts) if what != "pixels"]


def _counted(found: Sequence[SourceFigures], what: str) -> Iterator[str]:
    for each in found:
        yield str(each.counts.get(what, MISSING))


def _classes(stability: Stability, source: str) -> Iterator[str]:
    """Yield for each network which classes flip most."""
    for network, sources in stability.networks.items():
        known = {name: share for name, share in sources[source].by_class.items() if share is not None}
        most = sorted(known.items(), key=lambda entry: -entry[1])[:4]
        if most:
            listed = ", ".join(f"{name} {percent(share)} %" for name, share in most)
            yield f"{network}: of the pixels of a class, most flip in {listed}."
