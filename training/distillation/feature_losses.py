"""Losses between feature maps of student and teacher, position by position or channel by channel.

Where channels are compared one by one, a 1x1 convolution first brings the student's features to the teacher's number of
channels. This adapter is trained with the student and is not exported. Every loss is 0 with zero gradients for a batch
without frames, and sends gradients to the student only. In the formulas s and t are features of student and teacher.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from training.distillation.base import (
    Comparison,
    DistillationTerm,
    FeaturePlace,
    TeacherPart,
    Temperature,
    Weight,
)
from training.distillation.lazy import functional, loss_math

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.networks.student import StudentOutputs

OF_SEGMENTATION = ("segmentation", "logits")  # the places that only a network that segments has
NO_PROBABILITY = -1e5  # a logit whose softmax is 0 at every temperature; infinity would become NaN in the gradient
SMALLEST_ATTENTION = 1e-6  # length of an attention map; a shorter one comes from a layer that is silent


class FeatureTerm(DistillationTerm):
    """Compares the features of one place.

    Attributes:
        uses_adapter: Whether an adapter brings the student's features to the teacher's number of channels.
    """

    uses_adapter: ClassVar[bool] = True

    at: FeaturePlace
    """Where the features come from: levels p3, p4 and p5 of the pyramid have strides 8, 16 and 32, the features of the
    segmentation head stride 4."""
    weight: Weight = 1.0
    """Weight in the sum of all terms."""

    @abstractmethod
    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two feature maps, float32 [N, C, H, W]."""

    @property
    def adapted_place(self) -> str | None:
        """See `DistillationTerm.adapted_place`."""
        return self.at if self.uses_adapter else None

    @property
    def student_tasks(self) -> tuple[str, ...]:
        """See `DistillationTerm.student_tasks`."""
        return ("segmentation",) if self.at in OF_SEGMENTATION else ()

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare the features of the place `at`, the student's after the adapter if there is one."""
        student, teacher = features_at(seen.student, self.at), features_at(seen.teacher, self.at)
        return self(adapter(student) if adapter else student, teacher)


class Hint(FeatureTerm):
    """Compares the features themselves (Romero et al., FitNets: Hints for Thin Deep Nets, 2015).

    (s - t)^2, without the half of the paper; mean over frames, channels and positions.

        - {kind: hint, at: p4}
    """

    kind: Literal["hint"] = "hint"
    """FitNets: the features themselves."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        return loss_math.mean((student - teacher).square())


class AttentionTransfer(FeatureTerm):
    """Compares where the features are strong (Zagoruyko and Komodakis, Paying More Attention to Attention, 2017).

    |a(s) / |a(s)| - a(t) / |a(t)||^2 with the attention map a(f) = mean of f^2 over channels, without beta / 2.
    Summed over positions, mean over frames, 0..2. The authors' code takes the mean over positions, H W times less. The
    numbers of channels may differ, so there is no adapter.

        - {kind: attention_transfer, at: p3}
    """

    uses_adapter = False
    may_differ = "C"

    kind: Literal["attention_transfer"] = "attention_transfer"
    """AT: where features are strong."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        return loss_math.mean((_attention(student) - _attention(teacher)).square().sum(dim=1))


class ChannelWise(FeatureTerm):
    """Compares where each channel is strong (CWD; Shu et al., Channel-wise Knowledge Distillation for Dense Prediction,
    2021).

    T^2 / C sum over channels of KL(softmax(t / T) || softmax(s / T)), each softmax over the H W positions of one
    channel. Summed over positions, mean over channels and frames. The student learns where each channel responds, not
    how much.

        - {kind: channel_wise, at: logits, weight: 3.0}
    """

    kind: Literal["channel_wise"] = "channel_wise"
    """CWD: where each channel is strong."""
    at: Literal["p3", "p4", "p5", "segmentation", "logits"]  # type: ignore[assignment]  # one place more
    """Where the features come from, one of the places of `hint`, or the class logits, which need no adapter."""
    temperature: Temperature = 4.0
    """T, divides the features; a higher one spreads each channel more evenly."""

    @property
    def adapted_place(self) -> str | None:
        """See `DistillationTerm.adapted_place`."""
        return None if self.at == "logits" else self.at

    @property
    def teacher_part(self) -> TeacherPart:
        """See `DistillationTerm.teacher_part`."""
        return "pixels" if self.at == "logits" else "outputs"

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare the features of the place `at`, or the logits of known classes where teachers say something."""
        if self.at != "logits":
            return super().compare(seen, adapter)
        pixels = seen.taught.pixels
        assert pixels is not None
        student, teacher = (logits[:, pixels.known] for logits in (features_at(seen.student, "logits"), pixels.logits))
        if pixels.counts is not None:
            silent = ~pixels.counts[:, None]
            student, teacher = (logits.float().masked_fill(silent, NO_PROBABILITY) for logits in (student, teacher))
        return self(student, teacher)

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        student, teacher = student.flatten(2) / self.temperature, teacher.flatten(2) / self.temperature
        return self.temperature**2 * loss_math.mean(loss_math.divergence(student, teacher))


class Pearson(FeatureTerm):
    """Compares features, ignoring the scale of each channel (PKD; Cao et al., PKD: General Distillation Framework for
    Object Detectors via Pearson Correlation Coefficient, 2022).

    1 - r of each channel, equal to half the mean squared difference of features standardised by channel. r is Pearson's
    correlation over the positions of all frames of the batch; mean over channels, 0..2. Channels in which the teacher
    does not vary (standard deviation below 1e-4) are left out.

        - {kind: pearson, at: p4}
    """

    kind: Literal["pearson"] = "pearson"
    """PKD: features up to their scale."""

    def compute(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        student, teacher = student.transpose(0, 1).flatten(1), teacher.transpose(0, 1).flatten(1)
        return loss_math.pearson_distance(student, teacher, dealt_out="columns")


def features_at(outputs: StudentOutputs, place: str) -> Tensor:
    """Return the features of a place, float [N, C, H / stride, W / stride].

    Args:
        outputs: The outputs of a network.
        place: A `FeaturePlace`, or `logits` for the class logits of the segmentation.
    """
    features: Tensor | None = outputs.segmentation_logits if place == "logits" else getattr(outputs.features, place)
    assert features is not None, f"a term that compares {place} needs the task segmentation"
    return features


def _attention(features: Tensor) -> Tensor:
    return functional.normalize(features.square().mean(dim=1).flatten(1), dim=1, eps=SMALLEST_ATTENTION)
