"""PlaybackTimeline: when each image of a recording is due while it is played, and which gaps are jumped.

The cameras alone decide: playing starts with the first image of any camera, whatever was recorded before it, and a long
time in which no camera has an image is jumped, be it a pause of the recording or a clock that was set. The player, the
demo and the overlay videos share these rules, so that what one of them plays is what the others count and show.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import Protocol, TypeVar

LONGEST_GAP_S = 10.0
"""A longer time without an image is jumped.

The node calls a camera silent after 2 s (`silence_timeout_ms`): a gap in which cameras fail and come back is played as
it was. Longer ones are pauses of the recording or a clock that was set; the shortest of these, an hour of a time zone
or decades since 1970, are far beyond.
"""

JUMP_S = 1.0
"""What is left of a gap that is jumped: the node has perceived the last frames before it by then (`max_age_ms`).

Also how far log times may go back before that is taken for a clock that was set back: files of a split recording may
overlap by some messages.
"""

LONGEST_PART_S = 1e9
"""Of what the options of player and demo may ask for, 30 years: infinity and larger numbers count no nanoseconds."""

MAX_TOLD_JUMPS = 10
"""Of a camera that takes a picture a minute every gap is jumped; so many are told one by one."""

RATE_IMAGES = 300
"""So many images of a camera tell its rate: ten seconds of one with 30 Hz."""

_NS = 1_000_000_000


class Recorded(Protocol):
    """What was recorded at a time, such as a message of a bag."""

    @property
    def log_time_ns(self) -> int:
        """When it was recorded, nanoseconds."""
        ...


RecordedT = TypeVar("RecordedT", bound=Recorded)


@dataclass(frozen=True)
class Jump:
    """A gap that is not played.

    Attributes:
        position_ns: of the last image before it, nanoseconds of playing.
        from_ns: log time of that image.
        to_ns: log time of the first image after it.
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
    """Gives images their time of playing, nanoseconds after the first one; told the log times in the order of playing.

    Args:
        keep_gaps: play gaps of any length as they are. Where the clock was set back, playing goes on all the same.

    Attributes:
        jumps: every gap that was jumped so far.
    """

    def __init__(self, keep_gaps: bool = False) -> None:
        self._longest_gap_ns: float = float("inf") if keep_gaps else LONGEST_GAP_S * _NS
        # Positions and log times at which stretches without a jump begin.
        self._stretch_positions_ns: list[int] = []
        self._stretch_log_times_ns: list[int] = []
        self._latest_log_time_ns = 0
        self._position_ns = 0
        self.jumps: list[Jump] = []

    def place(self, log_time_ns: int) -> int:
        """When the next image is due, nanoseconds; never before the image that was told before it."""
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
        """When what is no image is due, nanoseconds: soon after the image that was told last, if not with it."""
        if not self._stretch_positions_ns:
            return 0
        since_image_ns = log_time_ns - self._latest_log_time_ns
        return self._position_ns + max(0, min(since_image_ns, round(JUMP_S * _NS)))

    def log_time_ns(self, position_ns: int) -> int:
        """Time of the recording's clock at a position; in what is left of a jumped gap the clock still runs on."""
        index = max(0, bisect.bisect_right(self._stretch_positions_ns, position_ns) - 1)
        return self._stretch_log_times_ns[index] + position_ns - self._stretch_positions_ns[index]

    def _begin_stretch(self, position_ns: int, log_time_ns: int) -> None:
        self._stretch_positions_ns.append(position_ns)
        self._stretch_log_times_ns.append(log_time_ns)
        self._latest_log_time_ns = log_time_ns


def played_part(
    images: Iterable[RecordedT], duration_s: float, timeline: PlaybackTimeline
) -> Iterator[tuple[int, RecordedT]]:
    """The images that are played, each with its position in nanoseconds.

    Args:
        images: in the order of playing.
        duration_s: seconds of playing; 0 is all.
        timeline: that has not been told an image yet.
    """
    for image in images:
        position_ns = timeline.place(image.log_time_ns)
        if duration_s and position_ns >= round(duration_s * _NS):
            # Where the last gap leads to is not played.
            return
        yield position_ns, image


def images_per_second(images: Iterable[Recorded]) -> float:
    """Mean rate of one camera over its first `RATE_IMAGES` images, without its pauses; 0 for a single image."""
    positions_ns = [position_ns for position_ns, _ in played_part(islice(images, RATE_IMAGES), 0, PlaybackTimeline())]
    steps_ns = sorted(after - before for before, after in pairwise(positions_ns))
    if not steps_ns:
        return 0.0
    # Three of four steps are no pauses, also of a camera whose images come in pairs.
    usual_ns = steps_ns[: bisect.bisect_right(steps_ns, 5 * steps_ns[3 * len(steps_ns) // 4])]
    return len(usual_ns) / max(1e-9, sum(usual_ns) / _NS)


def jump_sentences(jumps: Sequence[Jump]) -> list[str]:
    """One sentence for each jump; for many, the first ones and how many more there are."""
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
