"""Losses between relations: how similar cells, frames, or cells of different frames are to each other in each network.

A relation has no channels, so the numbers of channels may differ and there is no adapter. Every loss is 0 with zero
gradients if there are too few things to relate, and sends gradients to the student only. A relation grows with the
square of what it relates. Maps are therefore averaged down to a grid of cells, which bounds memory and, unlike a random
sample of pixels, is the same in every run.

Relations between frames include the frames of all P processes of a run, N frames each. What grows with the square or
the cube of the frames is divided among the processes, so that P processes need P times (square) or P^2 times (cube) the
memory instead of P^2 or P^3 times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from training.distillation.base import Comparison, GridSide, Temperature
from training.distillation.feature_losses import FeatureTerm, features_at
from training.distillation.lazy import across_processes, functional, loss_math, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST_LENGTH = 1e-4  # of a vector that has a direction; the cosine of a shorter one is steep, and chance


class CellRelation(FeatureTerm):
    """Compares relations between the cells of feature maps [N, C, H, W]."""

    uses_adapter = False
    may_differ = "C"


class FrameRelation(FeatureTerm):
    """Compares relations between frames, each one embedding: its features averaged over all positions, [N, D]."""

    uses_adapter = False
    axes = "ND"
    may_differ = "D"

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare the embeddings of the frames."""
        student, teacher = features_at(seen.student, self.at), features_at(seen.teacher, self.at)
        return self(student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3)))


class PairwiseAffinity(CellRelation):
    """Compares which places of an image resemble each other (SKD, its pair-wise term; Liu et al., Structured Knowledge
    Distillation for Semantic Segmentation, 2019).

    (a(s) - a(t))^2 of the cosine affinities between the cells of a frame; mean over all ordered pairs of cells and over
    frames. Memory: N grid^4 numbers for each network.

        - {kind: pairwise_affinity, at: p3, grid: 12}
    """

    kind: Literal["pairwise_affinity"] = "pairwise_affinity"
    """SKD: resemblance of the places of an image."""
    grid: GridSide = 16
    """Rows and columns of cells that a map is averaged to; a smaller map is not averaged."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        student_cells, teacher_cells = _unit_cells(student, self.grid), _unit_cells(teacher, self.grid)
        difference = student_cells @ student_cells.mT - teacher_cells @ teacher_cells.mT
        return loss_math.mean(difference.square())


class DistanceRelation(FrameRelation):
    """Compares the distances between the images of a batch (RKD-D; Park et al., Relational Knowledge Distillation,
    2019).

    Huber(d(s) - d(t)) of the Euclidean distances between frames, each divided by their mean. The Huber loss is squared
    and halved up to a difference of 1, linear beyond. Mean over all pairs of two frames. (The authors' code also counts
    the distance of a frame to itself, 0, and gives (N - 1) / N of this.)

        - {kind: distance_relation, at: p5}
    """

    kind: Literal["distance_relation"] = "distance_relation"
    """RKD-D: distances between images."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        student, teacher = (across_processes.gather_from_processes(side) for side in (student, teacher))
        if len(student) < 2:
            return 0.0 * student.sum()
        difference = _relative_distances(student) - _relative_distances(teacher)
        return loss_math.mean(functional.huber_loss(difference, torch.zeros_like(difference), reduction="none"))


class AngleRelation(FrameRelation):
    """Compares the angles of the triangles that the images of a batch make (RKD-A; Park et al., Relational Knowledge
    Distillation, 2019).

    Huber(cos(s) - cos(t)) of the angles that three frames i, j, k make at j. Mean over all ordered triples of three
    frames. (The authors' code also counts triples with a frame twice.) Memory: N^3 numbers for each network,
    N (P N)^2 in each of P processes.

        - {kind: angle_relation, at: p5}
    """

    kind: Literal["angle_relation"] = "angle_relation"
    """RKD-A: angles between images."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        all_students, all_teachers = (across_processes.gather_from_processes(side) for side in (student, teacher))
        frames = len(all_students)
        if frames < 3:
            return 0.0 * all_students.sum()
        index = torch.arange(frames, device=student.device)
        own = index[across_processes.rank() * len(student) :][: len(student)]
        at, one, other = own.view(-1, 1, 1), index.view(1, -1, 1), index.view(1, 1, -1)
        distinct = (at != one) & (at != other) & (one != other)
        difference = (_angle_cosines(student, all_students) - _angle_cosines(teacher, all_teachers))[distinct]
        return loss_math.mean(functional.huber_loss(difference, torch.zeros_like(difference), reduction="none"))


class CrossImageRelation(CellRelation):
    """Compares which places of different images of a batch resemble each other (CIRKD, its mini-batch pixel-to-pixel
    term; Yang et al., Cross-Image Relational Knowledge Distillation for Semantic Segmentation, 2022).

    KL(softmax(r(t) / T) || softmax(r(s) / T)), where r are the cosines of one cell with all cells of one frame. Summed
    over the cells of the other frame, mean over cells and over all N^2 ordered pairs of frames, a frame with itself
    among them. Without the factor T^2, like the authors' code. Memory: N^2 grid^4 numbers for each network, P times
    that in each of P processes.

        - {kind: cross_image_relation, at: p4, grid: 6}
    """

    kind: Literal["cross_image_relation"] = "cross_image_relation"
    """CIRKD: resemblance of places in different images."""
    temperature: Temperature = 0.1
    """T, divides the cosines. The authors use 0.1."""
    grid: GridSide = 8
    """Rows and columns of cells that a map is averaged to; a smaller map is not averaged."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        student_relation = _cosines_between_frames(_unit_cells(student, self.grid)) / self.temperature
        teacher_relation = _cosines_between_frames(_unit_cells(teacher, self.grid)) / self.temperature
        return loss_math.mean(loss_math.divergence(student_relation, teacher_relation))


def _unit_cells(features: Tensor, grid: int) -> Tensor:
    """Return the means of the features over the cells of a grid, each of length 1, [N, cells, C]."""
    size = (min(grid, features.shape[2]), min(grid, features.shape[3]))
    cells = functional.adaptive_avg_pool2d(features, size).flatten(2).mT
    return functional.normalize(cells, dim=2, eps=SMALLEST_LENGTH)


def _cosines_between_frames(cells: Tensor) -> Tensor:
    """Return the cosines of each cell of this process with all cells of each frame, [N, cells, P N, cells]."""
    others = across_processes.gather_from_processes(cells)
    cosines = cells.flatten(0, 1) @ others.flatten(0, 1).mT
    return cosines.view(*cells.shape[:2], *others.shape[:2])


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Return the distances of all pairs i < j divided by their mean, [N (N - 1) / 2]."""
    distances = functional.pdist(embeddings)  # its slope at distance 0 is 0, not infinity
    return distances / distances.mean().clamp(min=SMALLEST_LENGTH)


def _angle_cosines(own: Tensor, others: Tensor) -> Tensor:
    """Return the cosines of the angles at each frame j of this process between frames i and k of all, [j, i, k]."""
    directions = others.unsqueeze(0) - own.unsqueeze(1)
    directions = functional.normalize(directions, dim=2, eps=SMALLEST_LENGTH)
    return directions @ directions.mT
