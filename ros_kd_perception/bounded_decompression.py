"""Decompress no more than was expected: a few kilobytes of zstd or LZ4 can claim to be, and become, many gigabytes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE_BYTES = 1 << 20


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


def is_zstd_file_within(path: Path, limit_bytes: int) -> bool:
    """Whether a zstd file becomes at most so many bytes; it is read to there and nothing is kept.

    Raises:
        OSError, ValueError: it cannot be read, or is damaged.
    """
    size = 0
    try:
        with zstd.open(path, "rb") as file:
            while size <= limit_bytes and (piece := file.read(_PIECE_BYTES)):
                size += len(piece)
    except (zstd.ZstdError, EOFError) as error:
        raise ValueError(str(error)) from None
    return size <= limit_bytes


def unpack_zstd_file(path: Path, target: Path) -> None:
    """Unpack a zstd file that is known to be sound."""
    with zstd.open(path, "rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _PIECE_BYTES)


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
            raise ValueError(f"expected at most {limit_bytes} bytes after decompression, got more")
        if not frame.eof:
            raise ValueError(f"expected whole compressed data, got {len(data)} bytes that are cut off")
        data = frame.unused_data or b""
    return b"".join(parts)
