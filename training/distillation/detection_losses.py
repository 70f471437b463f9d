"""Losses between the boxes, scores and features of a student's and a teacher's detection branches, cell by cell.

Both sides have the same cells, so their strides must agree. Nearly all cells are background; everything is therefore
weighted by the teacher's scores and divided by their sum, as the supervised loss is by the quality of its cells. That
sum counts as one at least, so that frames in which the teacher sees nothing do not blow its doubts up. All return a
float32 scalar, 0 with zero gradients where there is no cell, and send gradients to the student alone.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from training.distillation.loss_math import comparable, in_float32
from training.losses.across_processes import mean_over_processes, processes
from training.losses.boxes import generalized_box_iou

SMALLEST_FOREGROUND = 1.0  # sum of scores; a teacher that is sure of one cell reaches it


@in_float32
def soft_classification(student_logits: Tensor, teacher_logits: Tensor, sharpness: float) -> Tensor:
    """Cross-entropy weighted by the teacher's score, w (BCE(p_s, p_t) - BCE(p_t, p_t)) where p is the sigmoid of a
    logit and w = p_t + (1 - p_t) |p_t - p_s|^sharpness.

    The varifocal loss (Zhang et al., VarifocalNet, 2021) with the teacher's score in the place of the box's quality:
    what the teacher is sure of counts by its score, and background only as far as the student is wrong, by the factor
    of the quality focal loss (Li et al., Generalized Focal Loss, 2020), so that thousands of easy cells do not drown
    it. The weight takes no gradient. The teacher's own entropy, a constant, is taken off, so that equal scores cost
    nothing. Summed over cells and classes, divided by the sum over cells of the teacher's highest score, or 1 if less.

    Args:
        student_logits: [N, A, K], K classes with a sigmoid each, of A cells.
        teacher_logits: likewise.
        sharpness: gamma of those papers, at least 0; 2 is usual, and 0 counts all cells and classes alike.

    Raises:
        ValueError: for shapes that differ, or a negative sharpness.
    """
    if not sharpness >= 0:
        raise ValueError(f"expected a sharpness of at least 0, got {sharpness}: 2 is usual")
    student, teacher = comparable(student_logits, teacher_logits, "NAK")
    score = teacher.sigmoid()
    weight = score + (1.0 - score) * (score - student.detach().sigmoid()).abs().pow(sharpness)
    cross_entropy = functional.binary_cross_entropy_with_logits(student, score, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(teacher, score, reduction="none")
    foreground = score.amax(dim=2) if score.shape[2] else score
    return (weight * (cross_entropy - entropy)).sum() / _at_least_one(foreground)


@in_float32
def weighted_box_iou(student_boxes_xyxy: Tensor, teacher_boxes_xyxy: Tensor, teacher_scores: Tensor) -> Tensor:
    """Each cell's 1 - GIoU with the teacher's box of that cell, times the teacher's score (GIoU: Rezatofighi et al.,
    Generalized Intersection over Union, 2019).

    Summed over cells, divided by the sum of the scores, or 1 if less.

    Args:
        student_boxes_xyxy: [N, A, 4], decoded, input pixels.
        teacher_boxes_xyxy: likewise.
        teacher_scores: [N, A], 0..1, such as the highest of a cell's class scores.

    Raises:
        ValueError: for shapes that differ.
    """
    student, teacher = comparable(student_boxes_xyxy, teacher_boxes_xyxy, "NA4")
    if student.shape[2] != 4 or teacher_scores.shape != student.shape[:2]:
        raise ValueError(
            f"expected boxes [N, A, 4] and a score for each, got {list(student.shape)} and "
            f"{list(teacher_scores.shape)}: decode the boxes and take one score a cell"
        )
    scores = teacher_scores.detach().float()
    distance = 1.0 - generalized_box_iou(student, teacher)
    return (scores * distance).sum() / _at_least_one(scores)


@in_float32
def foreground_imitation(student: Tensor, teacher: Tensor, foreground: Tensor) -> Tensor:
    """Squared difference where objects are, m (s - t)^2 with a map m of the foreground (Wang et al., Distilling Object
    Detectors with Fine-grained Feature Imitation, 2019, there with m of 0 and 1 from anchors near objects, halved and
    summed over channels).

    Mean over channels, summed over positions and frames, divided by the sum of m, or 1 if less.

    Args:
        student: features s [N, C, H, W], adapted to the teacher's channels.
        teacher: features t, likewise.
        foreground: m [N, 1, H, W], 0..1, such as from `teacher_foreground`.

    Raises:
        ValueError: for shapes that differ.
    """
    student, teacher = comparable(student, teacher, "NCHW")
    expected = [student.shape[0], 1, *student.shape[2:]]
    if list(foreground.shape) != expected:
        raise ValueError(
            f"expected a foreground [N, 1, H, W] = {expected}, as the features, got {list(foreground.shape)}: "
            "take it from the class logits of the same level"
        )
    foreground = foreground.detach().float()
    total = (foreground * (student - teacher).square()).sum() / max(student.shape[1], 1)
    return total / _at_least_one(foreground)


@in_float32
def teacher_foreground(class_logits: Tensor) -> Tensor:
    """How sure the teacher is that each cell of a level holds an object: its highest class score, without gradient.

    A one-to-many branch lights up the whole middle of an object, a one-to-one branch a single cell.

    Args:
        class_logits: of one level, [N, K, H, W], a sigmoid each.

    Returns:
        float32 [N, 1, H, W], 0..1.
    """
    return class_logits.detach().float().amax(dim=1, keepdim=True).sigmoid()


def _at_least_one(scores: Tensor) -> Tensor:
    """Their sum over all processes, `SMALLEST_FOREGROUND` if less, as each process divides its own numerator by it."""
    return mean_over_processes(scores.sum()).clamp(min=SMALLEST_FOREGROUND / processes())
