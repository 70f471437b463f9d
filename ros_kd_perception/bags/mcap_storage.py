"""McapStorage: the MCAP storage of rosbags with less copying. The bytes of the file are the same.

rosbags copies each message three times, into fresh memory. The page faults of that memory take more time than the
compression of a class map.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

from ros_kd_perception.bags.mcap_records import MESSAGE, MESSAGE_HEAD, RECORD_HEAD

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK_BYTES = 1 << 20  # a chunk that has become larger is complete


class ChunkBuffer(BytesIO):
    """A stream of bytes that keeps its memory when it is cleared. It has what rosbags needs of the chunk's stream."""

    def __init__(self) -> None:
        super().__init__()
        self._memory = bytearray(_CHUNK_BYTES)
        self._size = 0

    def write(self, data: Any) -> int:
        """Append bytes, or an object with a buffer of bytes."""
        end = self._size + len(data)
        if end > len(self._memory):
            self._memory.extend(bytes(end - len(self._memory)))
        with memoryview(self._memory) as view:  # assigning to a slice of the bytearray itself would copy `data` twice
            view[self._size : end] = data
        self._size = end
        return len(data)

    def tell(self) -> int:
        """Return the number of bytes."""
        return self._size

    def getvalue(self) -> Any:
        """Return the bytes as a view. It must be gone before the next `write`."""
        return memoryview(self._memory)[: self._size]

    def clear(self) -> None:
        """Forget the bytes."""
        self._size = 0


class McapStorage(McapWriter):
    """Writes an MCAP file with one buffer for all chunks."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self._buffer = ChunkBuffer()
        self.chunk.bio = self._buffer
        if compression == CompressionMode.STORAGE:
            compressor = zstd.ZstdCompressor()
            self.compressor = lambda data: compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Add a message to the chunk, and write the chunk if it is complete."""
        chunk = self.chunk
        for times in (self, chunk):
            times.message_start_time = min(timestamp, times.message_start_time)
            times.message_end_time = max(timestamp, times.message_end_time)
        self.channel_stats[connection.id] += 1
        chunk.msgs[connection.id].append((timestamp, chunk.bio.tell()))
        chunk.bio.write(RECORD_HEAD.pack(MESSAGE, MESSAGE_HEAD.size + len(data)))
        chunk.bio.write(MESSAGE_HEAD.pack(connection.id, 0, timestamp, timestamp))
        chunk.bio.write(data)
        if chunk.bio.tell() > _CHUNK_BYTES:
            self.close_chunk()

    def close_chunk(self) -> None:
        """Write the chunk. If that fails, its messages stay in memory."""
        super().close_chunk()
        self._buffer.clear()
        self.chunk.bio = self._buffer


class McapBagWriter(Writer):
    """The bag writer of rosbags with `McapStorage`."""

    STORAGE_PLUGINS = {StoragePlugin.MCAP: McapStorage}  # noqa: RUF012  # as in rosbags
