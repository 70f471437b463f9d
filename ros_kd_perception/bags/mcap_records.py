"""Records of MCAP files, from bytes to fields: https://mcap.dev/spec. Records of unknown kinds are passed over.

Wrong bytes raise Damaged, records larger than the limits ValueError. Bytes of a text that are not UTF-8 are replaced: a
name that is not asked for must not make a file unreadable.
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
"""Of a chunk, compressed and decompressed; rosbag2 makes them of 768 KiB or of one message."""

MAX_DECLARATION_BYTES = 1 << 26
"""Of a schema, a channel and any other record that is not a message or a chunk."""

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
    """A message type: its name, and the language that its definition is written in."""

    name: str
    encoding: str


@dataclass(frozen=True)
class Channel:
    """A topic, the number of its schema (0: it has none), and how its messages are serialised, such as `cdr`."""

    schema_id: int
    topic: str
    message_encoding: str


@dataclass(frozen=True)
class Chunk:
    """Where a chunk lies, and what is known of its messages without reading it.

    Attributes:
        offset: of its record in the file, bytes.
        end: where the records that belong to it end, its message indexes included, bytes.
        start_ns: smallest log time.
        end_ns: largest log time.
        counts: channel -> messages, as far as the message indexes say; None if nothing is known.
    """

    offset: int
    end: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int] | None


@dataclass(frozen=True)
class Statistics:
    """What the writer of the file says to have written: messages in all and by channel, first and last log time."""

    message_count: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int]


@dataclass
class Summary:
    """What stands behind the messages; all of it may be absent."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    statistics: Statistics | None = None

    def declare(self, opcode: int, content: memoryview) -> None:
        """Take over a schema or a channel; of several with one number the first counts."""
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
    """Where the summary section begins, 0 without one, and its CRC, 0 without one.

    Args:
        content: the last 37 bytes of the file.
    """
    if content[-len(MAGIC) :] != MAGIC:
        raise CutOff("its end is missing")
    if RECORD_HEAD.unpack_from(content) != (FOOTER, _FOOTER.size):
        raise Damaged("the footer record is damaged")
    summary_start, _, crc = _FOOTER.unpack_from(content, RECORD_HEAD.size)
    return summary_start, crc


def records_in(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Opcode and content of each record in memory, without copies."""
    position, end = 0, len(content)
    while position < end:
        if end - position < RECORD_HEAD.size:
            raise Damaged(f"expected a record, got the {end - position} bytes that are left")
        opcode, length = RECORD_HEAD.unpack_from(content, position)
        position += RECORD_HEAD.size
        if opcode == 0 or length > end - position:
            raise Damaged(f"expected a record, got opcode {opcode} and {length} bytes of {end - position} left")
        yield opcode, content[position : position + length]
        position += length


def walk_records(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Opcode, offset of the content and its length, of each record between two offsets; DataEnd is the last."""
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
    """Read so many bytes."""
    data = file.read(count)
    if len(data) != count:
        raise Damaged(f"expected {count} more bytes before the end of the file, got {len(data)}")
    return data


def read_declaration(file: BinaryIO, offset: int, length: int) -> memoryview:
    """Read the content of a record that is small in sound files."""
    if length > MAX_DECLARATION_BYTES:
        raise ValueError(f"expected schemas and channels of at most {MAX_DECLARATION_BYTES} bytes, got {length}")
    file.seek(offset)
    return memoryview(read_exactly(file, length))


def read_chunk(file: BinaryIO, chunk: Chunk) -> memoryview:
    """Read the records of a chunk, decompressed, their checksum checked."""
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
            f"expected chunks of at most {MAX_CHUNK_BYTES} bytes, got one of {size}; write the file with smaller ones"
        )


def _decompress(compression: str, packed: memoryview, size: int) -> memoryview:
    if compression == "":
        return packed
    if compression not in _DECOMPRESSORS:
        raise ValueError(
            f"expected chunks of zstd, lz4 or no compression, got {compression[:40]!r}; write it with one of these"
        )
    try:
        return memoryview(_DECOMPRESSORS[compression](bytes(packed), size))
    except ValueError as error:
        raise Damaged(str(error)) from None


def read_message_head(content: bytes | memoryview) -> tuple[int, int]:
    """Channel and log time of a message, from the beginning of its record's content."""
    if len(content) < MESSAGE_HEAD.size:
        raise Damaged(f"expected a message of at least {MESSAGE_HEAD.size} bytes, got {len(content)}")
    channel, _, log_time_ns, _ = MESSAGE_HEAD.unpack_from(content)
    return channel, log_time_ns


def chunk_at(file: BinaryIO, offset: int, length: int) -> Chunk:
    """A chunk that no index names, from the head of its record.

    Args:
        file: of it.
        offset: of the record's content.
        length: of that content, bytes.
    """
    file.seek(offset)
    fields = _Fields(memoryview(read_exactly(file, min(length, _CHUNK_HEAD.size))))
    start_ns, end_ns, _, _ = fields.numbers(_CHUNK_HEAD)
    return Chunk(offset - RECORD_HEAD.size, offset + length, start_ns, end_ns, None)


class _Fields:
    """Takes one field after the other from a record."""

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
        # Of one message index record; whether the counts are right, the statistics will tell.
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
