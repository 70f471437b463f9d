"""The result of a comparison: figures, limits, verdict and worst moments."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ros_kd_perception.differences.comparison import Comparison, Side
from ros_kd_perception.differences.figures import Figures
from ros_kd_perception.differences.limits import Judged, judge
from ros_kd_perception.differences.moments import Moment
from ros_kd_perception.differences.verdict import Verdict
from ros_kd_perception.playback_timeline import jump_sentences


@dataclass(frozen=True)
class Result:
    """Everything that is written.

    Attributes:
        figures: All figures.
        judged: The limits.
        verdict: What they say.
        sides: The old side and the new one.
        moments: The worst moments, worst first.
        conditions: How the comparison was made, by the name of the fact. `compared` is the line below the title.
    """

    figures: Figures
    judged: Sequence[Judged]
    verdict: Verdict
    sides: tuple[Side, Side]
    moments: Sequence[Moment]
    conditions: Mapping[str, str]

    @classmethod
    def of(
        cls,
        comparison: Comparison,
        options: argparse.Namespace,
        sides: tuple[Side, Side],
        notes: Sequence[str],
        conditions: Mapping[str, str],
    ) -> Result:
        """Judge a comparison by the limits of the options.

        Args:
            comparison: All frames were added.
            options: Has the limits.
            sides: The old side and the new one.
            notes: Sentences for the verdict.
            conditions: How the comparison was made.
        """
        figures = comparison.figures
        judged = judge(figures, options)
        told = [*figures.classes.notes(), *notes, *jump_sentences(comparison.timeline.jumps)]
        verdict = Verdict.of(figures, judged, told)
        return cls(figures, judged, verdict, sides, comparison.worst.chosen(), conditions)
