"""Sums over all processes of a run, so that a loss does not depend on how the batch is divided among them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum over all processes; gradients flow back to each of them. One process returns its own value."""
    if processes() == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean over all processes, without gradient. Losses use it as denominator.

    Training averages the gradients of the processes. If each process divides its own numerator by the mean of all
    denominators, the average is the gradient of (sum of numerators) / (sum of denominators), which is the gradient of
    one process with the whole batch.
    """
    if processes() == 1:
        return value
    return _summed(value) / processes()


def gather_from_processes(value: Tensor) -> Tensor:
    """Return the tensors of all P processes concatenated in the order of their ranks, [P N, ...].

    Gradients flow back to each process. The function is a `sum_over_processes` in which each process contributes zeros
    at the places of the others.

    Args:
        value: Tensor of this process, [N, ...]; the shape is the same in all processes.
    """
    if processes() == 1:
        return value
    places = [torch.zeros_like(value) for _ in range(processes())]
    places[rank()] = value
    return sum_over_processes(torch.cat(places))


class _Sum(torch.autograd.Function):
    """A sum over processes. The loss of each process depends on all values, so gradients are summed too."""

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
    """Return the number of processes that train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def rank() -> int:
    """Return the number of this process, from 0."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return 0
