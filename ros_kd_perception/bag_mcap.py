"""Read messages from an MCAP file in the order of their log times.

Not by the package mcap: its reader (1.6.0) takes 4 of 8 messages where half of them stand outside of the chunks, holds
nothing against the statistics, and unpacks LZ4 to any size.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from ros_kd_perception.bag_storage import StoredMessage, StoredTopic, ros2_type
from ros_kd_perception.mcap_contents import Contents, find_contents
from ros_kd_perception.mcap_records import (
    MAX_CHUNK_BYTES,
    MESSAGE,
    MESSAGE_HEAD,
    Channel,
    Chunk,
    Schema,
    read_chunk,
    read_exactly,
    read_message_head,
    records_in,
)

MAX_OPEN_BYTES = 2 * MAX_CHUNK_BYTES
"""Of chunks that are in memory at the same time, because their log times overlap."""

_TIMES_END = 1 << 64


@dataclass(frozen=True)
class _Piece:
    """A part of the file that is in order in itself once it is open.

    Attributes:
        start_ns: no message of it is earlier.
        open: gives its messages in order, and how many bytes of memory they hold until they are all taken.
    """

    start_ns: int
    open: Callable[[], tuple[Iterator[StoredMessage], int]]


class McapFile:
    """An open MCAP file; the attributes are those of StorageFile.

    Raises:
        CutOff: the file does not end as MCAP files do.
        Damaged: it has wrong bytes.
        ValueError, OSError: it is beyond the limits, or cannot be read.
    """

    repair: ClassVar[str] = "`mcap recover`"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self._contents = find_contents(self._file)
        except BaseException:
            self.close()
            raise
        self.topics = _topics(self._contents)
        self.undeclared = self._contents.undeclared()
        self.start_ns, self.end_ns = self._contents.times_ns()

    def messages(self, topic_ids: Collection[int], start_ns: int | None, end_ns: int | None) -> Iterator[StoredMessage]:
        """See StorageFile."""
        wanted = frozenset(topic_ids)
        begin = max(0, start_ns or 0)
        end = _TIMES_END if end_ns is None else min(end_ns, _TIMES_END)
        pieces = [
            _Piece(chunk.start_ns, partial(self._open_chunk, chunk, wanted, begin, end))
            for chunk in self._contents.chunks
            if chunk.start_ns < end and chunk.end_ns >= begin and not wanted.isdisjoint(chunk.counts or {})
        ]
        if places := self._contents.loose.places(wanted, begin, end):
            first_ns = self._contents.loose.times_ns[places[0]]
            pieces.append(_Piece(first_ns, lambda: (self._loose_messages(places), 0)))
        return _in_order(pieces)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open_chunk(
        self, chunk: Chunk, wanted: frozenset[int], begin: int, end: int
    ) -> tuple[Iterator[StoredMessage], int]:
        data = read_chunk(self._file, chunk)
        messages = []
        for opcode, content in records_in(data):
            if opcode == MESSAGE:
                channel, log_time_ns = read_message_head(content)
                if channel in wanted and begin <= log_time_ns < end:
                    messages.append(StoredMessage(channel, log_time_ns, content[MESSAGE_HEAD.size :]))
        messages.sort(key=lambda message: message.log_time_ns)
        return iter(messages), len(data)

    def _loose_messages(self, places: Sequence[int]) -> Iterator[StoredMessage]:
        loose = self._contents.loose
        for place in places:
            size = loose.lengths[place] - MESSAGE_HEAD.size
            if size > MAX_CHUNK_BYTES:
                raise ValueError(f"expected messages of at most {MAX_CHUNK_BYTES} bytes, got one of {size}")
            self._file.seek(loose.offsets[place] + MESSAGE_HEAD.size)
            yield StoredMessage(loose.channels[place], loose.times_ns[place], read_exactly(self._file, size))


def _topics(contents: Contents) -> tuple[StoredTopic, ...]:
    counts, stated = contents.counts(), contents.stated
    no_schema = Schema("", "")

    def topic(number: int, channel: Channel) -> StoredTopic:
        schema = contents.declared.schemas.get(channel.schema_id, no_schema)
        kind = ros2_type(schema.name, channel.message_encoding, schema.encoding)
        return StoredTopic(number, channel.topic, kind, counts[number], stated.get(number, 0) if stated else None)

    return tuple(topic(number, channel) for number, channel in sorted(contents.declared.channels.items()))


def _in_order(pieces: Sequence[_Piece]) -> Iterator[StoredMessage]:
    """Merge pieces, each of which is opened when the first of its messages may be due."""
    waiting = deque(sorted(pieces, key=lambda piece: piece.start_ns))
    # Next message of each open piece: its time, the number of the piece, the message, those behind it, bytes held.
    due: list[tuple[int, int, StoredMessage, Iterator[StoredMessage], int]] = []
    open_bytes = 0
    while waiting or due:
        while waiting and (not due or waiting[0].start_ns <= due[0][0]):
            number = len(pieces) - len(waiting)
            messages, size = waiting.popleft().open()
            if (first := next(messages, None)) is not None:
                heapq.heappush(due, (first.log_time_ns, number, first, messages, size))
                open_bytes += size
            if open_bytes > MAX_OPEN_BYTES:
                raise ValueError(
                    f"expected chunks one after the other, the log times of {len(due)} overlap, {open_bytes} bytes in "
                    "all; sort the file by time with `mcap sort`"
                )
        if due:
            _, number, message, messages, size = due[0]
            if (following := next(messages, None)) is not None:
                heapq.heapreplace(due, (following.log_time_ns, number, following, messages, size))
            else:
                heapq.heappop(due)
                open_bytes -= size
            yield message
