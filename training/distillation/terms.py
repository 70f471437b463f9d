"""The terms of a distillation loss: each takes what student and teacher say of a batch and gives one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from training.config import distillation as settings
from training.data.batch import Batch
from training.distillation import detection_losses, feature_losses, logit_losses, relation_losses
from training.networks.heads import DetectionOutputs, decode_boxes
from training.networks.strides import SEGMENTATION_STRIDE
from training.networks.student import StudentOutputs


@dataclass(frozen=True)
class Comparison:
    """What student and teacher say of the same batch."""

    student: StudentOutputs
    teacher: StudentOutputs
    batch: Batch


class LogitTerm(nn.Module):
    """Compares the class logits of the segmentation, pixel by pixel at stride 4."""

    def __init__(self, term: settings.LogitTermRecipe) -> None:
        super().__init__()
        self.term = term

    def forward(self, seen: Comparison, temperature_factor: float) -> Tensor:
        """The term's value; `temperature_factor` multiplies the recipe's temperature."""
        student, teacher = seen.student.segmentation_logits, seen.teacher.segmentation_logits
        labels = labels_of_blocks(seen.batch.masks)
        term = self.term
        if isinstance(term, settings.DecoupledKl):
            return logit_losses.decoupled_kl(
                student, teacher, labels, term.target_weight, term.other_weight, temperature_factor * term.temperature
            )
        mask = labels < student.shape[1] if term.labeled_only else None
        match term:
            case settings.TemperatureKl():
                return logit_losses.temperature_kl(student, teacher, temperature_factor * term.temperature, mask)
            case settings.StandardizedKl():
                return logit_losses.standardized_kl(student, teacher, temperature_factor * term.temperature, mask)
            case settings.Dist():
                weights = (term.inter_weight, term.intra_weight)
                return logit_losses.dist(student, teacher, temperature_factor * term.temperature, mask, *weights)
            case settings.LogitMse():
                return logit_losses.logit_mse(student, teacher, mask)


class FeatureTerm(nn.Module):
    """Compares features of one place, the student's seen through a 1x1 adapter where channels are compared."""

    def __init__(self, term: settings.FeatureTermRecipe, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.term = term
        self.adapter = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def forward(self, seen: Comparison, temperature_factor: float) -> Tensor:
        """The term's value; `temperature_factor` multiplies the recipe's temperature."""
        term = self.term
        student = self.adapter(features_at(seen.student, term.at))
        teacher = features_at(seen.teacher, term.at)
        match term:
            case settings.Hint():
                return feature_losses.hint(student, teacher)
            case settings.Pearson():
                return feature_losses.pearson(student, teacher)
            case settings.ChannelWise():
                return feature_losses.channel_wise(student, teacher, temperature_factor * term.temperature)
            case settings.ForegroundImitation():
                # The one-to-one branch lights a single cell of an object; to imitate is what is around it too.
                branch = seen.teacher.detection_one_to_many or seen.teacher.detection
                level = branch.class_logits[("p3", "p4", "p5").index(term.at)]
                return detection_losses.foreground_imitation(
                    student, teacher, detection_losses.teacher_foreground(level)
                )


class RelationTerm(nn.Module):
    """Compares how places or images relate to each other; the number of channels may differ, nothing is adapted."""

    def __init__(self, term: settings.RelationTermRecipe) -> None:
        super().__init__()
        self.term = term

    def forward(self, seen: Comparison, temperature_factor: float) -> Tensor:
        """The term's value; `temperature_factor` multiplies the recipe's temperature."""
        term = self.term
        student, teacher = features_at(seen.student, term.at), features_at(seen.teacher, term.at)
        match term:
            case settings.ChannelWise():
                return feature_losses.channel_wise(student, teacher, temperature_factor * term.temperature)
            case settings.AttentionTransfer():
                return feature_losses.attention_transfer(student, teacher)
            case settings.PairwiseAffinity():
                return relation_losses.pairwise_affinity(student, teacher, (term.grid, term.grid))
            case settings.CrossImageRelation():
                return relation_losses.cross_image_relation(
                    student, teacher, temperature_factor * term.temperature, (term.grid, term.grid)
                )
            case settings.DistanceRelation():
                return relation_losses.distance_relation(student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3)))
            case settings.AngleRelation():
                return relation_losses.angle_relation(student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3)))


class DetectionTerm(nn.Module):
    """Compares what the branches say of each cell: one-to-one with one-to-one, one-to-many with one-to-many.

    Each branch has its own way of sharing objects out among cells, so that a branch can only be taught by its like.
    """

    def __init__(self, term: settings.DetectionTermRecipe) -> None:
        super().__init__()
        self.term = term

    def forward(self, seen: Comparison, temperature_factor: float) -> Tensor:
        """The term's value, the sum over the branches; `temperature_factor` has no meaning here."""
        del temperature_factor
        total = self._compare(seen.student.detection, seen.teacher.detection)
        student, teacher = seen.student.detection_one_to_many, seen.teacher.detection_one_to_many
        return total if student is None or teacher is None else total + self._compare(student, teacher)

    def _compare(self, student: DetectionOutputs, teacher: DetectionOutputs) -> Tensor:
        teacher_logits = teacher.flat_class_logits()
        match self.term:
            case settings.SoftClassification():
                return detection_losses.soft_classification(
                    student.flat_class_logits(), teacher_logits, self.term.sharpness
                )
            case settings.WeightedBoxIou():
                cells = student.cells()
                return detection_losses.weighted_box_iou(
                    decode_boxes(student.flat_distance_logits().float(), cells),
                    decode_boxes(teacher.flat_distance_logits().float(), cells),
                    teacher_logits.float().sigmoid().amax(dim=2),
                )


Term = LogitTerm | FeatureTerm | RelationTerm | DetectionTerm


def build_term(
    term: settings.TermRecipe, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
) -> Term:
    """The module of a term; channels by place, as `channels_of` gives them."""
    match term:
        case settings.SoftClassification() | settings.WeightedBoxIou():
            return DetectionTerm(term)
        case settings.ChannelWise() if term.at == "logits":
            return RelationTerm(term)
        case settings.Hint() | settings.Pearson() | settings.ChannelWise() | settings.ForegroundImitation():
            return FeatureTerm(term, student_channels[term.at], teacher_channels[term.at])
        case (
            settings.AttentionTransfer()
            | settings.PairwiseAffinity()
            | settings.CrossImageRelation()
            | settings.DistanceRelation()
            | settings.AngleRelation()
        ):
            return RelationTerm(term)
        case _:
            return LogitTerm(term)


def features_at(outputs: StudentOutputs, place: str) -> Tensor:
    """The features of a place, float [N, C, H / stride, W / stride]; `logits` are the segmentation's class logits."""
    if place == "logits":
        return outputs.segmentation_logits
    features: Tensor = getattr(outputs.features, place)
    return features


def channels_of(outputs: StudentOutputs) -> dict[str, int]:
    """How many channels each place has."""
    return {place: int(features_at(outputs, place).shape[1]) for place in ("p3", "p4", "p5", "segmentation", "logits")}


def labels_of_blocks(masks: Tensor) -> Tensor:
    """The label of the pixel in the middle of each block of the logits, int64 [N, H / 4, W / 4]."""
    middle = SEGMENTATION_STRIDE // 2
    return masks[:, middle::SEGMENTATION_STRIDE, middle::SEGMENTATION_STRIDE].long()
