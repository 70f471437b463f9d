"""Finds every message of an MCAP file, also messages that no index names.

The specification allows messages outside chunks, chunks without an index and files without a summary. Chunks in the
chunk index are taken from there, and the bytes between them are scanned record by record. If the result does not match
the statistics record, every chunk is read once.
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
"""Limit on messages outside chunks. Their places are kept in memory, 26 bytes each."""

_FOOTER_BYTES = 9 + 20 + len(MAGIC)


@dataclass
class LooseMessages:
    """The messages outside chunks, as columns of equal length.

    Attributes:
        channels: Channel numbers.
        times_ns: Log times.
        offsets: Offset of each record's content in the file, in bytes.
        lengths: Length of each record's content, in bytes.
    """

    channels: array[int] = field(default_factory=lambda: array("H"))
    times_ns: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, file: BinaryIO, offset: int, length: int) -> None:
        """Add the message whose record content begins at `offset`. The file must be positioned there."""
        if len(self.channels) >= MAX_LOOSE_MESSAGES:
            raise ValueError(f"expected at most {MAX_LOOSE_MESSAGES} messages outside of chunks, got more; use chunks")
        channel, log_time_ns = read_message_head(read_exactly(file, min(length, MESSAGE_HEAD.size)))
        self.channels.append(channel)
        self.times_ns.append(log_time_ns)
        self.offsets.append(offset)
        self.lengths.append(length)

    def places(self, channels: Collection[int], start_ns: int, end_ns: int) -> Sequence[int]:
        """Return the indexes of the messages of some channels in a time range, in the order of log times.

        Args:
            channels: Channel numbers.
            start_ns: Earliest log time.
            end_ns: Log time at which to stop, exclusive.
        """
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
    """The contents of an MCAP file.

    Attributes:
        declared: Schemas and channels.
        chunks: Chunks in file order, each with its message counts by channel.
        loose: Messages outside chunks.
        stated: Channel -> number of messages according to the statistics record. Empty without one.
    """

    declared: Summary
    chunks: list[Chunk] = field(default_factory=list)
    loose: LooseMessages = field(default_factory=LooseMessages)
    stated: Mapping[int, int] = field(default_factory=dict)

    def counts(self) -> Counter[int]:
        """Return channel -> number of messages."""
        counts = Counter(self.loose.channels)
        for chunk in self.chunks:
            counts.update(chunk.counts or {})
        return +counts

    def times_ns(self) -> tuple[int, int]:
        """Return the first and last log time, or zeros without messages."""
        times = [time for chunk in self.chunks if chunk.counts for time in (chunk.start_ns, chunk.end_ns)]
        if self.loose.times_ns:
            times += (min(self.loose.times_ns), max(self.loose.times_ns))
        return min(times, default=0), max(times, default=0)

    def undeclared(self) -> int:
        """Return how many messages belong to undeclared channels."""
        counts = self.counts()
        unknown = {*counts, *self.stated} - self.declared.channels.keys()
        return sum(max(counts[channel], self.stated.get(channel, 0)) for channel in unknown)


def find_contents(file: BinaryIO) -> Contents:
    """Find the topics, chunks and messages of an MCAP file.

    Raises:
        CutOff: The end of the file is missing.
        Damaged: The file has wrong bytes.
        ValueError: The file exceeds a limit.
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
        summary = Summary()  # the summary is damaged, but the messages may be intact
    try:
        contents = _survey(file, summary, end)
    except Damaged:  # the index names chunks where there are none
        contents = _survey(file, replace(summary, chunks=[]), end)
    if not _is_confirmed(contents, summary.statistics):
        _read_all_chunks(file, contents)
    _check_statistics(contents, summary.statistics)
    return contents


def _summary(file: BinaryIO, begin: int, end: int, footer: bytes, crc: int) -> Summary:
    if not len(MAGIC) <= begin <= end or end - begin > MAX_SUMMARY_BYTES:
        raise Damaged(f"expected a summary of at most {MAX_SUMMARY_BYTES} bytes, got one from byte {begin} to {end}")
    file.seek(begin)
    content = read_exactly(file, end - begin)
    if crc and zlib.crc32(footer[:25], zlib.crc32(content)) != crc:  # the footer up to the checksum itself
        raise Damaged("the checksum of the summary is wrong")
    return read_summary(memoryview(content))


def _survey(file: BinaryIO, summary: Summary, end: int) -> Contents:
    """Take chunks from the index and scan the bytes between them."""
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
    """Return whether the statistics confirm that the messages found without reading chunks are all messages."""
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
