"""Turns: which camera is next. Fair turns by weight, for the cameras that are due under a limit on their rate."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from ros_kd_perception.scheduling.rate_limit import RateLimit


@dataclass
class _Line:
    """A camera's place in line, by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).

    The unit of service is one frame.

    Attributes:
        weight: Turns of the camera for one turn of a camera of weight 1.
        free_at: Virtual time from which on the camera may be served again.
        last: Number of its last turn, counted over all cameras.
        free_at_before: `free_at` before its last turn.
        last_before: `last` before its last turn.
        limit: Says when it is due.
    """

    weight: float = 1.0
    free_at: float = 0.0
    last: int = 0
    free_at_before: float = 0.0
    last_before: int = 0
    limit: RateLimit = field(default_factory=RateLimit)


class Turns:
    """Keeps the cameras' places in line. Not safe for several threads; the mailbox guards it.

    Args:
        cameras: Names of the cameras.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self._lines = {camera: _Line() for camera in cameras}
        self._virtual_time = 0.0
        self._served = 0

    def set_weight(self, camera: str, weight: float) -> None:
        """Change how many turns a camera gets in relation to the others.

        Raises:
            ValueError: The weight is not positive.
        """
        if not weight > 0:
            raise ValueError(f"expected the weight of {camera} to be positive, got {weight}")
        line = self._lines[camera]
        if weight != line.weight and line.free_at > self._virtual_time:
            # The rest of its last turn gets the new weight, too. Otherwise a camera of weight 0.01 that gets weight 1
            # would still wait for a hundred turns of each other camera.
            line.free_at = self._virtual_time + (line.free_at - self._virtual_time) * line.weight / weight
        line.weight = weight

    def limit(self, camera: str) -> RateLimit:
        """Return the limit on the rate of a camera."""
        return self._lines[camera].limit

    def in_order(self) -> list[str]:
        """Return the cameras, the one whose turn is next first."""
        return sorted(self._lines, key=self._place)

    def due_in_s(self, now_ns: int, leave: Container[str] = ()) -> float | None:
        """Return in how many seconds the next camera that is not due will be due. None if all of them are due.

        Args:
            now_ns: Time of the steady clock.
            leave: Cameras to skip.
        """
        waits_ns = [line.limit.due_ns - now_ns for camera, line in self._lines.items() if camera not in leave]
        return min((wait_ns / 1e9 for wait_ns in waits_ns if wait_ns > 0), default=None)

    def take(self, camera: str, now_ns: int) -> None:
        """Note that a camera takes its turn, at a time of the steady clock."""
        line = self._lines[camera]
        self._virtual_time = max(line.free_at, self._virtual_time)
        line.free_at_before, line.last_before = line.free_at, line.last
        self._served += 1
        line.free_at, line.last = self._virtual_time + 1.0 / line.weight, self._served
        line.limit.take(now_ns)

    def give_back(self, camera: str) -> None:
        """Give a camera its last turn back."""
        line = self._lines[camera]
        line.free_at, line.last = line.free_at_before, line.last_before
        line.limit.give_back()

    def _place(self, camera: str) -> tuple[float, int]:
        line = self._lines[camera]
        return max(line.free_at, self._virtual_time), line.last
