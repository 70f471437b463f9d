"""Losses between relations: how alike places, frames or pixels of several frames are to each other, on either side.

Relations have no channels, so that all but N, H and W may differ and no adapter is needed. All take any float type,
return a float32 scalar, 0 with zero gradients where there are too few things to relate, and send gradients to the
student alone. Relations grow with the square of what they relate; maps are therefore averaged down to a grid of cells,
which bounds memory and, unlike a random sample of pixels, is the same in every run.

Relations between frames are those between the frames of all P processes of a run, N each; what grows with their square
or cube is dealt out, so that P processes need P, or P^2, times the memory and not P^2, or P^3, times.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.distillation.loss_math import comparable, divergence, in_float32, mean, positive
from training.losses.across_processes import gather_from_processes, rank

SMALLEST_LENGTH = 1e-4  # of a vector that has a direction; below, the slope of a cosine is steep and its value chance


@in_float32
def pairwise_affinity(student: Tensor, teacher: Tensor, grid: tuple[int, int]) -> Tensor:
    """(a(s) - a(t))^2 of the cosine affinities between the cells of a frame (SKD, its pair-wise term; Liu et al.,
    Structured Knowledge Distillation for Semantic Segmentation, 2019).

    Mean over all ordered pairs of cells and over frames. Memory: N (rows columns)^2 numbers a side.

    Args:
        student: features s [N, C, H, W] of any number of channels.
        teacher: features t, of the same N, H and W.
        grid: rows and columns of cells to average over, at most H and W; larger means no averaging.

    Raises:
        ValueError: for shapes that differ in more than channels, or a grid without cells.
    """
    student, teacher = comparable(student, teacher, "NCHW", may_differ="C")
    student_cells, teacher_cells = _unit_cells(student, grid), _unit_cells(teacher, grid)
    difference = student_cells @ student_cells.mT - teacher_cells @ teacher_cells.mT
    return mean(difference.square())


@in_float32
def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber(d(s) - d(t)) of the distances between frames, each divided by their mean (RKD-D; Park et al., Relational
    Knowledge Distillation, 2019).

    Euclidean distances; the Huber loss is squared and halved up to a difference of 1, linear beyond. Mean over all
    pairs of two frames (the authors' code counts a frame's distance to itself too, 0, and so is (N - 1) / N of this).

    Args:
        student: one embedding a frame, such as pooled features, [N, D] of any D.
        teacher: of the same N.

    Raises:
        ValueError: for shapes that differ in N.
    """
    student, teacher = comparable(student, teacher, "ND", may_differ="D")
    student, teacher = gather_from_processes(student), gather_from_processes(teacher)
    if len(student) < 2:
        return 0.0 * student.sum()
    difference = _relative_distances(student) - _relative_distances(teacher)
    return mean(functional.huber_loss(difference, torch.zeros_like(difference), reduction="none"))


@in_float32
def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber(cos(s) - cos(t)) of the angles that three frames make (RKD-A; Park et al., 2019).

    The angle of frames i, j, k is the one at j. Mean over all ordered triples of three frames (the authors' code counts
    triples with a frame twice too). Memory: N^3 numbers a side, N (P N)^2 in each of P processes.

    Args:
        student: one embedding a frame, such as pooled features, [N, D] of any D.
        teacher: of the same N.

    Raises:
        ValueError: for shapes that differ in N.
    """
    student, teacher = comparable(student, teacher, "ND", may_differ="D")
    all_students, all_teachers = gather_from_processes(student), gather_from_processes(teacher)
    frames = len(all_students)
    if frames < 3:
        return 0.0 * all_students.sum()
    index = torch.arange(frames, device=student.device)
    own = index[rank() * len(student) :][: len(student)]
    at, one, other = own.view(-1, 1, 1), index.view(1, -1, 1), index.view(1, 1, -1)
    distinct = (at != one) & (at != other) & (one != other)
    difference = (_angle_cosines(student, all_students) - _angle_cosines(teacher, all_teachers))[distinct]
    return mean(functional.huber_loss(difference, torch.zeros_like(difference), reduction="none"))


@in_float32
def cross_image_relation(student: Tensor, teacher: Tensor, temperature: float, grid: tuple[int, int]) -> Tensor:
    """KL(softmax(r(t) / T) || softmax(r(s) / T)) where r are the cosines of one cell with all cells of one frame
    (CIRKD, mini-batch pixel-to-pixel; Yang et al., Cross-Image Relational Knowledge Distillation for Semantic
    Segmentation, 2022).

    Summed over the cells of the other frame, mean over cells and over all N^2 ordered pairs of frames, a frame with
    itself among them. Without the factor T^2, as in the authors' code; they use T = 0.1. Memory:
    (N rows columns)^2 numbers a side, P times that in each of P processes.

    Args:
        student: features s [N, C, H, W] of any number of channels.
        teacher: features t, of the same N, H and W.
        temperature: T, above 0, of cosines.
        grid: rows and columns of cells to average over, at most H and W; larger means no averaging.

    Raises:
        ValueError: for shapes that differ in more than channels, a grid without cells, or a temperature not above 0.
    """
    student, teacher = comparable(student, teacher, "NCHW", may_differ="C")
    student_relation = _cosines_between_frames(_unit_cells(student, grid)) / positive(temperature, "temperature")
    teacher_relation = _cosines_between_frames(_unit_cells(teacher, grid)) / temperature
    return mean(divergence(student_relation, teacher_relation))


def _unit_cells(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Features averaged over the cells of the grid, of length 1, [N, cells, C]."""
    rows, columns = grid
    if rows < 1 or columns < 1:
        raise ValueError(f"expected a grid of at least one row and column, got {rows} x {columns}")
    size = (min(rows, features.shape[2]), min(columns, features.shape[3]))
    cells = functional.adaptive_avg_pool2d(features, size).flatten(2).mT
    return functional.normalize(cells, dim=2, eps=SMALLEST_LENGTH)


def _cosines_between_frames(cells: Tensor) -> Tensor:
    """[N, cells, P N, cells]: of each cell of one's own with all cells of each frame."""
    others = gather_from_processes(cells)
    cosines = cells.flatten(0, 1) @ others.flatten(0, 1).mT
    return cosines.view(*cells.shape[:2], *others.shape[:2])


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Of all pairs i < j, divided by their mean, [N (N - 1) / 2]; pdist has slope 0, not infinity, at distance 0."""
    distances = functional.pdist(embeddings)
    return distances / distances.mean().clamp(min=SMALLEST_LENGTH)


def _angle_cosines(own: Tensor, others: Tensor) -> Tensor:
    """Cosines of the angles at each j of one's own between i and k of all, [j, i, k]."""
    directions = others.unsqueeze(0) - own.unsqueeze(1)
    directions = functional.normalize(directions, dim=2, eps=SMALLEST_LENGTH)
    return directions @ directions.mT
