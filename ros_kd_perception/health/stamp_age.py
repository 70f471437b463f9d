"""StampAge: header stamps against the ROS clock, and whether the two can be compared at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from ros_kd_perception.health.watch import RESTART_AFTER
from ros_kd_perception.structures import BadFrame
from ros_kd_perception.system.warning_throttle import WarningThrottle

APART_S = 10.0
"""Stamps and clock further apart than this are taken to be of different clocks."""

AHEAD_MS = 100.0
"""Or the limit, if that is more: by so much stamps may lead the clock, as they do a `/clock` of ten ticks a second."""

FUTURE_S = 1.0
"""A single stamp that leaps further ahead of the clock that the camera goes by is wrong; `/clock` may lag by less."""


@dataclass
class _CameraClock:
    is_suspended: bool = False
    newest_ns: int = 0  # stamp of the newest frame that was not refused as one of the future
    comparable: int = 0  # frames in a row whose stamps go by the ROS clock, but for those of the future
    ahead: int = 0  # frames in a row whose stamps are of the future


class StampAge:
    """Tells how old header stamps are and refuses those beyond the limit, and those of the future.

    Attributes:
        max_age_ms: 0 for no limit; may be changed.
        drops_unknown: under a limit, refuse frames whose age cannot be told, too; may be changed.

    Args:
        max_age_ms: as the attribute says.
        clock_ns: the ROS clock, the one that `use_sim_time` decides about.
        warn: logs one sentence; a camera whose stamps leap crosses the line many times a second, which is throttled.
        drops_unknown: as the attribute says.
    """

    def __init__(
        self,
        max_age_ms: float,
        clock_ns: Callable[[], int],
        warn: Callable[[str], object],
        drops_unknown: bool = False,
    ) -> None:
        self.max_age_ms = max_age_ms
        self.drops_unknown = drops_unknown
        self._clock_ns = clock_ns
        self._throttle = WarningThrottle(warn)
        self._clocks: defaultdict[str, _CameraClock] = defaultdict(_CameraClock)

    def is_suspended(self, camera: str) -> bool:
        """Whether there is a limit that cannot be applied to a camera."""
        return self.max_age_ms > 0 and self._clocks[camera].is_suspended

    def check_future(self, camera: str, stamp_ns: int) -> None:
        """Refuse a stamp that leaps ahead of the clock, where the `RESTART_AFTER` before it went by that clock.

        After `RESTART_AFTER` leaps in a row the camera is taken to go by another clock, and they pass. Stamps that get
        ahead in small steps pass, too: then the clock stands, as a `/clock` of few ticks does between them.

        Raises:
            BadFrame: `stamp_ahead`.
        """
        clock, age_ns = self._clocks[camera], self._clock_ns() - stamp_ns
        if age_ns >= -FUTURE_S * 1e9:
            clock.comparable, clock.ahead = clock.comparable + 1 if age_ns <= APART_S * 1e9 else 0, 0
        elif stamp_ns - clock.newest_ns > FUTURE_S * 1e9:
            clock.ahead += 1
            if clock.comparable >= RESTART_AFTER and clock.ahead < RESTART_AFTER:
                raise BadFrame(
                    "stamp_ahead",
                    f"expected a header stamp of the ROS clock from {camera}, as before, got one {_apart(age_ns)} it",
                )
            clock.comparable = 0
        clock.newest_ns = stamp_ns

    def check(self, camera: str, stamp_ns: int) -> float | None:
        """Age of a frame in milliseconds; None where stamps and clock are too far apart to tell.

        Under a limit they are also where the stamps are ahead of the clock: a picture of whatever age would seem young.

        Raises:
            BadFrame: `stale`, also of frames whose age cannot be told where those are to be dropped.
        """
        age_ns = self._clock_ns() - stamp_ns
        ahead = self.max_age_ms > 0 and age_ns < -max(AHEAD_MS, self.max_age_ms) * 1e6
        if ahead or abs(age_ns) > APART_S * 1e9:
            if self.max_age_ms > 0:
                self._suspend(camera, age_ns)
            return None
        clock = self._clocks[camera]
        if clock.is_suspended:
            clock.is_suspended = False
            self._throttle.warn((camera, "applies"), f"max_stamp_age_ms applies to {camera} again")
        age_ms = age_ns / 1e6
        if 0 < self.max_age_ms < age_ms:
            raise BadFrame(
                "stale", f"expected a header stamp of the last {self.max_age_ms:g} ms, got one {age_ms:.0f} ms old"
            )
        return age_ms

    def _suspend(self, camera: str, age_ns: int) -> None:
        clock = self._clocks[camera]
        if not clock.is_suspended:
            clock.is_suspended = True
            outcome = "its frames are dropped" if self.drops_unknown else "its frames are published, whatever their age"
            self._throttle.warn(
                (camera, "suspended"),
                f"suspended max_stamp_age_ms for {camera}: its header stamps are {_apart(age_ns)} the clock; {outcome} "
                "(stamp_age_unknown); for a camera, have its clock synchronised, for a bag, set use_sim_time and play "
                "it with /clock",
            )
        if self.drops_unknown:
            raise BadFrame(
                "stale",
                f"expected a header stamp of the last {self.max_age_ms:g} ms, got one {_apart(age_ns)} the ROS clock, "
                "which stamp_age_unknown: drop refuses",
            )


def _apart(age_ns: int) -> str:
    return f"{abs(age_ns) / 1e9:.3g} s {'behind' if age_ns > 0 else 'ahead of'}"
