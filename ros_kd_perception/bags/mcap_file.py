"""McapFile: reads messages from an MCAP file in the order of their log times.

The PyPI package mcap is not used. Its reader (1.6.0) returns 4 of 8 messages if half of them are outside chunks, does
not compare the result with the statistics record, and decompresses LZ4 to any size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from ros_kd_perception.bags.mcap_contents import Contents, find_contents
from ros_kd_perception.bags.mcap_records import (
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
from ros_kd_perception.bags.order import Part, in_time_order
from ros_kd_perception.bags.storage import StoredMessage, StoredTopic, ros2_type

_TIMES_END = 1 << 64


class McapFile:
    """An open MCAP file. The attributes are those of StorageFile.

    Raises:
        CutOff: The end of the file is missing.
        Damaged: The file has wrong bytes.
        ValueError: The file exceeds a limit.
        OSError: The file cannot be read.
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
        """Implement `StorageFile.messages`."""
        wanted = frozenset(topic_ids)
        begin = max(0, start_ns or 0)
        end = _TIMES_END if end_ns is None else min(end_ns, _TIMES_END)
        parts = [
            Part(chunk.start_ns, partial(self._open_chunk, chunk, wanted, begin, end))
            for chunk in self._contents.chunks
            if chunk.start_ns < end and chunk.end_ns >= begin and not wanted.isdisjoint(chunk.counts or {})
        ]
        if places := self._contents.loose.places(wanted, begin, end):
            first_ns = self._contents.loose.times_ns[places[0]]
            parts.append(Part(first_ns, lambda: (self._loose_messages(places), 0)))
        return in_time_order(parts)

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
