"""StampOrder: refuses header stamps that are zero or run backwards, and tells a looped bag from a broken clock.

Nothing is known here but the stamps and when they came, so that a bag without a clock is judged in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ros_kd_perception.structures import BadFrame

RESTART_AFTER = 3
"""Stamps off the time line in a row, rising among themselves, that start a new one."""

LEAP_NS = 1_000_000_000
"""A stamp that gains more on its arrival leaps ahead, `FASTEST_PLAYBACK` allowed for."""

FASTEST_PLAYBACK = 10
"""Bags are played at up to so many times their speed: stamps may gain as much on arrivals."""


@dataclass
class _CameraStamps:
    newest_ns: int = 0
    newest_arrival_ns: int = 0
    seen_arrival_ns: int = 0  # of the frame before, accepted or not
    before_leap_ns: int = 1  # 0: the time line has not leapt lately; the first stamp leaps from nothing
    since_leap: int = 0
    is_distrusted: bool = False
    refused_ns: list[int] = field(default_factory=list)


class StampOrder:
    """Remembers the newest stamp of each camera.

    Equal stamps pass: a driver that stamps two frames alike has done no harm. A bag that starts again jumps back once
    and then rises: after `RESTART_AFTER` such frames in a row the new time line counts, and only those before it are
    lost.

    A single stamp that leaps ahead passes, for a clock may have been set; if the next stamps go on where the others
    were, they pass, too, and it was wrong. So it is with the first stamp of all. From then on leaps of that camera are
    refused until `RESTART_AFTER` come in a row.
    """

    def __init__(self) -> None:
        self._cameras: dict[str, _CameraStamps] = {}

    def check(self, camera: str, stamp_ns: int, arrival_ns: int = 0) -> float:
        """Accept the stamp of the camera's next frame.

        Args:
            camera: whose frame.
            stamp_ns: its header stamp.
            arrival_ns: when it came, by a clock that goes on evenly.

        Returns:
            0, or by how many seconds the stamps before this one were wrongly ahead.

        Raises:
            BadFrame: `zero_stamp` for a stamp of zero or less, `stamp_backwards` for one before the newest so far,
                `stamp_ahead` for one that leaps ahead where such stamps were wrong before.
        """
        if stamp_ns <= 0:
            raise BadFrame("zero_stamp", f"expected a header stamp after zero from {camera}, got {stamp_ns} ns")
        stamps = self._cameras.setdefault(camera, _CameraStamps())
        seen_ns, stamps.seen_arrival_ns = stamps.seen_arrival_ns, arrival_ns
        if stamp_ns >= stamps.newest_ns:
            self._check_leap(camera, stamps, stamp_ns, arrival_ns, seen_ns)
            return 0.0
        back_ns = stamps.newest_ns - stamp_ns
        wrongly_ahead_ns = back_ns if back_ns > LEAP_NS and 0 < stamps.before_leap_ns <= stamp_ns else 0
        if wrongly_ahead_ns or _is_restart(stamps, stamp_ns):
            stamps.is_distrusted |= wrongly_ahead_ns > 0
            stamps.before_leap_ns = 0
            _accept(stamps, stamp_ns, arrival_ns)
            return wrongly_ahead_ns / 1e9
        raise BadFrame(
            "stamp_backwards",
            f"expected a header stamp of {stamps.newest_ns} ns or later from {camera}, got {stamp_ns} ns, "
            f"{back_ns / 1e9:.3f} s back",
        )

    @staticmethod
    def _check_leap(camera: str, stamps: _CameraStamps, stamp_ns: int, arrival_ns: int, seen_ns: int) -> None:
        ahead_ns = stamp_ns - stamps.newest_ns
        # While frames are refused the gap to the newest one grows; only the last step may be so fast.
        expected_ns = arrival_ns - stamps.newest_arrival_ns + FASTEST_PLAYBACK * (arrival_ns - seen_ns)
        if stamps.newest_ns and ahead_ns > LEAP_NS + expected_ns:
            if stamps.is_distrusted and not _is_restart(stamps, stamp_ns):
                raise BadFrame(
                    "stamp_ahead",
                    f"expected a header stamp soon after {stamps.newest_ns} ns from {camera}, whose stamps were "
                    f"wrongly ahead before, got {stamp_ns} ns, {ahead_ns / 1e9:.3f} s ahead",
                )
            stamps.before_leap_ns, stamps.since_leap = stamps.newest_ns, 0
        elif stamps.since_leap < RESTART_AFTER - 1:
            stamps.since_leap += 1
        else:
            stamps.before_leap_ns = 0
        _accept(stamps, stamp_ns, arrival_ns)


def _accept(stamps: _CameraStamps, stamp_ns: int, arrival_ns: int) -> None:
    stamps.newest_ns, stamps.newest_arrival_ns = stamp_ns, arrival_ns
    stamps.refused_ns.clear()


def _is_restart(stamps: _CameraStamps, stamp_ns: int) -> bool:
    refused_ns = stamps.refused_ns
    if refused_ns and stamp_ns == refused_ns[-1]:
        return False  # harmless here as well: neither a step on nor a step back
    if refused_ns and (
        stamp_ns < refused_ns[-1] or (stamp_ns < stamps.newest_ns) != (refused_ns[-1] < stamps.newest_ns)
    ):
        refused_ns.clear()
    refused_ns.append(stamp_ns)
    return len(refused_ns) >= RESTART_AFTER
