"""LostMessages: counts the messages of a topic that a subscription never got, from their sequence numbers.

A subscription that keeps only the last message loses messages while the executor is busy, and a best-effort one loses
those that the transport drops. Fast DDS reports neither as a `message_lost` event, but every message carries a sequence
number of its publisher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MAX_PUBLISHERS = 16


class LostMessages:
    """Counts gaps in the sequence numbers of each publisher.

    Messages that are lost before the first one that arrives, or after the last one, leave no gap. Without sequence
    numbers in the middleware there are no gaps at all.

    Args:
        publishers: Returns the number of publishers of the topic. It is called if messages do not name their publisher;
            gaps are then counted only while there is one publisher.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        self._publishers = publishers
        self._newest: dict[bytes | None, int] = {}

    def before(self, info: Mapping[str, Any]) -> int:
        """Return how many messages were lost between this one and the previous one of the same publisher.

        Args:
            info: Message information from rclpy: `publication_sequence_number` and, from ROS 2 Kilted on,
                `publisher_gid`.
        """
        number = info.get("publication_sequence_number")
        if number is None:
            return 0
        gid = info.get("publisher_gid")
        publisher = None if gid is None else bytes(gid["data"])
        newest = self._newest.pop(publisher, None)
        if publisher is None and newest is not None and number <= newest:
            return 0  # another publisher, or a restarted one; the next message will show a gap
        if len(self._newest) >= _MAX_PUBLISHERS:
            del self._newest[next(iter(self._newest))]  # the publisher that has been silent for the longest time
        self._newest[publisher] = number
        lost = max(0, number - newest - 1) if newest is not None else 0
        return 0 if lost and publisher is None and self._publishers() != 1 else lost
