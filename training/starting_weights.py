"""The weights that a run starts from: those of one checkpoint, or the mean of several, fitted to the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from training.checkpoint import digest_of_weights, load_student
from training.config.licence import Licences, merged, not_stated
from training.errors import CheckpointError
from training.label_sets.label_set import LabelSet
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
    Weights of a smaller network of our own family are grown to the student's size. A student that gets weights of a
    pruned network of its size gets the shape of that network, too. Several checkpoints give the mean of their weights,
    which often works better on new frames than each of them (model soups; Wortsman et al., 2022). This helps if all
    started from the same weights and did not move too far.

    Args:
        student: Network that gets the weights; it is not pruned.
        classes: Its label set.
        paths: At least one checkpoint.

    Raises:
        CheckpointError: A file is not a checkpoint of `train`, its network is larger or has another backbone, or the
            networks of several checkpoints differ in shape.
    """
    loaded = [load_student(path) for path in paths]
    for path, (_, noted) in zip(paths, loaded, strict=True):
        if noted.quantization_aware is not None:
            raise CheckpointError(
                f"{path}: expected a plain network to start from, this one is trained for 8 bits already; name the "
                "checkpoint that it started from, or make its own run longer with --resume and more epochs"
            )
    for path, (_, noted) in zip(paths[1:], loaded[1:], strict=True):
        if noted.classes != loaded[0][1].classes:
            raise CheckpointError(
                f"{path}: expected the label set of {paths[0]}, to take the mean of both, got {noted.classes.name}; "
                "name checkpoints of one label set"
            )
    weights, info = loaded[0]
    _average([network for network, _ in loaded], paths)
    taught_by = dict.fromkeys(each.taught_by for _, each in loaded if each.taught_by)
    licences = merged(
        not_stated(f"the weights {Path(path).name}") if each.licences is None else each.licences
        for path, (_, each) in zip(paths, loaded, strict=True)
    )
    start = StartingPoint("+".join(taught_by), digest_of_weights(weights), licences)
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


def _names(classes: LabelSet) -> tuple[list[str], list[str]]:
    return [info.name for info in classes.segmentation_classes], [info.name for info in classes.detection_classes]


@torch.no_grad()
def _average(networks: Sequence[Student], paths: Sequence[Path | str]) -> None:
    """Put the mean of all weights and running statistics into the first network; its counters stay as they are."""
    first = networks[0]
    for network, path in zip(networks[1:], paths[1:], strict=True):
        if _shapes(network) != _shapes(first):
            raise CheckpointError(
                f"{path}: expected weights of the same shapes as in {paths[0]}, to take the mean of both, got others; "
                "name checkpoints of one size and backbone, not pruned, or trained from one pruned network"
            )
    if len(networks) > 1:
        states = [network.state_dict() for network in networks]
        for name, value in states[0].items():
            if value.is_floating_point():
                value.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))


def _shapes(student: Student) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in student.state_dict().items()}
