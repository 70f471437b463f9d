"""TakeoverWatch: finds cameras that one process received and that the process which took them over does not receive.

Discovery in the middleware is best effort: a subscription that was made while many processes came and went has stayed
silent although it was matched. From here, that process cannot be told from a camera that stops in the same moment. So
each takeover is doubted at most once: a camera that stays silent in the next process as well has stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

DEAF_S = 3.0
"""How long a process may receive nothing of a camera that was received before it took over."""
RECENT_S = 1.0
"""A camera counts as received if its last image came at most so long before the takeover. Slower ones are left out."""


@dataclass
class _Takeover:
    noted_s: float
    served_since_s: float | None = None


class TakeoverWatch:
    """Remembers which cameras were received before a takeover, until they are received after it.

    Args:
        arrival_s: Returns the steady clock at the latest arrival of a camera's images; 0 before the first.
    """

    def __init__(self, arrival_s: Callable[[str], float]) -> None:
        self._arrival_s = arrival_s
        self._takeovers: dict[str, _Takeover] = {}

    def note_takeover(self, cameras: Iterable[str], now_s: float) -> None:
        """Note that cameras go to another process. Call it before that one can receive them."""
        for camera in cameras:
            if camera in self._takeovers or now_s - self._arrival_s(camera) <= RECENT_S:
                self._takeovers[camera] = _Takeover(now_s)

    def deaf(self, is_served: Callable[[str], bool], now_s: float) -> list[str]:
        """Return the cameras that were received before a takeover and not since. Each is returned once.

        Args:
            is_served: Returns whether a process subscribes to a camera and something is published there.
            now_s: Steady clock now.
        """
        found = []
        for camera, takeover in list(self._takeovers.items()):
            if self._arrival_s(camera) > takeover.noted_s:
                del self._takeovers[camera]
            elif not is_served(camera):
                takeover.served_since_s = None
            elif takeover.served_since_s is None:
                takeover.served_since_s = now_s
            elif now_s - takeover.served_since_s > DEAF_S:
                del self._takeovers[camera]
                found.append(camera)
        return found
