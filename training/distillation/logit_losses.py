"""Losses between the class logits of student and teacher, pixel by pixel at stride 4.

Void pixels have no label but still count, unless `labeled_only` is set: the teacher has an opinion on them too. Every
loss is 0 with zero gradients if no pixel counts, and sends gradients to the student only. In the formulas s and t are
the logits of student and teacher, and T is the temperature.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from training.distillation.base import Comparison, DistillationTerm, TeacherPart, Temperature, Weight
from training.distillation.feature_losses import features_at
from training.distillation.lazy import functional, loss_math, torch
from training.label_sets.label_set import UNLABELED_ID
from training.networks.strides import SEGMENTATION_STRIDE

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST_LOGIT_VARIANCE = 1e-6  # so that logits which are all the same can be standardised


class LogitTerm(DistillationTerm):
    """Compares the class logits of the pixels that count.

    Attributes:
        needs_labels: Whether the formula uses the label of a pixel. Pixels without a label do not count then.
    """

    needs_labels: ClassVar[bool] = False

    weight: Weight = 1.0
    """Weight in the sum of all terms."""

    @abstractmethod
    def compute(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the P pixels that count.

        Args:
            student: Logits, float32 [P, C].
            teacher: Logits, float32 [P, C].
            labels: Class ids, integers [P]; ids outside 0..C-1 (255 = void) only where `needs_labels` is False.
        """

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare the class logits of the segmentation, where teachers say something, of the classes that they know."""
        pixels = seen.taught.pixels
        assert pixels is not None
        student, teacher = features_at(seen.student, "logits"), pixels.logits
        labels, counts = labels_of_blocks(seen.batch.masks), pixels.counts
        if not bool(pixels.known.all()):
            student, teacher = student[:, pixels.known], teacher[:, pixels.known]
            labels = places_of_known(labels, pixels.known)
        return self(student, teacher, labels) if counts is None else self(student, teacher, labels, counts)

    @property
    def student_tasks(self) -> tuple[str, ...]:
        """See `DistillationTerm.student_tasks`."""
        return ("segmentation",)

    @property
    def teacher_part(self) -> TeacherPart:
        """See `DistillationTerm.teacher_part`."""
        return "pixels"

    def prepare(self, student: Tensor, teacher: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        """Take the pixels that count out of logits [N, C, H, W], labels, integers [N, H, W], and optionally where the
        teacher says something, bool [N, H, W].

        Raises:
            ValueError: The shapes do not fit together.
        """
        labels, *says = context
        student, teacher = loss_math.comparable(student, teacher, self.axes, self.may_differ)
        expected = [student.shape[0], *student.shape[2:]]
        if list(labels.shape) != expected:
            raise ValueError(
                f"expected labels [N, H, W] = {expected}, as the logits, got {list(labels.shape)}: resize first"
            )
        pixels = (student.movedim(1, -1), teacher.movedim(1, -1), labels)
        if self.needs_labels or getattr(self, "labeled_only", False):
            says.append((labels >= 0) & (labels < student.shape[1]))
        if says:
            # The others are dropped before the formula, so that they reach neither the value nor a gradient.
            counts = torch.stack(says).all(dim=0)
            return tuple(values[counts] for values in pixels)
        return tuple(values.flatten(0, 2) for values in pixels)


class TemperatureKl(LogitTerm):
    """Compares the softened class probabilities of each pixel (Hinton et al., Distilling the Knowledge in a Neural
    Network, 2015).

    T^2 KL(softmax(t / T) || softmax(s / T)), summed over classes, mean over the pixels that count. T^2 keeps the size
    of the gradients as T changes (section 2 of the paper).

        - {kind: temperature_kl, temperature: 4.0}
    """

    kind: Literal["temperature_kl"] = "temperature_kl"
    """Softened class probabilities of each pixel."""
    temperature: Temperature = 2.0
    """Divides the logits; a higher one makes the class probabilities softer."""
    labeled_only: bool = False
    """Leave void pixels out."""

    def compute(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        return _softened(student, teacher, self.temperature)


class LogitMse(LogitTerm):
    """Compares the class logits of each pixel (Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014).

    (s - t)^2, without the half of the paper; mean over classes and over the pixels that count. The limit of
    `temperature_kl` at high temperatures, for logits of zero mean, up to a factor (Hinton et al., 2015).

        - {kind: logit_mse, weight: 0.1}
    """

    kind: Literal["logit_mse"] = "logit_mse"
    """Class logits of each pixel."""
    labeled_only: bool = False
    """Leave void pixels out."""

    def compute(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        return loss_math.mean((student - teacher).square())


class Dist(LogitTerm):
    """Compares class probabilities by their correlations across classes and across pixels.

    DIST; Huang et al., Knowledge Distillation from a Stronger Teacher, 2022.

    T^2 (inter_weight (1 - r between classes) + intra_weight (1 - r within a class)), where r is Pearson's correlation
    of softmax(s / T) and softmax(t / T). Between classes it runs over the classes of a pixel; the mean is over the
    pixels that count. Within a class it runs over the pixels of the batch that count; the mean is over classes. T^2 and
    the pixels as instances are those of the authors' code. Pixels and classes in which the teacher's probability does
    not vary (standard deviation below 1e-4) are left out of their mean.

        - {kind: dist, intra_weight: 2.0}
    """

    kind: Literal["dist"] = "dist"
    """DIST: correlations of class probabilities."""
    temperature: Temperature = 1.0
    """Divides the logits; a higher one makes the class probabilities softer."""
    inter_weight: Weight = 1.0
    """Weight of the correlation between classes."""
    intra_weight: Weight = 1.0
    """Weight of the correlation within a class."""
    labeled_only: bool = False
    """Leave void pixels out."""

    def compute(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        student_probability = (student / self.temperature).softmax(dim=1)
        teacher_probability = (teacher / self.temperature).softmax(dim=1)
        inter = loss_math.pearson_distance(student_probability, teacher_probability, dealt_out="rows")
        intra = loss_math.pearson_distance(student_probability.T, teacher_probability.T, dealt_out="columns")
        return self.temperature**2 * (self.inter_weight * inter + self.intra_weight * intra)


class StandardizedKl(LogitTerm):
    """Compares class probabilities of logits that are standardised pixel by pixel (Sun et al., Logit Standardization in
    Knowledge Distillation, 2024).

    The formula of `temperature_kl` for (z - mean(z)) / sqrt(mean((z - mean(z))^2)), with means over the classes of a
    pixel. A small student needs only the relations of the teacher's logits, not their size.

        - {kind: standardized_kl, temperature: 2.0}
    """

    kind: Literal["standardized_kl"] = "standardized_kl"
    """Class probabilities from standardised logits."""
    temperature: Temperature = 2.0
    """Divides the standardised logits."""
    labeled_only: bool = False
    """Leave void pixels out."""

    def compute(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss by the formula of the class."""
        return _softened(_standardized(student), _standardized(teacher), self.temperature)


class DecoupledKl(LogitTerm):
    """Compares the probability of the labelled class, and those of the other classes among themselves.

    DKD; Zhao et al., Decoupled Knowledge Distillation, 2022.

    T^2 (target_weight TCKD + other_weight NCKD), mean over the pixels that have a label. With p = softmax(z / T) and y
    the label, TCKD is the KL between (p_y, 1 - p_y) of teacher and student, and NCKD the KL between their softmaxes
    over the classes other than y. With weights 1 and 1 - p_y of the teacher this is `temperature_kl`.

        - {kind: decoupled_kl, other_weight: 4.0}
    """

    needs_labels = True

    kind: Literal["decoupled_kl"] = "decoupled_kl"
    """DKD: the labelled class and the other classes apart."""
    temperature: Temperature = 2.0
    """Divides the logits; a higher one makes the class probabilities softer."""
    target_weight: Weight = 1.0
    """Weight of TCKD, alpha in the paper."""
    other_weight: Weight = 2.0
    """Weight of NCKD, beta in the paper."""

    def compute(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """See the class.

        Raises:
            ValueError: There are fewer than two classes.
        """
        classes = student.shape[1]
        if classes < 2:
            raise ValueError(f"expected at least two classes to tell the label's from the others, got {classes}")
        is_target = functional.one_hot(labels.long(), classes).bool()
        student_target, student_other = _split(student / self.temperature, is_target)
        teacher_target, teacher_other = _split(teacher / self.temperature, is_target)
        target_term = loss_math.divergence(student_target, teacher_target)
        other_term = loss_math.divergence(student_other, teacher_other)
        return self.temperature**2 * loss_math.mean(self.target_weight * target_term + self.other_weight * other_term)


def labels_of_blocks(masks: Tensor) -> Tensor:
    """Return the label of the pixel in the middle of each block of the logits, int64 [N, H / 4, W / 4]."""
    middle = SEGMENTATION_STRIDE // 2
    return masks[:, middle::SEGMENTATION_STRIDE, middle::SEGMENTATION_STRIDE].long()


def places_of_known(labels: Tensor, known: Tensor) -> Tensor:
    """Return labels as places among the known classes; 255 for labels of other classes.

    Args:
        labels: Class ids, int64 [N, H, W], 255 for void.
        known: bool [C].
    """
    places = torch.full((UNLABELED_ID + 1,), UNLABELED_ID, device=labels.device)
    ids = known.nonzero().flatten()
    places[ids] = torch.arange(len(ids), device=labels.device)
    return places[labels]


def _softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * loss_math.mean(loss_math.divergence(student / temperature, teacher / temperature))


def _standardized(pixels: Tensor) -> Tensor:
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + SMALLEST_LOGIT_VARIANCE).sqrt()


def _split(pixels: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of "the label's class or another", [P, 2], and of the other classes, [P, C - 1]."""
    others = pixels[~is_target].view(len(pixels), pixels.shape[1] - 1)
    return torch.stack([pixels[is_target], others.logsumexp(dim=1)], dim=1), others
