"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class AveragedWeights(nn.Module):
    """A copy of a network whose weights follow the original slowly: w <- d w + (1 - d) original.

    d = min(decay, (1 + updates) / (10 + updates)), so that the average soon forgets the random start. Running
    statistics of normalisation layers are averaged too; buffers of integers are copied. The copy is always in eval mode
    and is never trained.
    """

    updates: torch.Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> AveragedWeights:
        """Stay in eval mode, because Lightning puts all of its modules into training mode."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards a network of the same shape by one step."""
        updates = int(self.updates)
        keep = min(self.decay, (1 + updates) / (10 + updates))
        averaged, current = self.network.state_dict(), network.state_dict()
        floating = [name for name, value in averaged.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[name] for name in floating], [current[name] for name in floating], 1 - keep)
        for name in averaged.keys() - set(floating):
            averaged[name].copy_(current[name])
        self.updates += 1
