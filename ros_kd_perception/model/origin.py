"""Origin: what a pruned, quantised or adopted file was made from, and what it lost, from `derived` of its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHORT_SHA256 = 12
"""Digits of a hash that people compare."""


@dataclass(frozen=True)
class MetricLoss:
    """A metric of a derived file beside that of its parent.

    Attributes:
        metric: Name of the metric, such as `miou`.
        loss: Value of the file minus the parent's, -1..1. Negative is worse.
        parent: Value of the parent, 0..1. None if the file does not say it.
        frames: The frames on which both were measured. Empty if the file does not say it.
    """

    metric: str
    loss: float
    parent: float | None
    frames: str

    @property
    def value(self) -> float | None:
        """Value of the file, 0..1. None if the parent's is unknown."""
        return None if self.parent is None else self.parent + self.loss

    def in_words(self) -> str:
        """Return one clause, with shares in percent."""
        frames = f", {self.frames}" if self.frames else ""
        if self.parent is None or self.value is None:
            return f"{self.metric} {self.loss * 100:+.2f} points{frames}"
        return (
            f"{self.metric} {self.value * 100:.2f} % (parent {self.parent * 100:.2f} %, {self.loss * 100:+.2f} points"
            f"{frames})"
        )


@dataclass(frozen=True)
class Origin:
    """The section `derived` of a contract, which was checked when the contract was read.

    Attributes:
        parent: Name and short sha256 of the file that this one was made from. Empty for a file without a parent.
        steps: One sentence for each step.
        losses: The metrics that were measured.
        agreement: Share of class-map cells equal to the parent's on real frames. None if it was not measured.
    """

    parent: str
    steps: tuple[str, ...]
    losses: tuple[MetricLoss, ...]
    agreement: float | None

    @classmethod
    def of(cls, derived: Mapping[str, Any]) -> Origin:
        """Read the section. An empty one gives an origin without parent, steps and losses."""
        name, sha256 = str(derived.get("from_name", "")), str(derived.get("from_sha256", ""))
        short = f"sha256 {sha256[:SHORT_SHA256]}" if sha256 else ""
        parents, frames = derived.get("parent", {}), derived.get("frames", {})
        losses = derived.get("loss", {})
        return cls(
            f"{name} ({short})" if name and short else name or short,
            tuple(derived.get("steps", ())),
            tuple(MetricLoss(key, float(loss), parents.get(key), frames.get(key, "")) for key, loss in losses.items()),
            derived.get("agreement"),
        )

    def losses_in_words(self) -> str:
        """Return the measured metrics as one line. Empty if nothing was measured."""
        return "; ".join(loss.in_words() for loss in self.losses)

    def agreement_in_words(self) -> str:
        """Return the agreement with the parent in percent. Empty if it was not measured."""
        return "" if self.agreement is None else f"{self.agreement * 100:.2f} % of the class map"
