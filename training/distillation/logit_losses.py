"""Losses between the class logits of student and teacher, pixel by pixel.

All take logits [N, C, H, W] of both sides in one shape, in any float type, and a mask bool [N, H, W], True for the
pixels that count (None: all). All return a float32 scalar, 0 with zero gradients where no pixel counts, and send
gradients to the student alone. Void pixels have no label but may well count here: the teacher has a view of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.distillation.loss_math import comparable, divergence, in_float32, mean, pearson_distance, positive

SMALLEST_LOGIT_VARIANCE = 1e-6  # so that logits which are all the same can be standardised


@in_float32
def temperature_kl(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)) (Hinton et al., Distilling the Knowledge in a Neural Network, 2015).

    Summed over classes, mean over the pixels that count. T^2 keeps the size of the gradients as T changes (section 2).

    Args:
        student: logits s [N, C, H, W].
        teacher: logits t, likewise.
        temperature: T, above 0.
        mask: bool [N, H, W], True for pixels that count.

    Raises:
        ValueError: for shapes that differ, or a temperature that is not above 0.
    """
    return _softened(*_pixels(student, teacher, mask), temperature)


@in_float32
def logit_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """(s - t)^2 of the logits (Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014; without its half).

    Mean over classes and over the pixels that count. The limit of `temperature_kl` at high temperatures, for logits of
    zero mean, up to a factor (Hinton et al., 2015).

    Args:
        student: logits s [N, C, H, W].
        teacher: logits t, likewise.
        mask: bool [N, H, W], True for pixels that count.

    Raises:
        ValueError: for shapes that differ.
    """
    student_pixels, teacher_pixels = _pixels(student, teacher, mask)
    return mean((student_pixels - teacher_pixels).square())


@in_float32
def dist(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    mask: Tensor | None = None,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
) -> Tensor:
    """DIST: T^2 (inter_weight (1 - r between classes) + intra_weight (1 - r within a class)) (Huang et al., Knowledge
    Distillation from a Stronger Teacher, 2022; T^2 and the pixels of a batch as its instances as in the authors' code).

    r is Pearson's correlation of softmax(s / T) and softmax(t / T): between classes it runs over the classes of a
    pixel, mean over the pixels that count; within a class over the pixels of the batch that count, mean over classes.
    Pixels and classes in which the teacher's probability does not vary (standard deviation below 1e-4) are left out of
    their mean.

    Args:
        student: logits s [N, C, H, W].
        teacher: logits t, likewise.
        temperature: T, above 0.
        mask: bool [N, H, W], True for pixels that count.
        inter_weight: of the correlation between classes.
        intra_weight: of the correlation within a class.

    Raises:
        ValueError: for shapes that differ, or a temperature that is not above 0.
    """
    student_pixels, teacher_pixels = _pixels(student, teacher, mask)
    student_probability = (student_pixels / positive(temperature, "temperature")).softmax(dim=1)
    teacher_probability = (teacher_pixels / temperature).softmax(dim=1)
    inter = pearson_distance(student_probability, teacher_probability, dealt_out="rows")
    intra = pearson_distance(student_probability.T, teacher_probability.T, dealt_out="columns")
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


@in_float32
def standardized_kl(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """`temperature_kl` of logits whose mean and deviation over the classes of each pixel are taken out first (Sun et
    al., Logit Standardization in Knowledge Distillation, 2024).

    z becomes (z - mean(z)) / sqrt(mean((z - mean(z))^2)), so that a small student need not reach the size of the
    teacher's logits, only their relations. Summed over classes, mean over the pixels that count, times T^2.

    Args:
        student: logits s [N, C, H, W].
        teacher: logits t, likewise.
        temperature: T, above 0.
        mask: bool [N, H, W], True for pixels that count.

    Raises:
        ValueError: for shapes that differ, or a temperature that is not above 0.
    """
    student_pixels, teacher_pixels = _pixels(student, teacher, mask)
    return _softened(_standardized(student_pixels), _standardized(teacher_pixels), temperature)


@in_float32
def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    target_weight: float,
    other_weight: float,
    temperature: float,
    mask: Tensor | None = None,
) -> Tensor:
    """DKD: T^2 (target_weight TCKD + other_weight NCKD) (Zhao et al., Decoupled Knowledge Distillation, 2022).

    With p = softmax(z / T) and y the label, TCKD is the KL between (p_y, 1 - p_y) of teacher and student, and NCKD the
    KL between their softmaxes over the classes other than y. Mean over the pixels that count and have a label.
    With weights 1 and 1 - p_y of the teacher this is `temperature_kl`.

    Args:
        student: logits s [N, C, H, W], at least two classes.
        teacher: logits t, likewise.
        labels: integers [N, H, W]; pixels with ids below 0, or of C and above (255 = void), do not count.
        target_weight: alpha of the paper.
        other_weight: beta of the paper.
        temperature: T, above 0.
        mask: bool [N, H, W], True for pixels that count.

    Raises:
        ValueError: for shapes that differ, fewer than two classes, or a temperature that is not above 0.
    """
    classes = student.shape[1] if student.ndim == 4 else 0
    _check_map(labels, student, "labels")
    labelled = (labels >= 0) & (labels < classes)
    if mask is not None:
        _check_mask(mask, student)
        labelled = labelled & mask
    student_pixels, teacher_pixels = _pixels(student, teacher, labelled)
    if classes < 2:
        raise ValueError(f"expected at least two classes to tell the label's from the others, got {classes}")
    is_target = functional.one_hot(labels[labelled].long(), classes).bool()
    student_target, student_other = _split(student_pixels / positive(temperature, "temperature"), is_target)
    teacher_target, teacher_other = _split(teacher_pixels / temperature, is_target)
    target_term = divergence(student_target, teacher_target)
    other_term = divergence(student_other, teacher_other)
    return temperature**2 * mean(target_weight * target_term + other_weight * other_term)


def _pixels(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The pixels that count, float32 [P, C]; taken out first, so that no other can reach value or gradient."""
    student, teacher = comparable(student, teacher, "NCHW")
    student, teacher = student.movedim(1, -1), teacher.movedim(1, -1)
    if mask is None:
        return student.flatten(0, 2), teacher.flatten(0, 2)
    _check_mask(mask, student.movedim(-1, 1))
    return student[mask], teacher[mask]


def _check_mask(mask: Tensor, logits: Tensor) -> None:
    _check_map(mask, logits, "mask")
    if mask.dtype != torch.bool:
        raise ValueError(f"expected a mask of bool, got {mask.dtype}: compare it with what should count")


def _check_map(pixels: Tensor, logits: Tensor, name: str) -> None:
    expected = [logits.shape[0], *logits.shape[2:]]
    if list(pixels.shape) != expected:
        raise ValueError(
            f"expected {name} [N, H, W] = {expected}, as the logits, got {list(pixels.shape)}: resize first"
        )


def _softened(student_pixels: Tensor, teacher_pixels: Tensor, temperature: float) -> Tensor:
    student_pixels = student_pixels / positive(temperature, "temperature")
    return temperature**2 * mean(divergence(student_pixels, teacher_pixels / temperature))


def _standardized(pixels: Tensor) -> Tensor:
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + SMALLEST_LOGIT_VARIANCE).sqrt()


def _split(pixels: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of "the label's class or another", [P, 2], and of the others among themselves, [P, C - 1]."""
    others = pixels[~is_target].view(len(pixels), pixels.shape[1] - 1)
    return torch.stack([pixels[is_target], others.logsumexp(dim=1)], dim=1), others
