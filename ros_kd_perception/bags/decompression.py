"""Decompresses zstd, LZ4 and gzip up to a size limit, because a few kilobytes can expand to many gigabytes."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lz4.frame
from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE_BYTES = 1 << 20
_FRAME_HEADER_BYTES = 18  # largest size of a zstd frame header
_FILE_OPENERS: Mapping[str, Callable[..., Any]] = {"zstd": zstd.open, "LZ4": lz4.frame.open, "gzip": gzip.open}
# gzip.BadGzipFile is an OSError, although the content is wrong and not the disk.
_DAMAGE = (zstd.ZstdError, EOFError, RuntimeError, zlib.error, gzip.BadGzipFile)

FILE_COMPRESSIONS = tuple(_FILE_OPENERS)
"""Compressions that `unpack_file_within` supports."""


class ExceedsLimit(ValueError):
    """The decompressed data exceeds the limit."""


def zstd_within(data: bytes, limit_bytes: int) -> bytes:
    """Decompress one or more zstd frames.

    Raises:
        ExceedsLimit: The result is larger than `limit_bytes`.
        ValueError: The data is damaged or cut off.
    """
    return _within(zstd.ZstdDecompressor, data, limit_bytes)


def lz4_within(data: bytes, limit_bytes: int) -> bytes:
    """Decompress one or more LZ4 frames.

    Raises:
        ExceedsLimit: The result is larger than `limit_bytes`.
        ValueError: The data is damaged or cut off.
    """
    return _within(LZ4FrameDecompressor, data, limit_bytes)


def unpack_file_within(compression: str, source: Path, target: Path, limit_bytes: int) -> int:
    """Decompress a file and return the size of the result in bytes.

    Args:
        compression: One of `FILE_COMPRESSIONS`.
        source: The compressed file.
        target: The file to write. After an error it holds the part written so far.
        limit_bytes: Largest size of the result.

    Raises:
        ExceedsLimit: The result is larger than `limit_bytes`.
        ValueError: The file is damaged or cut off.
        OSError: One of the two files cannot be opened, read or written.
    """
    if _declared_bytes(compression, source) > limit_bytes:
        raise ExceedsLimit(f"expected at most {limit_bytes} bytes after decompression, its header declares more")
    size = 0
    with target.open("wb") as file:
        try:
            with _FILE_OPENERS[compression](source, "rb") as packed:
                while piece := packed.read(_PIECE_BYTES):
                    size += len(piece)
                    if size > limit_bytes:
                        raise ExceedsLimit(f"expected at most {limit_bytes} bytes after decompression, got more")
                    file.write(piece)
        except _DAMAGE as error:
            raise ValueError(str(error)) from None
    return size


def unpacked_head(compression: str, source: Path, count: int) -> bytes:
    """Return the first `count` bytes of a compressed file's content.

    Raises:
        ValueError: The file is damaged or cut off before that.
        OSError: The file cannot be read.
    """
    try:
        with _FILE_OPENERS[compression](source, "rb") as packed:
            return bytes(packed.read(count))
    except _DAMAGE as error:
        raise ValueError(str(error)) from None


def _declared_bytes(compression: str, source: Path) -> int:
    """Return the decompressed size that the first zstd frame of a file declares, or 0 if it declares none.

    A file that is too large is then refused before it fills the disk.
    """
    if compression != "zstd":
        return 0
    with source.open("rb") as file:
        try:
            return zstd.get_frame_info(file.read(_FRAME_HEADER_BYTES)).decompressed_size or 0
        except zstd.ZstdError:
            return 0  # decompression will report the error


def _within(new_decompressor: Callable[[], Any], data: bytes, limit_bytes: int) -> bytes:
    parts, size = [], 0
    while data:
        frame = new_decompressor()
        try:
            part = frame.decompress(data, max_length=limit_bytes + 1 - size)
        except (zstd.ZstdError, RuntimeError) as error:
            raise ValueError(str(error)) from None
        parts.append(part)
        size += len(part)
        if size > limit_bytes:
            raise ExceedsLimit(f"expected at most {limit_bytes} bytes after decompression, got more")
        if not frame.eof:
            raise ValueError(f"expected complete compressed data, got {len(data)} bytes that are cut off")
        data = frame.unused_data or b""
    return b"".join(parts)
