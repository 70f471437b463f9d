"""The weights that a run starts from: those of one checkpoint, or the mean of several, fitted to the student."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

from training.checkpoint import digest_of_weights
from training.config.licence import Licences
from training.errors import CheckpointError
from training.label_sets.label_set import LabelSet
from training.mean_weights import load_mean, noted_licences
from training.networks.backbone import Backbone
from training.networks.channels import channels_of, set_channels
from training.networks.class_transfer import with_classes
from training.networks.growth import grow
from training.networks.student import Student


@dataclass(frozen=True)
class StartingPoint:
    """What is known about the weights that a run starts from.

    Attributes:
        taught_by: SHA-256 of the last teachers of all checkpoints, joined by `+`; empty without teachers.
        sha256: SHA-256 of the weights.
        licences: Licences of what the weights learnt from.
    """

    taught_by: str = ""
    sha256: str = ""
    licences: Licences = field(default_factory=dict)


def load_weights_into(student: Student, classes: LabelSet, *paths: Path | str) -> StartingPoint:
    """Load the averaged weights of checkpoints into a student.

    A class gets the weights of the class of the same name. Classes that the checkpoint does not have stay random.
    Weights of a smaller network of our own family are grown to the student's size. A backbone that is a part of
    another one gets the layers that both have, and classifies their other features with random weights. A student
    that gets weights of a pruned network of its size gets the shape of that network, too. Several checkpoints give
    the mean of their weights, see `load_mean`.

    Args:
        student: Network that gets the weights; it is not pruned.
        classes: Its label set.
        paths: At least one checkpoint.

    Raises:
        CheckpointError: A file is not a checkpoint of `train`, its network is larger or has another backbone, or
            several checkpoints have no mean.
    """
    weights, info = load_mean(*paths)
    if info.quantization_aware is not None:
        raise CheckpointError(
            f"{paths[0]}: expected a plain network to start from, this one is trained for 8 bits already; name the "
            "checkpoint that it started from, or make its own run longer with --resume and more epochs"
        )
    start = StartingPoint(info.taught_by, digest_of_weights(weights), noted_licences(info, paths[0]))
    if student.backbone.part_of and student.backbone.part_of == weights.backbone.architecture:
        _keep_shared_part(weights, student)
    if _names(info.classes) != _names(classes):
        weights = with_classes(weights, _names(info.classes), student, _names(classes))
    try:
        ours, theirs = (isinstance(network.backbone, Backbone) for network in (student, weights))
        if weights.pruned:
            set_channels(student, channels_of(weights))
            student.load_state_dict(weights.state_dict())
        elif ours and theirs and _shapes(weights) != _shapes(student):
            grow(weights, student)
            print(f"grown from the weights of size {info.size} in {paths[0]}")
        else:
            student.load_state_dict(weights.state_dict())
    except (RuntimeError, ValueError) as error:
        backbone = info.backbone["model_type"] if info.backbone else "our own"
        shape = "pruned, so they fit that size and backbone only" if weights.pruned else "not pruned"
        raise CheckpointError(
            f"{paths[0]}: expected weights of the size and backbone that the recipe names, or of a smaller size of our "
            f"own family, these are of size {info.size} with {backbone} backbone, {shape}; name such a checkpoint"
        ) from error
    return start


def _keep_shared_part(weights: Student, like: Student) -> None:
    """Give a network the backbone of `like`, a part of its own, with the weights of the layers that both have."""
    larger = weights.backbone.state_dict()
    weights.backbone = copy.deepcopy(like.backbone)
    weights.backbone.load_state_dict({name: larger[name] for name in weights.backbone.state_dict()})
    weights.segmentation = copy.deepcopy(like.segmentation)  # the finest features are others


def _names(classes: LabelSet) -> tuple[list[str], list[str]]:
    return [info.name for info in classes.segmentation_classes], [info.name for info in classes.detection_classes]


def _shapes(student: Student) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in student.state_dict().items()}
