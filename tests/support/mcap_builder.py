"""Build MCAP files record by record, in every layout that https://mcap.dev/spec allows and in some that it forbids."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lz4.frame import compress as lz4_compress

from ros_kd_perception.bags.decompression import zstd

MAGIC = b"\x89MCAP0\r\n"
Message = tuple[int, int, bytes]
"""Channel, log time in nanoseconds, data."""

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "zstd": zstd.compress, "lz4": lz4_compress}


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(raw)) + raw


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def schema(number: int, name: str | bytes, encoding: str = "ros2msg", definition: str | bytes = "") -> bytes:
    return record(3, struct.pack("<H", number) + text(name) + text(encoding) + text(definition))


def channel(number: int, schema_id: int, topic: str | bytes, encoding: str = "cdr", metadata: bytes = b"") -> bytes:
    return record(4, struct.pack("<HH", number, schema_id) + text(topic) + text(encoding) + text(metadata))


def message(number: int, log_time_ns: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, log_time_ns, log_time_ns) + data)


@dataclass
class McapBuilder:
    """Collects the records of a file; `written` has its bytes.

    Attributes:
        profile: Profile in the header.
        declarations: Schemas and channels, repeated in the summary.
    """

    profile: str = "ros2"
    declarations: Sequence[bytes] = ()
    body: bytearray = field(default_factory=bytearray)
    chunk_indexes: list[bytes] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    times_ns: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.body += MAGIC + record(1, text(self.profile) + text("test"))

    def add(self, *records: bytes) -> McapBuilder:
        """Append records outside of chunks."""
        for each in records:
            self.body += each
        return self

    def loose(self, *messages: Message) -> McapBuilder:
        """Append messages outside of chunks."""
        self._count(messages)
        return self.add(*(message(*each) for each in messages))

    def chunk(
        self,
        *messages: Message,
        compression: str = "",
        message_index: bool = True,
        chunk_index: bool = True,
        first: Sequence[bytes] = (),
    ) -> McapBuilder:
        """Append a chunk, `first` before its messages, and its indexes."""
        self._count(messages)
        times = [time for _, time, _ in messages] or [0]
        entries: dict[int, bytes] = {}
        content = b"".join(first)
        for number, time, data in messages:
            entries[number] = entries.get(number, b"") + struct.pack("<QQ", time, len(content))
            content += message(number, time, data)
        packed = _COMPRESS[compression](content)
        begin = len(self.body)
        head = struct.pack("<QQQI", min(times), max(times), len(content), zlib.crc32(content))
        self.add(record(6, head + text(compression) + struct.pack("<Q", len(packed)) + packed))
        end = len(self.body)
        offsets = b""
        if message_index:
            for number, table in entries.items():
                offsets += struct.pack("<HQ", number, len(self.body))
                self.add(record(7, struct.pack("<H", number) + text(table)))
        if chunk_index:
            place = struct.pack("<QQQQ", min(times), max(times), begin, end - begin) + text(offsets)
            sizes = struct.pack("<Q", len(self.body) - end) + text(compression)
            self.chunk_indexes.append(record(8, place + sizes + struct.pack("<QQ", len(packed), len(content))))
        return self

    def _count(self, messages: Sequence[Message]) -> None:
        self.counts.update(number for number, _, _ in messages)
        self.times_ns += [time for _, time, _ in messages]

    def statistics(self, counts: dict[int, int] | None = None, total: int | None = None) -> bytes:
        """Return the statistics record, with the given `counts`, right or wrong, or with the true ones."""
        counts = dict(self.counts) if counts is None else counts
        table = text(b"".join(struct.pack("<HQ", *each) for each in counts.items()))
        times = self.times_ns or [0]
        total = sum(counts.values()) if total is None else total
        numbers = struct.pack("<QHIIIIQQ", total, 1, 1, 0, 0, len(self.chunk_indexes), min(times), max(times))
        return record(11, numbers + table)

    def write(self, path: Path, summary: Sequence[bytes] | None = None, crc: bool = False) -> Path:
        """End the data section, append the summary and write the file.

        Args:
            path: Path of the file.
            summary: Records of the summary. Without records there is no summary section. Default: all records that
                belong there.
            crc: Whether to store the checksum of the summary.
        """
        self.add(record(15, struct.pack("<I", 0)))
        if summary is None:
            summary = [*self.declarations, *self.chunk_indexes, self.statistics()]
        begin = len(self.body) if summary else 0
        footer = struct.pack("<BQQQ", 2, 20, begin, 0)
        checksum = zlib.crc32(b"".join(summary) + footer) if crc else 0
        path.write_bytes(bytes(self.body) + b"".join(summary) + footer + struct.pack("<I", checksum) + MAGIC)
        return path
