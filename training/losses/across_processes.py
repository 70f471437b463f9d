"""Sums over all processes of a run, so that a loss does not depend on how the batch was dealt out to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum over all processes, through which gradients flow back to each; the value itself in a single one."""
    if processes() == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """The mean over all processes, without gradient, for what a loss is divided by.

    The gradients of processes are averaged. With the mean of all denominators below each process's own numerator that
    average is the gradient of (sum of numerators) / (sum of denominators): that of one process with the whole batch.
    """
    if processes() == 1:
        return value
    return _summed(value) / processes()


def gather_from_processes(value: Tensor) -> Tensor:
    """The tensors of all processes one behind the other, [P N, ...] in the order of their ranks, of one shape [N, ...].

    Gradients flow back to each, as in `sum_over_processes`: what a process does not have counts as zeros in that sum.
    """
    if processes() == 1:
        return value
    places = [torch.zeros_like(value) for _ in range(processes())]
    places[rank()] = value
    return sum_over_processes(torch.cat(places))


class _Sum(torch.autograd.Function):
    """Every process's loss depends on every process's value, so the gradients are summed on the way back too."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        del context
        return _summed(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        del context
        return _summed(gradients[0])


def _summed(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def processes() -> int:
    """How many processes train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def rank() -> int:
    """Which of them this one is, from 0 on."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return 0
