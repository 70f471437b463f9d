"""Losses between feature maps of student and teacher, position by position or channel by channel.

All take features [N, C, H, W] in any float type. The caller has brought both to one height and width and, where the
channels are compared one by one, projected the student's to the teacher's number by a 1x1 adapter. All return a float32
scalar, 0 with zero gradients for a batch without frames, and send gradients to the student alone.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from training.distillation.loss_math import comparable, divergence, in_float32, mean, pearson_distance, positive

SMALLEST_ATTENTION = 1e-6  # length of an attention map; what is shorter comes from a layer that is silent


@in_float32
def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """(s - t)^2 (Romero et al., FitNets: Hints for Thin Deep Nets, 2015; without its half).

    Mean over frames, channels and positions.

    Args:
        student: features s [N, C, H, W], adapted to the teacher's channels.
        teacher: features t, likewise.

    Raises:
        ValueError: for shapes that differ.
    """
    student, teacher = comparable(student, teacher, "NCHW")
    return mean((student - teacher).square())


@in_float32
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """|a(s) / |a(s)| - a(t) / |a(t)||^2 with the attention map a(f) = mean of f^2 over channels (Zagoruyko and
    Komodakis, Paying More Attention to Attention, 2017; squared, without beta / 2).

    Summed over positions, mean over frames, 0..2. The authors' code takes the mean over positions, H W times less.

    Args:
        student: features s [N, C, H, W] of any number of channels, no adapter needed.
        teacher: features t, of the same N, H and W.

    Raises:
        ValueError: for shapes that differ in more than channels.
    """
    student, teacher = comparable(student, teacher, "NCHW", may_differ="C")
    return mean((_attention(student) - _attention(teacher)).square().sum(dim=1))


@in_float32
def channel_wise(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 / C sum over channels of KL(softmax(t / T) || softmax(s / T)), each softmax over the H W positions of one
    channel (CWD; Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, 2021).

    Summed over positions, mean over channels and frames. It tells the student where each channel answers, not how much.

    Args:
        student: features, or logits, s [N, C, H, W], adapted to the teacher's channels.
        teacher: features, or logits, t, likewise.
        temperature: T, above 0.

    Raises:
        ValueError: for shapes that differ, or a temperature that is not above 0.
    """
    student, teacher = comparable(student, teacher, "NCHW")
    student = student.flatten(2) / positive(temperature, "temperature")
    return temperature**2 * mean(divergence(student, teacher.flatten(2) / temperature))


@in_float32
def pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - r of each channel (PKD; Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson
    Correlation Coefficient, 2022), equal to half the mean squared difference of features standardised by channel.

    r is Pearson's correlation over the positions of all frames of the batch; mean over channels, 0..2. Channels in
    which the teacher does not vary (standard deviation below 1e-4) are left out.

    Args:
        student: features s [N, C, H, W], adapted to the teacher's channels.
        teacher: features t, likewise.

    Raises:
        ValueError: for shapes that differ.
    """
    student, teacher = comparable(student, teacher, "NCHW")
    student, teacher = student.transpose(0, 1).flatten(1), teacher.transpose(0, 1).flatten(1)
    return pearson_distance(student, teacher, dealt_out="columns")


def _attention(features: Tensor) -> Tensor:
    return functional.normalize(features.square().mean(dim=1).flatten(1), dim=1, eps=SMALLEST_ATTENTION)
