"""Parses the records of MCAP files (https://mcap.dev/spec). Unknown kinds of records are skipped.

Wrong bytes raise Damaged, and records above the limits raise ValueError. Invalid UTF-8 in a text is replaced, so that
the name of an unused topic does not make a file unreadable.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import BinaryIO

from ros_kd_perception.bags.decompression import lz4_within, zstd_within
from ros_kd_perception.bags.errors import CutOff, Damaged

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 8, 11, 15

MAX_CHUNK_BYTES = 1 << 30
"""Limit on a chunk, compressed and decompressed. rosbag2 writes chunks of 768 KiB or of one message."""

MAX_DECLARATION_BYTES = 1 << 26
"""Limit on a schema or channel record."""

RECORD_HEAD = Struct("<BQ")
MESSAGE_HEAD = Struct("<HIQQ")
_FOOTER = Struct("<QQI")
_CHUNK_HEAD = Struct("<QQQI")
_CHUNK_INDEX = Struct("<QQQQ")
_STATISTICS = Struct("<QHIIIIQQ")
_IDS = Struct("<HH")
_COUNT = Struct("<HQ")
_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_MESSAGE_INDEX_HEAD_BYTES, _MESSAGE_INDEX_ENTRY_BYTES = 15, 16

_DECOMPRESSORS: Mapping[str, Callable[[bytes, int], bytes]] = {"zstd": zstd_within, "lz4": lz4_within}


@dataclass(frozen=True)
class Schema:
    """A message type: its name, and the language of its definition such as `ros2msg`."""

    name: str
    encoding: str


@dataclass(frozen=True)
class Channel:
    """A topic.

    Attributes:
        schema_id: Number of its schema. 0 means that it has no schema.
        topic: Name of the topic.
        message_encoding: Serialisation of its messages, such as `cdr`.
    """

    schema_id: int
    topic: str
    message_encoding: str


@dataclass(frozen=True)
class Chunk:
    """The place of a chunk in the file, and what is known about its messages without reading it.

    Attributes:
        offset: Offset of its record in the file, in bytes.
        end: End of its records including the message indexes, in bytes.
        start_ns: Smallest log time.
        end_ns: Largest log time.
        counts: Channel -> number of messages according to the message indexes. None if unknown.
    """

    offset: int
    end: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int] | None


@dataclass(frozen=True)
class Statistics:
    """The statistics record: what the writer of the file says it has written.

    Attributes:
        message_count: Number of all messages.
        start_ns: First log time.
        end_ns: Last log time.
        counts: Channel -> number of messages.
    """

    message_count: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int]


@dataclass
class Summary:
    """The summary section after the messages. Every part of it may be missing."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    statistics: Statistics | None = None

    def declare(self, opcode: int, content: memoryview) -> None:
        """Add a schema or a channel. If a number is declared more than once, the first declaration counts."""
        fields = _Fields(content)
        if opcode == SCHEMA:
            [number] = fields.numbers(_U16)
            self.schemas.setdefault(number, Schema(fields.text(), fields.text()))
        elif opcode == CHANNEL:
            number, schema_id = fields.numbers(_IDS)
            self.channels.setdefault(number, Channel(schema_id, fields.text(), fields.text()))


def read_summary(content: memoryview) -> Summary:
    """Read the records of a summary section."""
    summary = Summary()
    for opcode, record in records_in(content):
        if opcode in (SCHEMA, CHANNEL):
            summary.declare(opcode, record)
        elif opcode == CHUNK_INDEX:
            summary.chunks.append(_chunk_of_index(_Fields(record)))
        elif opcode == STATISTICS:
            summary.statistics = _statistics(_Fields(record))
    return summary


def read_footer(content: bytes) -> tuple[int, int]:
    """Return the offset and the CRC of the summary section. Either is 0 if it is missing.

    Args:
        content: The last 37 bytes of the file.
    """
    if content[-len(MAGIC) :] != MAGIC:
        raise CutOff("its end is missing")
    if RECORD_HEAD.unpack_from(content) != (FOOTER, _FOOTER.size):
        raise Damaged("the footer record is damaged")
    summary_start, _, crc = _FOOTER.unpack_from(content, RECORD_HEAD.size)
    return summary_start, crc


def records_in(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield opcode and content of each record in memory. The contents are views, not copies."""
    position, end = 0, len(content)
    while position < end:
        if end - position < RECORD_HEAD.size:
            raise Damaged(f"expected a record, got only {end - position} bytes")
        opcode, length = RECORD_HEAD.unpack_from(content, position)
        position += RECORD_HEAD.size
        if opcode == 0 or length > end - position:
            raise Damaged(f"expected a record, got opcode {opcode} and {length} bytes of {end - position} left")
        yield opcode, content[position : position + length]
        position += length


def walk_records(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield opcode, content offset and content length of each record between two offsets. Stop after DataEnd."""
    position = begin
    while position < end:
        file.seek(position)
        opcode, length = RECORD_HEAD.unpack(read_exactly(file, RECORD_HEAD.size))
        position += RECORD_HEAD.size
        if opcode == 0 or length > end - position:
            raise Damaged(f"expected a record at byte {position}, got opcode {opcode} and {length} bytes")
        yield opcode, position, length
        if opcode == DATA_END:
            return
        position += length


def read_exactly(file: BinaryIO, count: int) -> bytes:
    """Read exactly `count` bytes. Raise Damaged if the file ends before."""
    data = file.read(count)
    if len(data) != count:
        raise Damaged(f"expected {count} more bytes before the end of the file, got {len(data)}")
    return data


def read_declaration(file: BinaryIO, offset: int, length: int) -> memoryview:
    """Read the content of a schema or channel record, up to `MAX_DECLARATION_BYTES`."""
    if length > MAX_DECLARATION_BYTES:
        raise ValueError(f"expected schemas and channels of at most {MAX_DECLARATION_BYTES} bytes, got {length}")
    file.seek(offset)
    return memoryview(read_exactly(file, length))


def read_chunk(file: BinaryIO, chunk: Chunk) -> memoryview:
    """Read and decompress the records of a chunk and check their checksum."""
    offset = chunk.offset
    file.seek(offset)
    opcode, length = RECORD_HEAD.unpack(read_exactly(file, RECORD_HEAD.size))
    if opcode != CHUNK or length > chunk.end - offset - RECORD_HEAD.size:
        raise Damaged(f"expected a chunk at byte {offset}, got opcode {opcode} and {length} bytes")
    _check_chunk_size(length)
    fields = _Fields(memoryview(read_exactly(file, length)))
    _, _, size, crc = fields.numbers(_CHUNK_HEAD)
    compression = fields.text()
    [packed_size] = fields.numbers(_U64)
    packed = fields.take(packed_size)
    _check_chunk_size(size)
    data = _decompress(compression, packed, size)
    if len(data) != size:
        raise Damaged(f"expected a chunk of {size} bytes at byte {offset}, got {len(data)}")
    if crc and zlib.crc32(data) != crc:
        raise Damaged(f"the checksum of the chunk at byte {offset} is wrong")
    return data


def _check_chunk_size(size: int) -> None:
    if size > MAX_CHUNK_BYTES:
        raise ValueError(
            f"expected chunks of at most {MAX_CHUNK_BYTES} bytes, got one of {size}; write the file with smaller chunks"
        )


def _decompress(compression: str, packed: memoryview, size: int) -> memoryview:
    if compression == "":
        return packed
    if compression not in _DECOMPRESSORS:
        raise ValueError(f"expected chunks of zstd, lz4 or no compression, got {compression[:40]!r}; use one of these")
    try:
        return memoryview(_DECOMPRESSORS[compression](bytes(packed), size))
    except ValueError as error:
        raise Damaged(str(error)) from None


def read_message_head(content: bytes | memoryview) -> tuple[int, int]:
    """Return channel and log time of a message from the beginning of its record content."""
    if len(content) < MESSAGE_HEAD.size:
        raise Damaged(f"expected a message of at least {MESSAGE_HEAD.size} bytes, got {len(content)}")
    channel, _, log_time_ns, _ = MESSAGE_HEAD.unpack_from(content)
    return channel, log_time_ns


def chunk_at(file: BinaryIO, offset: int, length: int) -> Chunk:
    """Return a chunk that no index names, from the head of its record.

    Args:
        file: The MCAP file.
        offset: Offset of the record's content.
        length: Length of that content in bytes.
    """
    file.seek(offset)
    fields = _Fields(memoryview(read_exactly(file, min(length, _CHUNK_HEAD.size))))
    start_ns, end_ns, _, _ = fields.numbers(_CHUNK_HEAD)
    return Chunk(offset - RECORD_HEAD.size, offset + length, start_ns, end_ns, None)


class _Fields:
    """Reads the fields of a record one after the other."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def numbers(self, layout: Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def text(self) -> str:
        return bytes(self.block()).decode("utf-8", "replace")

    def block(self) -> memoryview:
        [size] = self.numbers(_U32)
        return self.take(size)

    def take(self, size: int) -> memoryview:
        begin = self._position
        if size > len(self._content) - begin:
            raise Damaged(f"expected a field of {size} bytes, the record has {len(self._content) - begin} left")
        self._position += size
        return self._content[begin : begin + size]


def _chunk_of_index(fields: _Fields) -> Chunk:
    start_ns, end_ns, offset, length = fields.numbers(_CHUNK_INDEX)
    table = fields.block()
    [index_length] = fields.numbers(_U64)
    begins = sorted((begin, channel) for channel, begin in _pairs(table))
    end = offset + length + index_length
    counts: dict[int, int] = {}
    for (begin, channel), (next_begin, _) in zip(begins, [*begins[1:], (end, 0)], strict=False):
        # Derive the count from the size of the message index record. The statistics record confirms it later.
        counts[channel] = max(0, next_begin - begin - _MESSAGE_INDEX_HEAD_BYTES) // _MESSAGE_INDEX_ENTRY_BYTES
    return Chunk(offset, end, start_ns, end_ns, counts)


def _statistics(fields: _Fields) -> Statistics:
    message_count, *_, start_ns, end_ns = fields.numbers(_STATISTICS)
    return Statistics(
        message_count, start_ns, end_ns, {channel: count for channel, count in _pairs(fields.block()) if count}
    )


def _pairs(table: memoryview) -> Iterator[tuple[int, int]]:
    if len(table) % _COUNT.size:
        raise Damaged(f"expected a table of entries of {_COUNT.size} bytes, got {len(table)} bytes")
    yield from _COUNT.iter_unpack(table)
