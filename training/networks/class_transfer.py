"""Gives a trained network the classes of another label set: the outputs of a class move with its name."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import match_classes
from training.networks.student import Student


@torch.no_grad()
def with_classes(
    weights: Student,
    old_names: tuple[Sequence[str], Sequence[str]],
    like: Student,
    new_names: tuple[Sequence[str], Sequence[str]],
) -> Student:
    """Return a copy of a network with the classes of `like`.

    A class of masks or of boxes that both have keeps the weights of its output. The others get those of `like`. Parts
    of a task that `like` does not have are dropped; those of a task that only `like` has start with its weights. A
    pruned network gets no task, because parts of `like` do not fit it.

    Args:
        weights: Trained network; it is not changed.
        old_names: Its classes of masks and of boxes, in the order of their ids.
        like: Network with the new classes and random weights.
        new_names: Its classes of masks and of boxes, in the order of their ids.
    """
    changed, fresh_parts = copy.deepcopy(weights), copy.deepcopy(like)
    if like.neck is None:
        changed.neck = None
    elif changed.neck is None:
        changed.neck = fresh_parts.neck
    else:
        levels = len(like.neck.outputs)
        more = () if changed.pruned else list(like.neck.outputs)[len(changed.neck.outputs) :]
        changed.neck.outputs = nn.ModuleList([*changed.neck.outputs[:levels], *copy.deepcopy(more)])
    for part in ("segmentation", "detection", "detection_one_to_many"):
        if getattr(like, part) is None or (getattr(changed, part) is None and not changed.pruned):
            setattr(changed, part, getattr(fresh_parts, part))
    for task, before, after in zip(("segmentation", "detection"), old_names, new_names, strict=True):
        # Fewer pairs if a pruned network has a task less. The caller compares the shapes of both networks.
        pairs = zip(_classifiers(changed, task), _classifiers(like, task), strict=False)
        for (holder, name, trained), (_, _, fresh) in pairs:
            setattr(holder, name, _matched(trained, list(before), fresh, list(after)))
    return changed


@torch.no_grad()
def start_classifier(student: Student, classes: LabelSet) -> None:
    """Give the classifier of pixels the outputs of the one that came with the backbone's weights, by class name.

    A class gets the output of the class that it becomes in the label set of those weights: by the table of its own set,
    or by the same name. Classes without one stay random, and so does everything without that classifier.

    Args:
        student: Network whose backbone got pretrained weights; changed.
        classes: Its label set.

    Raises:
        RecipeError: A table of the label set names a class that does not exist.
    """
    pretrained = student.backbone.pretrained_classifier
    if pretrained is None or student.segmentation is None:
        return
    theirs = load_label_set(pretrained.label_set)
    names = [info.name for info in theirs.segmentation_classes]
    matches = match_classes(classes, theirs)["segmentation"]
    layer = student.segmentation.classifier
    assert layer.bias is not None
    for place, info in enumerate(classes.segmentation_classes):
        if matches[info.name].target in names:
            there = names.index(matches[info.name].target)
            layer.weight[place] = pretrained.weight[there]
            layer.bias[place] = pretrained.bias[there]


def _classifiers(student: Student, task: str) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    """Yield each layer whose output channels are classes, with the module that holds it and its name there."""
    if task == "segmentation":
        if student.segmentation is not None:
            yield student.segmentation, "classifier", student.segmentation.classifier
        return
    for branch in (student.detection, student.detection_one_to_many):
        for layers in branch.class_layers if branch is not None else ():
            assert isinstance(layers, nn.Sequential)
            predictor = layers[-1]
            assert isinstance(predictor, nn.Conv2d)
            yield layers, str(len(layers) - 1), predictor


def _matched(trained: nn.Conv2d, before: list[str], fresh: nn.Conv2d, after: list[str]) -> nn.Conv2d:
    channels = trained.in_channels
    layer = nn.Conv2d(channels, len(after), kernel_size=1).to(trained.weight.device)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    assert fresh.bias is not None
    assert trained.bias is not None
    layer.bias.copy_(fresh.bias)
    for place, name in enumerate(after):
        if name in before:
            layer.weight[place] = trained.weight[before.index(name)]
            layer.bias[place] = trained.bias[before.index(name)]
    return layer
