"""StampAge: the limit on the age of header stamps, which knows when stamps and clock cannot be compared."""

from __future__ import annotations

from collections.abc import Callable

from ros_kd_perception.structures import BadFrame
from ros_kd_perception.warning_throttle import WarningThrottle

APART_S = 10.0
"""Stamps and clock further apart than this are taken to be of different clocks."""


AHEAD_MS = 100.0
"""Or the limit, if that is more: by so much stamps may lead the clock, as they do a `/clock` of ten ticks a second."""


class StampAge:
    """Tells how old header stamps are and refuses those beyond the limit.

    Attributes:
        max_age_ms: 0 for no limit; may be changed.

    Args:
        max_age_ms: as above.
        clock_ns: the ROS clock, the one that `use_sim_time` decides about.
        warn: logs one sentence; a camera whose stamps leap crosses the line many times a second, which is throttled.
    """

    def __init__(self, max_age_ms: float, clock_ns: Callable[[], int], warn: Callable[[str], object]) -> None:
        self.max_age_ms = max_age_ms
        self._clock_ns = clock_ns
        self._throttle = WarningThrottle(warn)
        self._suspended: set[str] = set()

    def is_suspended(self, camera: str) -> bool:
        """Whether there is a limit that cannot be applied to a camera."""
        return self.max_age_ms > 0 and camera in self._suspended

    def check(self, camera: str, stamp_ns: int) -> float | None:
        """Age of a frame in milliseconds; None where stamps and clock are too far apart to tell.

        Under a limit they are also where the stamps are ahead of the clock: a picture of whatever age would seem young.

        Raises:
            BadFrame: `stale`.
        """
        age_ns = self._clock_ns() - stamp_ns
        ahead = self.max_age_ms > 0 and age_ns < -max(AHEAD_MS, self.max_age_ms) * 1e6
        if ahead or abs(age_ns) > APART_S * 1e9:
            if self.max_age_ms > 0 and camera not in self._suspended:
                self._suspended.add(camera)
                self._throttle.warn(
                    (camera, "suspended"),
                    f"suspended max_stamp_age_ms for {camera}: its header stamps are {_apart(age_ns)} the clock; for a "
                    "camera, have its clock synchronised, for a bag, set use_sim_time and play it with /clock",
                )
            return None
        if camera in self._suspended:
            self._suspended.discard(camera)
            self._throttle.warn((camera, "applies"), f"max_stamp_age_ms applies to {camera} again")
        age_ms = age_ns / 1e6
        if 0 < self.max_age_ms < age_ms:
            raise BadFrame(
                "stale", f"expected a header stamp of the last {self.max_age_ms:g} ms, got one {age_ms:.0f} ms old"
            )
        return age_ms


def _apart(age_ns: int) -> str:
    return f"{abs(age_ns) / 1e9:.3g} s {'behind' if age_ns > 0 else 'ahead of'}"
