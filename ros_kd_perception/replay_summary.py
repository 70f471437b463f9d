"""Count the frames of a replay: perceived with their latency, or dropped by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

PERCENTILES = (50, 95, 99)


@dataclass
class CameraCount:
    """Counts of one camera: the milliseconds of each perceived frame, and drops by reason."""

    latencies_ms: list[float] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def frames(self) -> int:
        """Number of all frames."""
        return len(self.latencies_ms) + self.dropped.total()


class ReplaySummary:
    """Counts of frames by camera.

    Args:
        cameras: Names of the cameras, in the order of the table.
        provider: Execution provider of the network, in words.
    """

    def __init__(self, cameras: Sequence[str], provider: str) -> None:
        self.provider = provider
        self.cameras = {camera: CameraCount() for camera in cameras}

    @property
    def frames(self) -> int:
        """Number of all frames so far."""
        return sum(count.frames for count in self.cameras.values())

    @property
    def perceived(self) -> int:
        """Number of frames with results."""
        return sum(len(count.latencies_ms) for count in self.cameras.values())

    def count_perceived(self, camera: str, latency_ms: float) -> None:
        """Count a frame with results."""
        self.cameras[camera].latencies_ms.append(latency_ms)

    def count_dropped(self, camera: str, reason: str) -> bool:
        """Count a frame without results. Return whether it is the camera's first one with this reason."""
        self.cameras[camera].dropped[reason] += 1
        return self.cameras[camera].dropped[reason] == 1

    def reasons(self) -> str:
        """Return the drops of all cameras by reason, most frequent first; `none` if there are none."""
        total: Counter[str] = sum((count.dropped for count in self.cameras.values()), Counter())
        return _reasons(total)

    def table(self) -> str:
        """Return a table as text: one line for each camera, and the execution provider below it."""
        percentiles = "".join(f"{f'p{p}':>7}" for p in PERCENTILES)
        lines = [f"{'camera':<20}{'frames':>8}{'perceived':>11}{'dropped':>9}{percentiles} ms  reasons"]
        for camera, count in self.cameras.items():
            times = f"{'-':>7}" * len(PERCENTILES)
            if count.latencies_ms:
                times = "".join(f"{value:7.1f}" for value in np.percentile(count.latencies_ms, PERCENTILES))
            lines.append(
                f"{camera:<20}{count.frames:>8}{len(count.latencies_ms):>11}{count.dropped.total():>9}{times}     "
                f"{_reasons(count.dropped)}"
            )
        return "\n".join([*lines, f"provider: {self.provider}"])


def _reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in dropped.most_common()) or "none"
