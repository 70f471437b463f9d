"""All terms that a recipe can name in `distillation.terms`.

A new term is its class, in the file of its family, and a line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from training.distillation.base import DistillationTerm
from training.distillation.box_losses import PseudoBoxes
from training.distillation.detection_losses import ForegroundImitation, SoftClassification, WeightedBoxIou
from training.distillation.feature_losses import AttentionTransfer, ChannelWise, Hint, Pearson
from training.distillation.logit_losses import DecoupledKl, Dist, LogitMse, StandardizedKl, TemperatureKl
from training.distillation.relation_losses import AngleRelation, CrossImageRelation, DistanceRelation, PairwiseAffinity
from training.distillation.temporal_losses import TemporalConsistency

TERMS: tuple[type[DistillationTerm], ...] = (
    # logit_losses.py: class logits, pixel by pixel
    TemperatureKl,
    LogitMse,
    Dist,
    StandardizedKl,
    DecoupledKl,
    # feature_losses.py: feature maps, channel by channel or position by position
    Hint,
    AttentionTransfer,
    ChannelWise,
    Pearson,
    # relation_losses.py: how similar cells or images are to each other
    PairwiseAffinity,
    DistanceRelation,
    AngleRelation,
    CrossImageRelation,
    # detection_losses.py: scores and boxes, cell by cell
    SoftClassification,
    WeightedBoxIou,
    ForegroundImitation,
    # box_losses.py: boxes of any teachers
    PseudoBoxes,
    # temporal_losses.py: what the student says about a frame and about its neighbour in time
    TemporalConsistency,
)

if TYPE_CHECKING:
    AnyTerm = DistillationTerm
else:
    # The section of a term in a recipe, its class chosen by `kind`.
    AnyTerm = Annotated[Union[TERMS], Field(discriminator="kind")]  # noqa: UP007  # TERMS is a tuple
