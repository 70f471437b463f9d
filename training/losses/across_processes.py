"""Sums over all processes of a run, so that a loss does not depend on how the batch was dealt out to them."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_reduce


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum over all processes, through which gradients flow back to each; the value itself in a single one."""
    if processes() == 1:
        return value
    total: Tensor = all_reduce(value)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """The mean over all processes, without gradient, for what a loss is divided by.

    The gradients of processes are averaged. With the mean of all denominators below each process's own numerator that
    average is the gradient of (sum of numerators) / (sum of denominators): that of one process with the whole batch.
    """
    if processes() == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / processes()


def processes() -> int:
    """How many processes train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1
