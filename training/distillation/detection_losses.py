"""Losses between the boxes, scores and features of a student's and a teacher's detection branches, cell by cell.

Both networks have the same cells, so their strides must agree. Nearly all cells are background. Every loss is therefore
weighted by the teacher's scores and divided by their sum, like the supervised loss by the quality of its cells. The sum
counts as one at least, so that doubtful scores do not become large in frames where the teacher sees nothing. Every loss
is 0 with zero gradients if there is no cell, and sends gradients to the student only.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from training.distillation.base import Comparison, DistillationTerm, PyramidLevel, Weight
from training.distillation.feature_losses import features_at
from training.distillation.lazy import across_processes, boxes, functional, heads

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.networks.heads import DetectionOutputs

SMALLEST_FOREGROUND = 1.0  # sum of scores; a teacher that is sure of one cell reaches it
LEVELS: tuple[PyramidLevel, ...] = get_args(PyramidLevel)


class DetectionTerm(DistillationTerm):
    """Compares the two detection branches and adds their losses up.

    One-to-one is compared with one-to-one and one-to-many with one-to-many: each branch distributes objects among cells
    in its own way, so only the same branch can teach it.
    """

    weight: Weight = 1.0
    """Weight in the sum of all terms."""

    @property
    def student_tasks(self) -> tuple[str, ...]:
        """See `DistillationTerm.student_tasks`."""
        return ("detection",)

    @property
    def needs_own_boxes(self) -> bool:
        """See `DistillationTerm.needs_own_boxes`."""
        return True

    @abstractmethod
    def cells(self, student: DetectionOutputs, teacher: DetectionOutputs) -> tuple[Tensor, ...]:
        """Return the arguments of a call of the term for one branch, each [N, A, ...] for A cells."""

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare the one-to-one branches and, where both networks have one, the one-to-many branches."""
        assert seen.student.detection is not None
        assert seen.teacher.detection is not None
        total = self(*self.cells(seen.student.detection, seen.teacher.detection))
        student, teacher = seen.student.detection_one_to_many, seen.teacher.detection_one_to_many
        return total if student is None or teacher is None else total + self(*self.cells(student, teacher))


class SoftClassification(DetectionTerm):
    """Compares the class scores of every cell, in both branches; cells with a sure teacher weigh more.

    w (BCE(p_s, p_t) - BCE(p_t, p_t)) where p is the sigmoid of a logit and w = p_t + (1 - p_t) |p_t - p_s|^sharpness.
    Summed over cells and classes, divided by the sum over cells of the teacher's highest score, at least 1.

    This is the varifocal loss (Zhang et al., VarifocalNet, 2021) with the teacher's score in the place of the quality
    of a box. What the teacher is sure of counts by its score. Background counts only as far as the student is wrong, by
    the factor of the quality focal loss (Li et al., Generalized Focal Loss, 2020), so that thousands of easy cells do
    not outweigh the rest. The weight takes no gradient. The teacher's own entropy, a constant, is subtracted, so that
    equal scores cost nothing.

        - {kind: soft_classification, sharpness: 1.5}
    """

    axes = "NAK"

    kind: Literal["soft_classification"] = "soft_classification"
    """Class scores of each cell."""
    sharpness: Annotated[float, Field(ge=0.0, le=8.0)] = 2.0
    """Exponent of the weight, gamma in the papers; 0 gives all cells and classes the same weight."""

    def cells(self, student: DetectionOutputs, teacher: DetectionOutputs) -> tuple[Tensor, ...]:
        """Return the class logits [N, A, K] of both, K classes with a sigmoid each."""
        return student.flat_class_logits(), teacher.flat_class_logits()

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        score = teacher.sigmoid()
        weight = score + (1.0 - score) * (score - student.detach().sigmoid()).abs().pow(self.sharpness)
        cross_entropy = functional.binary_cross_entropy_with_logits(student, score, reduction="none")
        entropy = functional.binary_cross_entropy_with_logits(teacher, score, reduction="none")
        foreground = score.amax(dim=2) if score.shape[2] else score
        return (weight * (cross_entropy - entropy)).sum() / _at_least_one(foreground)


class WeightedBoxIou(DetectionTerm):
    """Compares the boxes of every cell by GIoU, weighted by the teacher's score, in both branches.

    1 - GIoU of a cell's two boxes, times the teacher's highest class score there (GIoU: Rezatofighi et al., Generalized
    Intersection over Union, 2019). Summed over cells, divided by the sum of the scores, at least 1.

        - {kind: weighted_box_iou, weight: 2.0}
    """

    axes = "NA4"

    kind: Literal["weighted_box_iou"] = "weighted_box_iou"
    """Boxes of each cell."""

    def cells(self, student: DetectionOutputs, teacher: DetectionOutputs) -> tuple[Tensor, ...]:
        """Return the boxes xyxy of both, input pixels [N, A, 4], and the teacher's highest class scores [N, A]."""
        cells = student.cells()
        return (
            heads.decode_boxes(student.flat_distance_logits().float(), cells),
            heads.decode_boxes(teacher.flat_distance_logits().float(), cells),
            teacher.flat_class_logits().float().sigmoid().amax(dim=2),
        )

    def compute(self, student: Tensor, teacher: Tensor, scores: Tensor) -> Tensor:
        """See the class.

        Raises:
            ValueError: These are no boxes, or `scores` has another shape than [N, A].
        """
        if student.shape[2] != 4 or scores.shape != student.shape[:2]:
            raise ValueError(
                f"expected boxes [N, A, 4] and a score for each, got {list(student.shape)} and "
                f"{list(scores.shape)}: decode the boxes and take one score a cell"
            )
        scores = scores.detach().float()
        distance = 1.0 - boxes.generalized_box_iou(student, teacher)
        return (scores * distance).sum() / _at_least_one(scores)


class ForegroundImitation(DistillationTerm):
    """Compares features where the teacher sees objects, through a 1x1 adapter (Wang et al., Distilling Object Detectors
    with Fine-grained Feature Imitation, 2019).

    m (s - t)^2 with a map m of the teacher's highest class score in each cell. Mean over channels, summed over
    positions and frames, divided by the sum of m, at least 1. In the paper m is 0 or 1, from anchors near objects, and
    the loss is halved and summed over channels.

        - {kind: foreground_imitation, at: p3}
    """

    kind: Literal["foreground_imitation"] = "foreground_imitation"
    """Features at objects."""
    at: PyramidLevel
    """Pyramid level of the features and of the cells, of stride 8, 16 or 32."""
    weight: Weight = 1.0
    """Weight in the sum of all terms."""

    @property
    def teacher_tasks(self) -> tuple[str, ...]:
        """See `DistillationTerm.teacher_tasks`: the student's features are those of any task."""
        return ("detection",)

    @property
    def adapted_place(self) -> str | None:
        """See `DistillationTerm.adapted_place`."""
        return self.at

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare the features of the level `at`."""
        assert adapter is not None
        # The one-to-one branch lights a single cell of an object; its surroundings are to be imitated too.
        branch = seen.teacher.detection_one_to_many or seen.teacher.detection
        assert branch is not None
        foreground = teacher_foreground(branch.class_logits[LEVELS.index(self.at)])
        return self(adapter(features_at(seen.student, self.at)), features_at(seen.teacher, self.at), foreground)

    def compute(self, student: Tensor, teacher: Tensor, foreground: Tensor) -> Tensor:
        """See the class; `foreground` is m, 0..1, [N, 1, H, W].

        Raises:
            ValueError: `foreground` has another shape.
        """
        expected = [student.shape[0], 1, *student.shape[2:]]
        if list(foreground.shape) != expected:
            raise ValueError(
                f"expected a foreground [N, 1, H, W] = {expected}, as the features, got {list(foreground.shape)}: "
                "take it from the class logits of the same level"
            )
        foreground = foreground.detach().float()
        total = (foreground * (student - teacher).square()).sum() / max(student.shape[1], 1)
        return total / _at_least_one(foreground)


def teacher_foreground(class_logits: Tensor) -> Tensor:
    """Return how sure the teacher is that each cell of a level holds an object: its highest class score.

    A one-to-many branch lights up the whole middle of an object, a one-to-one branch a single cell.

    Args:
        class_logits: Logits of one level, [N, K, H, W], a sigmoid each.

    Returns:
        float32 [N, 1, H, W], 0..1, without gradient.
    """
    return class_logits.detach().float().amax(dim=1, keepdim=True).sigmoid()


def _at_least_one(scores: Tensor) -> Tensor:
    """Return the sum over all processes as each process divides by it, at least `SMALLEST_FOREGROUND` in all."""
    smallest = SMALLEST_FOREGROUND / across_processes.processes()
    return across_processes.mean_over_processes(scores.sum()).clamp(min=smallest)
