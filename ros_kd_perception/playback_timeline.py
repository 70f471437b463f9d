"""PlaybackTimeline: decides when each image of a recording is due during playback, and which gaps are skipped.

Only camera images count. Playback starts with the first image of any camera, even if other topics were recorded before.
A long time without an image is skipped, whether the recording was paused or a clock was set. The player, the demo and
the overlay videos share these rules, so that all of them play, count and show the same images.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import Protocol, TypeVar

LONGEST_GAP_S = 10.0
"""A longer time without an image is skipped.

The node reports a camera as silent after 2 s (`silence_timeout_ms`), so a gap in which cameras fail and recover must be
played as it was. Longer gaps are pauses of the recording or a clock that was set. A clock jumps by far more than this:
an hour for a time zone, decades from 1970.
"""

JUMP_S = 1.0
"""Remaining length of a skipped gap. It is long enough for the node to process the frames before it (`max_age_ms`).

Log times may also go back by this much, because files of a split recording can overlap by some messages. A larger step
back means that the clock was set back.
"""

LONGEST_PART_S = 1e9
"""Largest time in the options of player and demo, 30 years. Larger numbers and infinity do not fit in nanoseconds."""

CLOCK_LEAD_S = JUMP_S / 2
"""How long before the first image after a skipped gap the clock jumps. Clock and images are different topics, so a node
may get the image before a clock that was sent just before it, and would take its stamp for one of the future."""

MAX_TOLD_JUMPS = 10
"""Number of skipped gaps that are listed one by one. With one picture a minute, every gap is skipped."""

RATE_IMAGES = 300
"""Number of images that determine the rate of a camera: ten seconds at 30 Hz."""

_NS = 1_000_000_000


class Recorded(Protocol):
    """Anything with a recording time, such as a message of a bag."""

    @property
    def log_time_ns(self) -> int:
        """Time of recording in nanoseconds."""
        ...


RecordedT = TypeVar("RecordedT", bound=Recorded)


@dataclass(frozen=True)
class Jump:
    """A gap that is skipped during playback.

    Attributes:
        position_ns: Playback time of the last image before the gap, in nanoseconds.
        from_ns: Log time of that image.
        to_ns: Log time of the first image after the gap.
    """

    position_ns: int
    from_ns: int
    to_ns: int

    def __str__(self) -> str:
        after_s = self.position_ns / _NS
        where = f"after {after_s:.1f} s, from {_date(self.from_ns)} to {_date(self.to_ns)}"
        if self.to_ns < self.from_ns:
            return f"the clock of the recording goes back by {_length(self.from_ns - self.to_ns)} {where}"
        return f"jumping {_length(self.to_ns - self.from_ns)} without a frame of any camera {where}"


class PlaybackTimeline:
    """Gives each image its playback time in nanoseconds after the first one. Call `place` in the order of playback.

    Args:
        keep_gaps: Play gaps of any length as they are. A clock that was set back is still handled as a jump.

    Attributes:
        jumps: All gaps skipped so far.
    """

    def __init__(self, keep_gaps: bool = False) -> None:
        self._longest_gap_ns: float = float("inf") if keep_gaps else LONGEST_GAP_S * _NS
        # Playback times and log times at which the stretches between two jumps begin.
        self._stretch_positions_ns: list[int] = []
        self._stretch_log_times_ns: list[int] = []
        self._latest_log_time_ns = 0
        self._position_ns = 0
        self.jumps: list[Jump] = []

    def place(self, log_time_ns: int) -> int:
        """Return the playback time of the next image in nanoseconds. It is never before the previous image's."""
        if not self._stretch_positions_ns:
            self._begin_stretch(0, log_time_ns)
        step_ns = log_time_ns - self._latest_log_time_ns
        if step_ns > self._longest_gap_ns or step_ns < -JUMP_S * _NS:
            self.jumps.append(Jump(self._position_ns, self._latest_log_time_ns, log_time_ns))
            self._begin_stretch(self._position_ns + round(JUMP_S * _NS), log_time_ns)
        self._latest_log_time_ns = max(self._latest_log_time_ns, log_time_ns)
        distance_ns = self._latest_log_time_ns - self._stretch_log_times_ns[-1]
        self._position_ns = self._stretch_positions_ns[-1] + distance_ns
        return self._position_ns

    def place_beside(self, log_time_ns: int) -> int:
        """Return the playback time of a message that is not an image: at most `JUMP_S` after the previous image."""
        if not self._stretch_positions_ns:
            return 0
        since_image_ns = log_time_ns - self._latest_log_time_ns
        return self._position_ns + max(0, min(since_image_ns, round(JUMP_S * _NS)))

    def log_time_ns(self, position_ns: int) -> int:
        """Return the log time at a playback time.

        During the rest of a skipped gap, the clock before the gap runs on until `CLOCK_LEAD_S` before the next image.
        """
        ahead_ns = position_ns + round(CLOCK_LEAD_S * _NS)
        index = max(0, bisect.bisect_right(self._stretch_positions_ns, ahead_ns) - 1)
        return self._stretch_log_times_ns[index] + position_ns - self._stretch_positions_ns[index]

    def _begin_stretch(self, position_ns: int, log_time_ns: int) -> None:
        self._stretch_positions_ns.append(position_ns)
        self._stretch_log_times_ns.append(log_time_ns)
        self._latest_log_time_ns = log_time_ns


def played_part(
    images: Iterable[RecordedT], duration_s: float, timeline: PlaybackTimeline
) -> Iterator[tuple[int, RecordedT]]:
    """Yield the images of the played part, each with its playback time in nanoseconds.

    Args:
        images: Images in the order of playback.
        duration_s: Length of the part in seconds. 0 means all.
        timeline: A new timeline without placed images.
    """
    for image in images:
        position_ns = timeline.place(image.log_time_ns)
        if duration_s and position_ns >= round(duration_s * _NS):
            # This image is after the end, so a gap that it ended does not count as played.
            return
        yield position_ns, image


def images_per_second(images: Iterable[Recorded]) -> float:
    """Return the mean rate of one camera over its first `RATE_IMAGES` images without pauses. 0 for a single image."""
    positions_ns = [position_ns for position_ns, _ in played_part(islice(images, RATE_IMAGES), 0, PlaybackTimeline())]
    steps_ns = sorted(after - before for before, after in pairwise(positions_ns))
    if not steps_ns:
        return 0.0
    # At most a quarter of the steps are pauses, also if images arrive in pairs, so the third quartile is a normal step.
    # Leave out steps that are more than five times as long.
    usual_ns = steps_ns[: bisect.bisect_right(steps_ns, 5 * steps_ns[3 * len(steps_ns) // 4])]
    return len(usual_ns) / max(1e-9, sum(usual_ns) / _NS)


def jump_sentences(jumps: Sequence[Jump]) -> list[str]:
    """Return one sentence for each jump. If there are many, return the first ones and the number of the others."""
    more = len(jumps) - MAX_TOLD_JUMPS
    return [*map(str, jumps[:MAX_TOLD_JUMPS]), *([f"jumping {more} more gaps"] if more > 0 else [])]


def _length(duration_ns: int) -> str:
    duration_s = duration_ns / _NS
    for unit, seconds in (("days", 86_400), ("h", 3600), ("min", 60)):
        if duration_s >= 2 * seconds:
            return f"{duration_s / seconds:.1f} {unit}"
    return f"{duration_s:.1f} s"


def _date(log_time_ns: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=log_time_ns // 1000)
    except OverflowError:
        return f"{log_time_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
