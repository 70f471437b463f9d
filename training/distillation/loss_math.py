"""Operations that the formulas of distillation losses share.

A batch consists of the frames of all processes of a run. Means, denominators and correlations run over the whole batch,
so that the averaged gradients of several processes equal those of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from training.losses.across_processes import mean_over_processes, processes, sum_over_processes

SMALLEST_DEVIATION = 1e-4  # standard deviation; the correlation of values that vary less is mostly rounding


def comparable(student: Tensor, teacher: Tensor, axes: str, may_differ: str = "") -> tuple[Tensor, Tensor]:
    """Return both tensors in float32, the teacher's without gradient.

    Args:
        student: Output of the student.
        teacher: Output of the teacher.
        axes: One letter for each axis, for example "NCHW".
        may_differ: Letters of the axes whose sizes may differ.

    Raises:
        ValueError: An axis is missing, or its sizes differ.
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


def mean(values: Tensor) -> Tensor:
    """Return the mean of the values of all processes; 0, still part of the graph, if there are no values.

    Each process returns its own part of the numerator; see `mean_over_processes`.
    """
    count = mean_over_processes(values.new_tensor(float(values.numel())))
    return values.sum() / count.clamp(min=1.0 / processes())


def divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return KL(softmax(teacher) || softmax(student)) over the last axis, in nats, [...] from logits [..., C]."""
    student_log = functional.log_softmax(student_logits, dim=-1)
    teacher_log = functional.log_softmax(teacher_logits, dim=-1)
    return (teacher_log.exp() * (teacher_log - student_log)).sum(dim=-1)


def pearson_distance(student: Tensor, teacher: Tensor, dealt_out: Literal["rows", "columns"]) -> Tensor:
    """Return the mean over rows of 1 - r, where r is Pearson's correlation of a student's row with the teacher's.

    Rows in which the teacher does not vary are left out; the result is 0 if no row is left.

    Args:
        student: Values of the student, float32 [R, M].
        teacher: Values of the teacher, float32 [R, M].
        dealt_out: What is divided among the processes of a run: the rows, or the columns, over which r runs.
    """
    if dealt_out == "rows":
        distance, varies = _correlation_distance(student, teacher, columns=max(student.shape[1], 1), total=lambda x: x)
        return mean(distance[varies])
    columns = sum_over_processes(student.new_tensor(float(student.shape[1]))).clamp(min=1.0)
    distance, varies = _correlation_distance(student, teacher, columns, sum_over_processes)
    # Every process has the distances of all rows, so this is the whole mean and not a part of it.
    return distance[varies].sum() / varies.sum().clamp(min=1)


def _correlation_distance(
    student: Tensor, teacher: Tensor, columns: Tensor | int, total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return 1 - r of each row, and whether the teacher varies in it; `total` adds the sums of all processes up."""
    means = total(torch.stack([student.sum(dim=1), teacher.sum(dim=1)])) / columns
    student, teacher = student - means[0].unsqueeze(1), teacher - means[1].unsqueeze(1)
    moments = torch.stack([student.square().sum(dim=1), teacher.square().sum(dim=1), (student * teacher).sum(dim=1)])
    student_variance, teacher_variance, covariance = total(moments) / columns
    # Clamped before the root, whose slope at zero is infinite: a constant student needs a finite gradient.
    smallest = SMALLEST_DEVIATION**2
    scale = student_variance.clamp(min=smallest).sqrt() * teacher_variance.clamp(min=smallest).sqrt()
    return 1.0 - covariance / scale, teacher_variance > smallest
