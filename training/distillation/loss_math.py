"""What the distillation losses share: two sides of one shape, in float32, and a gradient to the student alone.

A batch is that of all processes of a run together: means, sums below a fraction and correlations run over all of it, so
that the averaged gradients of several processes are those of one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, ParamSpec

import torch
from torch import Tensor
from torch.nn import functional

from training.losses.across_processes import mean_over_processes, processes, sum_over_processes

Parameters = ParamSpec("Parameters")

SMALLEST_DEVIATION = 1e-4  # standard deviation; what varies less has no correlation worth learning, only rounding


def in_float32(loss: Callable[Parameters, Tensor]) -> Callable[Parameters, Tensor]:
    """Switch autocast off inside a loss: it would run matrix products, and so every relation, in half precision."""

    @functools.wraps(loss)
    def without_autocast(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Tensor:
        device = next(value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device.type, enabled=False):
            return loss(*args, **kwargs)

    return without_autocast


def comparable(student: Tensor, teacher: Tensor, axes: str, may_differ: str = "") -> tuple[Tensor, Tensor]:
    """Both sides in float32, the teacher's cut off from its graph.

    Args:
        student: as the student said it.
        teacher: as the teacher said it.
        axes: one letter an axis, such as "NCHW".
        may_differ: those of the letters in which the sides need not agree.

    Raises:
        ValueError: if an axis is missing, or is of two sizes.
    """
    compared = [index for index, axis in enumerate(axes) if axis not in may_differ]
    fits = student.ndim == teacher.ndim == len(axes)
    if not fits or any(student.shape[index] != teacher.shape[index] for index in compared):
        is_map = "H" in axes
        raise ValueError(
            f"expected student and teacher [{', '.join(axes)}] that agree in {', '.join(axes[i] for i in compared)}, "
            f"got {list(student.shape)} and {list(teacher.shape)}: "
            + (
                "project channels by a 1x1 adapter and resize first"
                if is_map
                else "take both from the same frames and levels"
            )
        )
    return student.float(), teacher.detach().float()


def positive(value: float, name: str) -> float:
    """The value itself.

    Raises:
        ValueError: if it is not above zero.
    """
    if not value > 0:
        raise ValueError(f"expected a {name} above 0, got {value}: 1 leaves the logits as they are")
    return value


def mean(values: Tensor) -> Tensor:
    """Mean of all values, those of all processes; 0, still part of the graph, where there are none.

    Each process returns its own part of the numerator: see `mean_over_processes`.
    """
    count = mean_over_processes(values.new_tensor(float(values.numel())))
    return values.sum() / count.clamp(min=1.0 / processes())


def divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the last axis, [...] from logits [..., C], in nats."""
    student_log = functional.log_softmax(student_logits, dim=-1)
    teacher_log = functional.log_softmax(teacher_logits, dim=-1)
    return (teacher_log.exp() * (teacher_log - student_log)).sum(dim=-1)


def pearson_distance(student: Tensor, teacher: Tensor, dealt_out: Literal["rows", "columns"]) -> Tensor:
    """1 - r, the correlation of each row of one side with that row of the other, mean over rows.

    Rows in which the teacher does not vary have no correlation and are left out; 0 where that leaves none.

    Args:
        student: float32 [R, M].
        teacher: float32 [R, M].
        dealt_out: what several processes have each their own of: rows, which are counted together then, or columns,
            over which each correlation runs.
    """
    if dealt_out == "rows":
        distance, varies = _correlation_distance(student, teacher, columns=max(student.shape[1], 1), total=lambda x: x)
        return mean(distance[varies])
    columns = sum_over_processes(student.new_tensor(float(student.shape[1]))).clamp(min=1.0)
    distance, varies = _correlation_distance(student, teacher, columns, sum_over_processes)
    # Every process has the distances of all rows: no part of a numerator, but the whole.
    return distance[varies].sum() / varies.sum().clamp(min=1)


def _correlation_distance(
    student: Tensor, teacher: Tensor, columns: Tensor | int, total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """1 - r of each row, and whether the teacher varies in it; `total` adds sums over columns up."""
    means = total(torch.stack([student.sum(dim=1), teacher.sum(dim=1)])) / columns
    student, teacher = student - means[0].unsqueeze(1), teacher - means[1].unsqueeze(1)
    moments = torch.stack([student.square().sum(dim=1), teacher.square().sum(dim=1), (student * teacher).sum(dim=1)])
    student_variance, teacher_variance, covariance = total(moments) / columns
    # Bounded before the root, whose slope at zero is infinite: a student that says the same everywhere must move.
    smallest = SMALLEST_DEVIATION**2
    scale = student_variance.clamp(min=smallest).sqrt() * teacher_variance.clamp(min=smallest).sqrt()
    return 1.0 - covariance / scale, teacher_variance > smallest
