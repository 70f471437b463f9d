"""Draws the frames of each epoch.

The draws depend only on seed, epoch and position, so a resumed run sees the frames that it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from training.data.shares import split_by_shares


@dataclass(frozen=True)
class Draw:
    """One sample to make.

    Attributes:
        source: Number of the source in the recipe.
        index: Number of the frame in the source.
        epoch: Epoch, from 0.
        position: Place of the sample in the epoch.
        turn: How often all frames of the source were drawn before.
    """

    source: int
    index: int
    epoch: int
    position: int
    turn: int = 0


def draw_epoch(
    sizes: Sequence[int], shares: Sequence[float], samples_per_epoch: int, seed: int, epoch: int
) -> list[Draw]:
    """Return the shuffled draws of one epoch.

    Every source gives its share of the epoch, to within one sample. Frames of a source are drawn without replacement:
    the epochs walk through one endless row of shuffled passes over the source, and each begins where the last one
    ended.

    Args:
        sizes: Number of frames in each source.
        shares: Share of each source in the epoch, in any positive scale.
        samples_per_epoch: Number of draws.
        seed: Seed of the run.
        epoch: Epoch, from 0.
    """
    counts = split_by_shares(samples_per_epoch, shares)
    drawn: list[tuple[int, int, int]] = []
    for source, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        drawn += [(source, index, turn) for index, turn in _walk(size, epoch * count, count, (seed, source))]
    order = np.random.default_rng((seed, epoch, len(sizes))).permutation(len(drawn))
    draws = []
    for position, item in enumerate(order):
        source, index, turn = drawn[item]
        draws.append(Draw(source, index, epoch, position, turn))
    return draws


def _walk(size: int, start: int, count: int, seed: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield `count` frames with their turn, from place `start` of the endless row of shuffled passes."""
    done = 0
    while done < count:
        turn, offset = divmod(start + done, size)
        order = np.random.default_rng((*seed, turn)).permutation(size)
        piece = order[offset : offset + count - done]
        done += len(piece)
        yield from ((int(index), turn) for index in piece)


class EpochSampler(Sampler[Draw]):
    """Gives one process its part of each epoch. All parts have the same length.

    Lightning calls `set_epoch` before each epoch.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        shares: Sequence[float],
        samples_per_epoch: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sizes, self.shares = list(sizes), list(shares)
        self.samples_per_epoch, self.seed = samples_per_epoch, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples_per_epoch // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        draws = draw_epoch(self.sizes, self.shares, self.samples_per_epoch, self.seed, self.epoch)
        return iter(draws[self.rank :: self.world_size][: len(self)])
