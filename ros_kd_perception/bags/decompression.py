"""Decompress no more than was expected: a few kilobytes of zstd or LZ4 can claim to be, and become, many gigabytes."""

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
_FRAME_HEADER_BYTES = 18  # at most
_FILE_OPENERS: Mapping[str, Callable[..., Any]] = {"zstd": zstd.open, "LZ4": lz4.frame.open, "gzip": gzip.open}
# Of gzip, BadGzipFile is an OSError: it is the content that is wrong, not the disk.
_DAMAGE = (zstd.ZstdError, EOFError, RuntimeError, zlib.error, gzip.BadGzipFile)

FILE_COMPRESSIONS = tuple(_FILE_OPENERS)
"""Compressions of whole files that `unpack_file_within` knows."""


class ExceedsLimit(ValueError):
    """The data becomes more than it may."""


def zstd_within(data: bytes, limit_bytes: int) -> bytes:
    """Decompress zstd, one frame or several.

    Raises:
        ValueError: damaged, cut off, or more than `limit_bytes`.
    """
    return _within(zstd.ZstdDecompressor, data, limit_bytes)


def lz4_within(data: bytes, limit_bytes: int) -> bytes:
    """Decompress LZ4 frames.

    Raises:
        ValueError: damaged, cut off, or more than `limit_bytes`.
    """
    return _within(LZ4FrameDecompressor, data, limit_bytes)


def unpack_file_within(compression: str, source: Path, target: Path, limit_bytes: int) -> int:
    """Unpack a file, one of `FILE_COMPRESSIONS`, and return how many bytes it became.

    Raises:
        ExceedsLimit: it becomes more than `limit_bytes`; what was written until then is left in `target`.
        ValueError: it is damaged or cut off.
        OSError: one of the two files cannot be opened, read or written.
    """
    if _declared_bytes(compression, source) > limit_bytes:
        raise ExceedsLimit(f"expected at most {limit_bytes} bytes after decompression, it says to become more")
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
    """The first bytes of what a compressed file becomes.

    Raises:
        ValueError: it is damaged or cut off before them.
        OSError: it cannot be read.
    """
    try:
        with _FILE_OPENERS[compression](source, "rb") as packed:
            return bytes(packed.read(count))
    except _DAMAGE as error:
        raise ValueError(str(error)) from None


def _declared_bytes(compression: str, source: Path) -> int:
    """What the first zstd frame of a file says it becomes, so that no disk is filled first; 0 if it does not say."""
    if compression != "zstd":
        return 0
    with source.open("rb") as file:
        try:
            return zstd.get_frame_info(file.read(_FRAME_HEADER_BYTES)).decompressed_size or 0
        except zstd.ZstdError:
            return 0  # unpacking says what is wrong with it


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
            raise ValueError(f"expected whole compressed data, got {len(data)} bytes that are cut off")
        data = frame.unused_data or b""
    return b"".join(parts)
