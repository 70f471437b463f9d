"""LostMessages: how many messages of a topic a subscription never got, by the numbers that their publishers give them.

Where a subscription keeps the last message only, the middleware replaces it while the executor is busy, and a best
effort one loses what the transport loses. Fast DDS reports neither as a `message_lost` event, but every message carries
the number that its publisher gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MAX_PUBLISHERS = 16


class LostMessages:
    """Counts gaps in the sequence numbers of each publisher.

    What is lost before the first message that arrives of a publisher, or after its last, leaves no gap. Middleware
    without sequence numbers leaves none, either.

    Args:
        publishers: tells how many publishers the topic has; asked where messages do not say whose they are, for then
            gaps can be told only while there is one.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        self._publishers = publishers
        self._newest: dict[bytes | None, int] = {}

    def before(self, info: Mapping[str, Any]) -> int:
        """How many messages were lost between this one and the one before of the same publisher.

        Args:
            info: what rclpy says of a message: `publication_sequence_number`, and from ROS 2 Kilted on `publisher_gid`.
        """
        number = info.get("publication_sequence_number")
        if number is None:
            return 0
        gid = info.get("publisher_gid")
        publisher = None if gid is None else bytes(gid["data"])
        newest = self._newest.pop(publisher, None)
        if publisher is None and newest is not None and number <= newest:
            return 0  # another publisher, or one that was started anew: the next message tells
        if len(self._newest) >= _MAX_PUBLISHERS:
            del self._newest[next(iter(self._newest))]  # the one that has been silent for longest
        self._newest[publisher] = number
        lost = max(0, number - newest - 1) if newest is not None else 0
        return 0 if lost and publisher is None and self._publishers() != 1 else lost
