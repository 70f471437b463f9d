"""The distillation section of a recipe: the teacher, the terms with their weights, and stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from training.config.settings import Settings

# The places of a network that both sides have; see `training.networks.student.StudentFeatures`.
FeaturePlace = Literal["p3", "p4", "p5", "segmentation"]
PyramidLevel = Literal["p3", "p4", "p5"]


def _weight(default: float = 1.0) -> Any:
    return Field(default, ge=0, le=1e6)


def _temperature(default: float) -> Any:
    return Field(default, ge=0.05, le=100)


def _grid(default: int) -> Any:
    return Field(default, ge=2, le=64)


class TemperatureKl(Settings):
    """Hinton et al., 2015: class probabilities of each pixel. `labeled_only`: leave void pixels out."""

    kind: Literal["temperature_kl"]
    weight: float = _weight()
    temperature: float = _temperature(2.0)
    labeled_only: bool = False


class LogitMse(Settings):
    """Squared difference of the class logits of each pixel."""

    kind: Literal["logit_mse"]
    weight: float = _weight()
    labeled_only: bool = False


class Dist(Settings):
    """DIST (Huang et al., 2022): correlations of class probabilities across classes and across pixels."""

    kind: Literal["dist"]
    weight: float = _weight()
    temperature: float = _temperature(1.0)
    inter_weight: float = _weight()
    intra_weight: float = _weight()
    labeled_only: bool = False


class StandardizedKl(Settings):
    """Logit standardisation (Sun et al., 2024)."""

    kind: Literal["standardized_kl"]
    weight: float = _weight()
    temperature: float = _temperature(2.0)
    labeled_only: bool = False


class DecoupledKl(Settings):
    """DKD (Zhao et al., 2022): the labelled class against the rest, and the rest among themselves."""

    kind: Literal["decoupled_kl"]
    weight: float = _weight()
    temperature: float = _temperature(2.0)
    target_weight: float = _weight(1.0)
    other_weight: float = _weight(2.0)


class Hint(Settings):
    """FitNets (Romero et al., 2015): the features themselves, through a 1x1 adapter."""

    kind: Literal["hint"]
    at: FeaturePlace
    weight: float = _weight()


class AttentionTransfer(Settings):
    """Zagoruyko & Komodakis, 2017: where the features are strong."""

    kind: Literal["attention_transfer"]
    at: FeaturePlace
    weight: float = _weight()


class ChannelWise(Settings):
    """CWD (Shu et al., 2021): where each channel is strong. `at: logits` compares the class logits."""

    kind: Literal["channel_wise"]
    at: Literal["p3", "p4", "p5", "segmentation", "logits"]
    weight: float = _weight()
    temperature: float = _temperature(4.0)


class Pearson(Settings):
    """PKD (Cao et al., 2022): features up to their scale, through a 1x1 adapter."""

    kind: Literal["pearson"]
    at: FeaturePlace
    weight: float = _weight()


class PairwiseAffinity(Settings):
    """SKD (Liu et al., 2019): which places of an image resemble each other, on a grid x grid pooling."""

    kind: Literal["pairwise_affinity"]
    at: FeaturePlace
    weight: float = _weight()
    grid: int = _grid(16)


class DistanceRelation(Settings):
    """RKD distance (Park et al., 2019): how far the images of a batch lie from each other."""

    kind: Literal["distance_relation"]
    at: FeaturePlace
    weight: float = _weight()


class AngleRelation(Settings):
    """RKD angle (Park et al., 2019): the angles of the triangles that the images of a batch make."""

    kind: Literal["angle_relation"]
    at: FeaturePlace
    weight: float = _weight()


class CrossImageRelation(Settings):
    """CIRKD (Yang et al., 2022): which places of different images of a batch resemble each other."""

    kind: Literal["cross_image_relation"]
    at: FeaturePlace
    weight: float = _weight()
    temperature: float = _temperature(0.1)
    grid: int = _grid(8)


class SoftClassification(Settings):
    """Class scores of every cell against the teacher's, in both detection branches; surer cells weigh more."""

    kind: Literal["soft_classification"]
    weight: float = _weight()
    sharpness: float = Field(2.0, ge=0, le=8)


class WeightedBoxIou(Settings):
    """Boxes of every cell against the teacher's, by GIoU, weighted by the teacher's score, in both branches."""

    kind: Literal["weighted_box_iou"]
    weight: float = _weight()


class ForegroundImitation(Settings):
    """Features where the teacher sees objects, through a 1x1 adapter."""

    kind: Literal["foreground_imitation"]
    at: PyramidLevel
    weight: float = _weight()


LogitTermRecipe = TemperatureKl | LogitMse | Dist | StandardizedKl | DecoupledKl
FeatureTermRecipe = Hint | Pearson | ChannelWise | ForegroundImitation
RelationTermRecipe = (
    AttentionTransfer | ChannelWise | PairwiseAffinity | DistanceRelation | AngleRelation | CrossImageRelation
)
DetectionTermRecipe = SoftClassification | WeightedBoxIou
TermRecipe = LogitTermRecipe | FeatureTermRecipe | RelationTermRecipe | DetectionTermRecipe


class StageRecipe(Settings):
    """What changes from an epoch on; what is not given stays as it was.

    Attributes:
        from_epoch: first epoch of the stage; the first epoch of a run is 0.
        hard_weight: share of the labels' loss.
        temperature_factor: what the temperature of every term that has one is multiplied by; terms mean different
            things by theirs, so that there is no one temperature for all.
        weights: of all terms, in their order.
    """

    from_epoch: int = Field(ge=1)
    hard_weight: float | None = Field(None, ge=0, le=1)
    temperature_factor: float | None = Field(None, ge=0.05, le=20)
    weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = ()


class DistillationRecipe(Settings):
    """loss = hard_weight * (loss of the labels) + (1 - hard_weight) * sum of (weight * term).

    Attributes:
        teacher: checkpoint of `python -m training train`; its averaged weights teach.
        hard_weight: 0..1; 1 would leave the teacher without a say.
        terms: what is compared.
        stages: changes by epoch, in rising order; none = everything stays constant.
        cache: folder that keeps the teacher's outputs, so that a view is shown to it once; empty = none are kept.
            It needs `data.views_per_frame`, for endless views never come again.
    """

    teacher: str
    terms: tuple[Annotated[TermRecipe, Field(discriminator="kind")], ...]
    hard_weight: float = Field(0.5, ge=0, le=1)
    stages: tuple[StageRecipe, ...] = ()
    cache: str = ""

    def problems(self, epochs: int) -> list[str]:
        """Sentences on what is wrong between keys, in a run of so many epochs; empty = nothing."""
        found = []
        if not self.teacher.strip():
            found.append("distillation.teacher must name a checkpoint, got an empty text")
        if not self.terms:
            found.append("distillation.terms needs at least one term")
        starts = [stage.from_epoch for stage in self.stages]
        if starts != sorted(set(starts)):
            found.append(f"distillation.stages must have rising from_epoch, got {starts}")
        for number, stage in enumerate(self.stages):
            if stage.from_epoch >= epochs:
                found.append(
                    f"distillation.stages.{number}.from_epoch must be below epochs, {epochs}, or the stage never "
                    f"begins, got {stage.from_epoch}; the first epoch is 0"
                )
            if stage.weights and len(stage.weights) != len(self.terms):
                found.append(
                    f"distillation.stages.{number}.weights must name {len(self.terms)} weights, one for each term, "
                    f"got {len(stage.weights)}"
                )
        return found


@dataclass(frozen=True)
class Balance:
    """What holds in one epoch: share of the hard loss, weight of each term, factor of every term's temperature."""

    hard_weight: float
    weights: tuple[float, ...]
    temperature_factor: float


def balance_at(recipe: DistillationRecipe, epoch: int) -> Balance:
    """The balance of an epoch, stage upon stage up to it."""
    hard_weight, factor = recipe.hard_weight, 1.0
    weights = tuple(term.weight for term in recipe.terms)
    for stage in recipe.stages:
        if stage.from_epoch <= epoch:
            hard_weight = hard_weight if stage.hard_weight is None else stage.hard_weight
            factor = factor if stage.temperature_factor is None else stage.temperature_factor
            weights = stage.weights or weights
    return Balance(hard_weight, weights, factor)
