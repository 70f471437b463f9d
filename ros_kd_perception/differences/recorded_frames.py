"""Finds the frames that two bags share, and reads their messages side by side with bounded memory.

A recorder writes results when they arrive, a replay at the times of the images. So frames are matched by camera and
header stamp. A first pass over each bag reads the stamps alone, a second one takes the messages of the shared frames.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from ros_kd_perception.bags.reader import BagError, BagReader, RawMessage
from ros_kd_perception.images.serialized_message import stamp_ns_of

FrameKey = tuple[str, int]
"""Camera and header stamp, nanoseconds."""

MAX_WAITING_BYTES = 1 << 30
"""Limit on the messages of one bag that wait for those of the other one."""


@dataclass(frozen=True)
class StampIndex:
    """Which frames a bag has.

    Attributes:
        parts: Names of the messages that a frame has, such as its tasks, by frame, in the order of the bag.
        repeated: Number of messages of a frame and a part that the bag has already.
    """

    parts: Mapping[FrameKey, frozenset[str]]
    repeated: int

    @classmethod
    def of(
        cls, bag: BagReader, topics: Mapping[str, tuple[str, str]], advance: Callable[[], object] = lambda: None
    ) -> StampIndex:
        """Read the stamps of all messages of some topics.

        Args:
            bag: An open bag.
            topics: Camera and part by topic.
            advance: Called for each message, to show progress.

        Raises:
            BagError: The bag is damaged or incomplete.
        """
        parts: dict[FrameKey, frozenset[str]] = {}
        repeated = 0
        for raw in bag.raw_messages(topics):
            camera, part = topics[raw.topic]
            key = (camera, stamp_of(bag, raw))
            before = parts.get(key, frozenset())
            repeated += part in before
            parts[key] = before | {part}
            advance()
        return cls(parts, repeated)

    def complete(self, wanted: Mapping[str, Collection[str]]) -> list[FrameKey]:
        """Return the frames that have all parts that are wanted of their camera, in the order of the bag."""
        return [key for key, parts in self.parts.items() if parts.issuperset(wanted.get(key[0], ()))]


class FrameCursor:
    """Hands out the messages of frames, in nearly the order of a bag.

    Args:
        bag: An open bag.
        topics: Camera and part by topic.
        wanted: Number of parts of each frame that will be taken.
    """

    def __init__(
        self, bag: BagReader, topics: Mapping[str, tuple[str, str]], wanted: Mapping[FrameKey, Collection[str]]
    ) -> None:
        self._bag = bag
        self._topics = topics
        self._wanted = {key: set(parts) for key, parts in wanted.items()}
        self._messages: Iterator[RawMessage] = bag.raw_messages(topics)
        self._waiting: dict[FrameKey, dict[str, RawMessage]] = {}
        self._waiting_bytes = 0

    def take(self, key: FrameKey) -> dict[str, RawMessage]:
        """Return the first message of each part of a frame. Each frame can be taken once.

        Raises:
            BagError: The bag is damaged, or too many messages would wait because the other bag has another order.
        """
        while self._wanted[key]:
            self._read_one()
        del self._wanted[key]
        found = self._waiting.pop(key)
        self._waiting_bytes -= sum(len(message.data) for message in found.values())
        return found

    def _read_one(self) -> None:
        try:
            raw = next(self._messages)
        except StopIteration:
            raise BagError(
                f"expected {self._bag.path} to stay as it is while it is read, but it has fewer messages now; wait "
                "until its recording has ended"
            ) from None
        camera, part = self._topics[raw.topic]
        key = (camera, stamp_of(self._bag, raw))
        missing = self._wanted.get(key)
        if missing is None or part not in missing:
            return  # a frame that is not shared, or a message that was recorded twice
        missing.remove(part)
        # A copy, because the data may be a view of a large chunk.
        self._waiting.setdefault(key, {})[part] = replace(raw, data=bytes(raw.data))
        self._waiting_bytes += len(raw.data)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise BagError(
                f"expected both bags to hold their frames in about the same order, {MAX_WAITING_BYTES} bytes of "
                f"{self._bag.path} wait for the other bag; compare fewer cameras with --cameras"
            )


def stamp_of(bag: BagReader, raw: RawMessage) -> int:
    """Return the header stamp of a message, nanoseconds.

    Raises:
        BagError: The message is damaged.
    """
    try:
        if raw.damage is not None:
            raise raw.damage
        return stamp_ns_of(bytes(raw.data[:16]))
    except ValueError as error:
        raise BagError(
            f"expected messages with a header on {raw.topic} of {bag.path}, got: {error}; record the bag again"
        ) from None
