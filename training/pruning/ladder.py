"""Which channels stay: a row of ever smaller shapes, from the whole network to the smallest that the settings allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.pruning.groups import ChannelGroup
from training.pruning.settings import PruneSettings


@dataclass(frozen=True)
class Ladder:
    """All shapes that a global ranking of the channels leads to. Each has a subset of the channels of the one before.

    A step of the row raises the importance below which channels are cut. It is the same for all groups, so that the
    ranking decides where how much is cut. Within these limits: a group keeps `least_channels`, loses at most
    `largest_cut`, and keeps a multiple of `round_to` channels, or all.

    Attributes:
        groups: Groups of channels.
        importances: Of each group, float [channels].
        counts: How many channels of each group stay, int64 [steps, groups]. The first row is the whole network.
    """

    groups: tuple[ChannelGroup, ...]
    importances: tuple[Tensor, ...]
    counts: Tensor

    @classmethod
    def of(cls, groups: Sequence[ChannelGroup], importances: Sequence[Tensor], settings: PruneSettings) -> Ladder:
        """Rank the channels of all groups."""
        levels = torch.cat([*importances, torch.tensor([math.inf])]).sort().values
        columns = []
        for values in importances:
            below = torch.searchsorted(values.sort().values, levels)
            columns.append(_allowed(len(values) - below, len(values), settings))
        counts = torch.unique_consecutive(torch.stack(columns, dim=1), dim=0)
        return cls(tuple(groups), tuple(importances), counts)

    def __len__(self) -> int:
        """Return the number of shapes."""
        return len(self.counts)

    def kept(self, step: int) -> dict[str, Tensor]:
        """Return the channels of each group that stay at a step, bool [channels], by the group's name."""
        masks = {}
        for group, values, count in zip(self.groups, self.importances, self.counts[step].tolist(), strict=True):
            mask = torch.zeros(group.channels, dtype=torch.bool)
            # Stable, so that equal channels go in the same order at each step and on each machine.
            mask[values.sort(descending=True, stable=True).indices[:count]] = True
            masks[group.name] = mask
        return masks


def _allowed(counts: Tensor, channels: int, settings: PruneSettings) -> Tensor:
    """Return numbers of channels raised to what the settings allow to stay of a group."""
    least = max(settings.least_channels, math.ceil((1 - settings.largest_cut) * channels - 1e-9))
    multiple = settings.round_to
    return (counts.clamp(min=least).add(multiple - 1).div(multiple, rounding_mode="floor") * multiple).clamp(
        max=channels
    )
