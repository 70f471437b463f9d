"""StampAge: compares header stamps with the ROS clock, and detects when the two cannot be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from ros_kd_perception.health.watch import RESTART_AFTER
from ros_kd_perception.structures import BadFrame
from ros_kd_perception.system.warning_throttle import WarningThrottle

APART_S = 10.0
"""If a stamp and the ROS clock are further apart than this, they come from different clocks."""

AHEAD_MS = 100.0
"""Stamps may be this far ahead of the clock, or as far as the age limit if that is larger.

A `/clock` with ten ticks a second lags this much.
"""

FUTURE_S = 1.0
"""A single stamp that leaps further ahead of the clock than this is wrong. The lag of `/clock` is smaller."""


@dataclass
class _CameraClock:
    is_suspended: bool = False
    newest_ns: int = 0  # stamp of the newest frame that was not refused as `stamp_ahead`
    comparable: int = 0  # consecutive frames whose stamps fit the ROS clock; frames from the future do not count
    ahead: int = 0  # consecutive frames whose stamps are in the future


class StampAge:
    """Measures the age of header stamps. Refuses stamps beyond the age limit and stamps in the future.

    Attributes:
        max_age_ms: The age limit. 0 means no limit. May be changed.
        drops_unknown: Under a limit, also refuse frames of unknown age. May be changed.

    Args:
        max_age_ms: Initial value of the attribute.
        clock_ns: Returns the time of the ROS clock, which is simulated time under `use_sim_time`.
        warn: Logs one sentence. Calls are throttled, because unsteady stamps can cross the limit many times a second.
        drops_unknown: Initial value of the attribute.
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
        """Return whether there is an age limit that cannot be applied to this camera."""
        return self.max_age_ms > 0 and self._clocks[camera].is_suspended

    def check_future(self, camera: str, stamp_ns: int) -> None:
        """Refuse a stamp that leaps ahead of the clock if the `RESTART_AFTER` stamps before it fitted the clock.

        After `RESTART_AFTER` leaps in a row the camera is assumed to use another clock, and its stamps pass. Stamps
        that get ahead in small steps pass too: then the clock stands still, as a slow `/clock` does between its ticks.

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
                    f"expected a header stamp of the ROS clock from {camera}, as before, got one {_apart(age_ns)} "
                    "that clock",
                )
            clock.comparable = 0
        clock.newest_ns = stamp_ns

    def check(self, camera: str, stamp_ns: int) -> float | None:
        """Return the age of a frame in milliseconds, or None if stamp and clock are too far apart to compare.

        Under an age limit, also return None for a stamp ahead of the clock: otherwise an old picture would seem new.

        Raises:
            BadFrame: `stale` if the frame is older than the limit, or if its age is unknown and `drops_unknown` is set.
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
            outcome = "its frames are dropped" if self.drops_unknown else "its frames are published at any age"
            self._throttle.warn(
                (camera, "suspended"),
                f"suspended max_stamp_age_ms for {camera}: its header stamps are {_apart(age_ns)} the clock; {outcome} "
                "(stamp_age_unknown); for a camera, synchronise its clock; for a bag, set use_sim_time and play it "
                "with /clock",
            )
        if self.drops_unknown:
            raise BadFrame(
                "stale",
                f"expected a header stamp of the last {self.max_age_ms:g} ms, got one {_apart(age_ns)} the ROS clock, "
                "which stamp_age_unknown: drop refuses",
            )


def _apart(age_ns: int) -> str:
    return f"{abs(age_ns) / 1e9:.3g} s {'behind' if age_ns > 0 else 'ahead of'}"
