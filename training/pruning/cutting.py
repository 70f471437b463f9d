"""Cuts channels out of a student. What is left computes the same from the channels that are left."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.networks.blocks import NormalizedConvolution
from training.networks.channels import channels_of, layers_of, mark_pruned, replace_layer
from training.networks.student import Student
from training.pruning.groups import ChannelGroup


def cut_student(student: Student, groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]) -> Student:
    """Return a copy of a student without some channels. Its blocks stay of their kind, and train as before.

    Args:
        student: The student; it is not changed.
        groups: Its groups of channels.
        kept: Which channels of each group stay, bool [channels], by the group's name; at least one of each.
    """
    pruned = copy.deepcopy(student)
    sides = _kept_of_layers(student, groups, kept)
    for name, layer in list(layers_of(pruned)):
        outputs, inputs = sides[name]
        if not (outputs.all() and inputs.all()):
            replace_layer(pruned, name, _cut(layer, inputs.nonzero().flatten(), outputs.nonzero().flatten()))
    mark_pruned(pruned)
    return pruned


def _kept_of_layers(
    student: Student, groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return which channels of output and input stay in each layer, bool each.

    The input of a layer that reads several concatenated outputs has channels of several groups.
    """
    sides: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (outputs, inputs) in channels_of(student).items():
        sides[name] = torch.ones(outputs, dtype=torch.bool), torch.ones(inputs, dtype=torch.bool)
    for group in groups:
        for member in group.members:
            sides[member.layer][0 if member.is_output else 1][member.places] &= kept[group.name][member.of]
    return sides


@torch.no_grad()
def _cut(layer: NormalizedConvolution | nn.Conv2d, inputs: Tensor, outputs: Tensor) -> nn.Module:
    if isinstance(layer, NormalizedConvolution):
        return layer.cut(inputs, outputs)
    predictor = nn.Conv2d(len(inputs), len(outputs), kernel_size=1)
    assert predictor.bias is not None
    assert layer.bias is not None
    predictor.weight.copy_(layer.weight[outputs][:, inputs])
    predictor.bias.copy_(layer.bias[outputs])
    return predictor
