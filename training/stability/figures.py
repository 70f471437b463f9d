"""The figures of stability, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from training.evaluation.score_figures import Difference

# Names of figures, in tables, JSON and limits.
FLICKER, BEYOND_EDGES = "flicker", "flicker_beyond_edges"
CELLS_FLICKER, CELLS_BEYOND = "flicker_of_labels_in_cells", "flicker_of_labels_in_cells_beyond_edges"
LOST, FLIPS_PER_S = "lost_objects", "found_flips_per_object_s"
MOVES_PX, MOVES_PX_P90, MOVES_SHARE = "jitter_px", "jitter_px_p90", "jitter_share"
GROWTHS, GROWTHS_P90 = "size_jitter_share", "size_jitter_share_p90"
ALONE = "boxes_without_partner"
FIRST_MS, FIRST_MS_P90, NEVER = "first_found_ms", "first_found_ms_p90", "never_found"
NAMES = (
    *(FLICKER, CELLS_FLICKER, BEYOND_EDGES, CELLS_BEYOND),
    *(ALONE, LOST, FLIPS_PER_S, MOVES_PX, MOVES_PX_P90, MOVES_SHARE, GROWTHS, GROWTHS_P90),
    *(FIRST_MS, FIRST_MS_P90, NEVER),
)
SHARES = (FLICKER, BEYOND_EDGES, ALONE, LOST)
"""Figures that are counted pair by pair, so that they have intervals."""


@dataclass(frozen=True)
class SourceFigures:
    """The figures of one network on one source of frames: all rendered drives, or a folder or bag.

    Attributes:
        values: Figures by name; None for one that these frames do not yield. Shares are 0..1.
        by_class: Share of the pixels of a class that flip, by name of the class; None where there are none.
        course: Share of the pixels that flip in each pair of frames, in order.
        counts: On how much the figures rest, by what is counted.
        intervals: Ends of the 95 % interval of the figures in SHARES that have one.
        differences: Figures in SHARES minus those of the first network; empty for the first one.
    """

    values: dict[str, float | None]
    by_class: dict[str, float | None]
    course: tuple[float, ...]
    counts: dict[str, int]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source of frames.

    Attributes:
        frames: Number of frames.
        pairs: Number of pairs of frames that follow each other.
        rate_hz: Frames per second; None if it is not known.
        motion: Where the motion of the pixels comes from.
        seen_in_both: Share of the pixels that both frames of a pair show, 0..1.
        truth: Flips of the labels themselves, by the names of the figures; empty without labels.
        height_min_px: Objects that are lower do not count; None without labels.
    """

    frames: int
    pairs: int
    rate_hz: float | None
    motion: str
    seen_in_both: float
    truth: dict[str, float | None]
    height_min_px: float | None


@dataclass(frozen=True)
class Stability:
    """The figures of all networks on all sources.

    Attributes:
        sources: What is known of each source, by its name.
        networks: Figures by name of the network and name of the source.
        left_out: Sentences about what was not measured.
    """

    sources: dict[str, SourceFacts]
    networks: dict[str, dict[str, SourceFigures]]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def values(self) -> Iterator[tuple[str, str, Mapping[str, float | None]]]:
        """Yield network, source, and figures by name."""
        for network, sources in self.networks.items():
            for source, figures in sources.items():
                yield network, source, figures.values
