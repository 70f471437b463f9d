"""Find every message of an MCAP file, whether its indexes name it or not.

The specification leaves writers free: messages may lie outside of chunks, chunks without index, the summary may be
absent. What the chunk index names is taken from there, what lies between is looked through record by record. Where
the result does not agree with the statistics record, every chunk is read once.
"""

from __future__ import annotations

import os
import zlib
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

import numpy as np

from ros_kd_perception.bags.errors import CutOff, Damaged
from ros_kd_perception.bags.mcap_records import (
    CHANNEL,
    CHUNK,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    SCHEMA,
    Chunk,
    Statistics,
    Summary,
    chunk_at,
    read_chunk,
    read_declaration,
    read_exactly,
    read_footer,
    read_message_head,
    read_summary,
    records_in,
    walk_records,
)

MAX_SUMMARY_BYTES = 1 << 29
MAX_LOOSE_MESSAGES = 1 << 25
"""Messages outside of chunks, all of whose places are kept in memory: 26 bytes each."""

_FOOTER_BYTES = 9 + 20 + len(MAGIC)


@dataclass
class LooseMessages:
    """Messages outside of chunks: channel, log time, and offset and length of the record's content, bytes."""

    channels: array[int] = field(default_factory=lambda: array("H"))
    times_ns: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, file: BinaryIO, offset: int, length: int) -> None:
        """Note the message whose record's content begins at `offset`."""
        if len(self.channels) >= MAX_LOOSE_MESSAGES:
            raise ValueError(
                f"expected at most {MAX_LOOSE_MESSAGES} messages outside of chunks, got more; write it with chunks"
            )
        channel, log_time_ns = read_message_head(read_exactly(file, min(length, MESSAGE_HEAD.size)))
        self.channels.append(channel)
        self.times_ns.append(log_time_ns)
        self.offsets.append(offset)
        self.lengths.append(length)

    def places(self, channels: Collection[int], start_ns: int, end_ns: int) -> Sequence[int]:
        """Which messages are of these channels and of log times from `start_ns` to before `end_ns`, in their order."""
        if not self.channels or end_ns <= 0:
            return []
        times = np.frombuffer(self.times_ns, np.uint64)
        wanted = np.isin(np.frombuffer(self.channels, np.uint16), np.array([*channels], np.uint16))
        wanted &= (times >= np.uint64(start_ns)) & (times <= np.uint64(end_ns - 1))
        places = np.flatnonzero(wanted)
        order = places[np.argsort(times[places], kind="stable")]
        return cast("list[int]", order.tolist())


@dataclass
class Contents:
    """What is in an MCAP file.

    Attributes:
        declared: schemas and channels.
        chunks: in the order of the file; each knows how many messages of which channel it holds.
        loose: messages outside of chunks.
        stated: channel -> messages, as the statistics record says; empty without one.
    """

    declared: Summary
    chunks: list[Chunk] = field(default_factory=list)
    loose: LooseMessages = field(default_factory=LooseMessages)
    stated: Mapping[int, int] = field(default_factory=dict)

    def counts(self) -> Counter[int]:
        """Channel -> messages."""
        counts = Counter(self.loose.channels)
        for chunk in self.chunks:
            counts.update(chunk.counts or {})
        return +counts

    def times_ns(self) -> tuple[int, int]:
        """First and last log time; zeros without messages."""
        times = [time for chunk in self.chunks if chunk.counts for time in (chunk.start_ns, chunk.end_ns)]
        if self.loose.times_ns:
            times += (min(self.loose.times_ns), max(self.loose.times_ns))
        return min(times, default=0), max(times, default=0)

    def undeclared(self) -> int:
        """How many messages belong to channels that are declared nowhere."""
        counts = self.counts()
        unknown = {*counts, *self.stated} - self.declared.channels.keys()
        return sum(max(counts[channel], self.stated.get(channel, 0)) for channel in unknown)


def find_contents(file: BinaryIO) -> Contents:
    """Find what is in an MCAP file.

    Raises:
        CutOff: the file does not end as MCAP files do.
        Damaged: it has wrong bytes.
        ValueError: it is beyond the limits.
    """
    size = file.seek(0, os.SEEK_END)
    if size < len(MAGIC) + _FOOTER_BYTES:
        raise CutOff("its end is missing")
    end = size - _FOOTER_BYTES
    file.seek(end)
    summary_start, crc = read_footer(footer := read_exactly(file, _FOOTER_BYTES))
    try:
        summary = _summary(file, summary_start, end, footer, crc) if summary_start else Summary()
    except Damaged:
        summary = Summary()  # damaged; the messages may be whole
    try:
        contents = _survey(file, summary, end)
    except Damaged:  # an index that names chunks where there are none
        contents = _survey(file, replace(summary, chunks=[]), end)
    if not _is_confirmed(contents, summary.statistics):
        _read_all_chunks(file, contents)
    _check_statistics(contents, summary.statistics)
    return contents


def _summary(file: BinaryIO, begin: int, end: int, footer: bytes, crc: int) -> Summary:
    if not len(MAGIC) <= begin <= end or end - begin > MAX_SUMMARY_BYTES:
        raise Damaged(f"expected a summary of at most {MAX_SUMMARY_BYTES} bytes, got it from {begin} to {end}")
    file.seek(begin)
    content = read_exactly(file, end - begin)
    if crc and zlib.crc32(footer[:25], zlib.crc32(content)) != crc:  # up to the checksum itself
        raise Damaged("the checksum of the summary is wrong")
    return read_summary(memoryview(content))


def _survey(file: BinaryIO, summary: Summary, end: int) -> Contents:
    """Take chunks from the index and look through what lies between them."""
    contents = Contents(Summary(summary.schemas, summary.channels))
    position = len(MAGIC)
    for chunk in sorted({chunk.offset: chunk for chunk in summary.chunks}.values(), key=lambda chunk: chunk.offset):
        if not position <= chunk.offset < chunk.end <= end:
            raise Damaged(f"expected a chunk between bytes {position} and {end}, got {chunk.offset}")
        _walk(file, contents, position, chunk.offset)
        contents.chunks.append(chunk)
        position = chunk.end
    _walk(file, contents, position, end)
    return contents


def _walk(file: BinaryIO, contents: Contents, begin: int, end: int) -> None:
    for opcode, offset, length in walk_records(file, begin, end):
        if opcode in (SCHEMA, CHANNEL):
            contents.declared.declare(opcode, read_declaration(file, offset, length))
        elif opcode == MESSAGE:
            contents.loose.add(file, offset, length)
        elif opcode == CHUNK:
            contents.chunks.append(chunk_at(file, offset, length))


def _is_confirmed(contents: Contents, statistics: Statistics | None) -> bool:
    """Whether what was found without reading chunks is all there is."""
    if statistics is None or any(chunk.counts is None for chunk in contents.chunks):
        return not contents.chunks
    declared = contents.declared
    if any(channel.schema_id not in {0, *declared.schemas} for channel in declared.channels.values()):
        return False
    counts = contents.counts()
    if counts != Counter(statistics.counts) or counts.total() != statistics.message_count:
        return False
    if contents.times_ns() != (statistics.start_ns, statistics.end_ns):
        return False
    return counts.keys() <= declared.channels.keys()


def _read_all_chunks(file: BinaryIO, contents: Contents) -> None:
    for position, chunk in enumerate(contents.chunks):
        counts: Counter[int] = Counter()
        times_ns = []
        for opcode, content in records_in(read_chunk(file, chunk)):
            if opcode == MESSAGE:
                channel, log_time_ns = read_message_head(content)
                counts[channel] += 1
                times_ns.append(log_time_ns)
            else:
                contents.declared.declare(opcode, content)
        start_ns, end_ns = min(times_ns, default=0), max(times_ns, default=0)
        contents.chunks[position] = replace(chunk, start_ns=start_ns, end_ns=end_ns, counts=counts)


def _check_statistics(contents: Contents, statistics: Statistics | None) -> None:
    counts = contents.counts()
    contents.stated = statistics.counts if statistics else {}
    if statistics and not contents.stated and statistics.message_count > counts.total():
        raise Damaged(f"expected {statistics.message_count} messages, as its statistics say, found {counts.total()}")
