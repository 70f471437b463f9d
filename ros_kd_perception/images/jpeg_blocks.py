"""The coded blocks of a baseline JPEG: Huffman tables, and where each block of a run of bytes ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_BLOCK_COEFFICIENTS = 64

Table = list[int]
BlockTables = tuple[Table, Table]
"""The DC and the AC table of a block."""


@lru_cache(maxsize=8)
def huffman_table(coded: bytes, is_dc: bool) -> Table:
    """For each 16 bits that may come: bits of the code and its value times 256, plus coefficients; 0 for no code.

    Args:
        coded: sixteen counts of codes by length, then the values.
        is_dc: of the first coefficient of a block, or of the others.

    Raises:
        ValueError: more codes than there is room for.
    """
    table, position = [0] * (1 << 16), 0
    lengths = (length for length, count in enumerate(coded[:16], 1) for _ in range(count))
    for value, length in zip(coded[16:], lengths, strict=False):
        bits, span = length + (value if is_dc else value & 15), 1 << 16 - length
        if position + span > 1 << 16:
            raise ValueError("expected no more codes than there is room for")
        table[position : position + span] = [bits << 8 | _advance(value)] * span
        position += span
    return table


def _advance(value: int) -> int:
    """Coefficients that an AC symbol covers: a run of zeros and the one behind it, sixteen zeros, or all the others."""
    run, size = divmod(value, 16)
    return run + 1 if size or run == 15 else _BLOCK_COEFFICIENTS


def end_like_a_picture(data: bytes, start: int, blocks: Sequence[BlockTables]) -> bool:
    """Whether blocks that begin at a bit end so near the end of the data that only ones follow.

    Args:
        data: without the zeros that stuff it.
        start: number of the bit.
        blocks: tables of the blocks of an MCU, from the one on that begins there.
    """
    nearest = 8 * len(data) - min(7, ones_at_the_end(data[-1]))
    words, total, position, number = _words(data), 8 * len(data), start, 0
    while True:
        after = _after_block(words, position, total, *blocks[number % len(blocks)])
        if after is None:
            return False
        if after >= nearest:
            return True
        position, number = after, number + 1


def _after_block(words: list[int], position: int, total: int, dc: Table, ac: Table) -> int | None:
    """The bit behind a block; None where its codes or its data do not do."""
    step = dc[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
    if not step:
        return None
    position += step >> 8
    coefficient = 1
    while coefficient < _BLOCK_COEFFICIENTS and position <= total:
        step = ac[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
        if not step:
            return None
        position += step >> 8
        coefficient += step & 0xFF
    return position if position <= total else None


def _words(data: bytes) -> list[int]:
    """The 32 bits that begin at each byte; ones follow the last."""
    padded = np.frombuffer(data + b"\xff" * 8, np.uint8).astype(np.uint32)
    words: list[int] = (padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]).tolist()
    return words


def ones_at_the_end(byte: int) -> int:
    """How many ones a byte ends in."""
    return ((byte ^ (byte + 1)) >> 1).bit_length()
