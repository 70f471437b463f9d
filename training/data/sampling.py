"""Which frame is seen when: a pure function of seed, epoch and place, so that a resumed run sees what it would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """One sample to be made: frame `index` of source `source`, as number `position` of epoch `epoch`.

    `turn` counts how often its source had been gone through before.
    """

    source: int
    index: int
    epoch: int
    position: int
    turn: int = 0


def draw_epoch(
    sizes: Sequence[int], shares: Sequence[float], samples_per_epoch: int, seed: int, epoch: int
) -> list[Draw]:
    """The draws of one epoch, shuffled.

    Every source gives its share of the epoch to within one sample. Within a source frames come without replacement:
    the epochs walk through one endless row of shuffled passes over the source, each beginning where the last one ended.

    Args:
        sizes: frames in each source.
        shares: parts of the epoch, any positive scale.
        samples_per_epoch: draws in all.
        seed: of the run.
        epoch: from 0.
    """
    counts = _split(samples_per_epoch, shares)
    drawn: list[tuple[int, int, int]] = []
    for source, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        drawn += [(source, index, turn) for index, turn in _walk(size, epoch * count, count, (seed, source))]
    order = np.random.default_rng((seed, epoch, len(sizes))).permutation(len(drawn))
    draws = []
    for position, item in enumerate(order):
        source, index, turn = drawn[item]
        draws.append(Draw(source, index, epoch, position, turn))
    return draws


def _split(total: int, shares: Sequence[float]) -> list[int]:
    edges = np.round(np.cumsum(shares) / np.sum(shares) * total).astype(int)
    return [int(count) for count in np.diff(edges, prepend=0)]


def _walk(size: int, start: int, count: int, seed: tuple[int, int]) -> Iterator[tuple[int, int]]:
    done = 0
    while done < count:
        turn, offset = divmod(start + done, size)
        order = np.random.default_rng((*seed, turn)).permutation(size)
        piece = order[offset : offset + count - done]
        done += len(piece)
        yield from ((int(index), turn) for index in piece)


class EpochSampler(Sampler[Draw]):
    """Gives one process its part of each epoch; every part has the same length.

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
        """The epoch that the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples_per_epoch // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        draws = draw_epoch(self.sizes, self.shares, self.samples_per_epoch, self.seed, self.epoch)
        return iter(draws[self.rank :: self.world_size][: len(self)])
