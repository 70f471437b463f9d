"""Follow the Huffman codes of a baseline JPEG to find where each block ends, without decoding pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_BLOCK_COEFFICIENTS = 64

Table = list[int]
BlockTables = tuple[Table, Table]
"""DC table and AC table of a block."""


@lru_cache(maxsize=8)
def huffman_table(coded: bytes, is_dc: bool) -> Table:
    """Build a lookup table by the next 16 bits of the data.

    An entry is 256 times the number of bits of the code and its value, plus the number of coefficients that it covers.
    It is 0 where no code begins with these bits.

    Args:
        coded: Sixteen counts of codes by length, then the values.
        is_dc: Whether the table is for the first coefficient of a block.

    Raises:
        ValueError: The counts give more codes than 16 bits can hold.
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
    """Return how many coefficients an AC symbol covers: a run of zeros and one value, 16 zeros, or all that remain."""
    run, size = divmod(value, 16)
    return run + 1 if size or run == 15 else _BLOCK_COEFFICIENTS


def end_like_a_picture(data: bytes, start: int, blocks: Sequence[BlockTables]) -> bool:
    """Return whether the codes from a bit on give whole blocks up to the end of the data, with only ones behind them.

    Args:
        data: Coded bytes without stuffed zeros.
        start: Bit at which the first block begins.
        blocks: Tables of the blocks of an MCU, beginning with the block at `start`.
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
    """Return the bit behind a block. None if a code is invalid or the data ends."""
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
    """Return the 32 bits that begin at each byte. The data is continued with ones."""
    padded = np.frombuffer(data + b"\xff" * 8, np.uint8).astype(np.uint32)
    words: list[int] = (padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]).tolist()
    return words


def ones_at_the_end(byte: int) -> int:
    """Return the number of ones at the end of a byte."""
    return ((byte ^ (byte + 1)) >> 1).bit_length()
