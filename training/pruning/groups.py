"""Groups of channels of a student that can only be cut together, and how important each of their channels is.

Layers that are added, concatenated or read one after the other share channels. torch-pruning follows them through the
network (Fang et al., DepGraph: Towards Any Structural Pruning, 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch_pruning  # type: ignore[import-untyped]
from torch import Tensor, nn

from training.networks.blocks import NormalizedConvolution, fuse_blocks
from training.networks.channels import layers_of
from training.networks.student import Student, StudentOutputs

PROBE_PX = 64  # side of the image that the network is traced with
TRAINED_ONLY = "detection_one_to_many."  # not exported: cutting it makes nothing faster


class Member(NamedTuple):
    """A side of a layer that loses channels with a group.

    Attributes:
        layer: Name of the layer in the student.
        is_output: Whether it is the output side.
        places: Channels of that side, int64 [n].
        of: The channel of the group that each of them belongs to, int64 [n].
    """

    layer: str
    is_output: bool
    places: Tensor
    of: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are cut together.

    Attributes:
        name: Name of the layer that the group was found by.
        channels: Number of channels.
        members: Sides of layers that have these channels.
        torch_group: The group of torch-pruning, which its importances take.
    """

    name: str
    channels: int
    members: tuple[Member, ...]
    torch_group: Any


class FusedCopy:
    """A copy of a student with one plain convolution for each layer, which torch-pruning understands.

    The convolutions hold the normalisation: their weights are those that run on a vehicle, so that their size says how
    much a channel contributes. The kernels of a trained block alone do not, because a normalisation follows them.

    Attributes:
        network: The copy, in eval mode, with both detection branches.
        groups: Groups of channels that can be cut, in the order of the network's outputs to its input.
    """

    def __init__(self, student: Student) -> None:
        self.network = copy.deepcopy(student).eval().requires_grad_(True)
        blocks = [name for name, layer in layers_of(student) if isinstance(layer, NormalizedConvolution)]
        predictors = [name for name, layer in layers_of(student) if isinstance(layer, nn.Conv2d)]
        fuse_blocks(self.network)
        self._layers: dict[Any, str] = {self.convolution(name): name for name in [*blocks, *predictors]}
        ignored = [self.convolution(name) for name in predictors]
        self.groups = [group for group in self._groups(ignored) if not group.name.startswith(TRAINED_ONLY)]

    def convolution(self, layer: str) -> nn.Conv2d:
        """Return the plain convolution of a layer of the student."""
        (found,) = (m for m in self.network.get_submodule(layer).modules() if isinstance(m, nn.Conv2d))
        return found

    def _groups(self, ignored: Sequence[nn.Conv2d]) -> Iterator[ChannelGroup]:
        graph = torch_pruning.DependencyGraph().build_dependency(
            self.network,
            torch.zeros(1, 3, PROBE_PX, PROBE_PX),
            forward_fn=lambda network, images: network(images, with_one_to_many=True),
            output_transform=_predictions,
            verbose=False,
        )
        for group in graph.get_all_groups(ignored_layers=list(ignored), root_module_types=[nn.Conv2d]):
            members = []
            for item in group:
                if item.dep.layer in self._layers:
                    is_output = graph.is_out_channel_pruning_fn(item.dep.pruning_fn)
                    # Both sides of a depthwise convolution have the same channels.
                    for side in {is_output, is_output and item.dep.layer.groups == 1}:
                        name = self._layers[item.dep.layer]
                        members.append(Member(name, side, torch.tensor(item.idxs), torch.tensor(item.root_idxs)))
            yield ChannelGroup(members[0].layer, len(members[0].places), tuple(members), group)


def _predictions(outputs: StudentOutputs) -> list[Tensor]:
    found = [] if outputs.segmentation_logits is None else [outputs.segmentation_logits]
    for branch in (outputs.detection, outputs.detection_one_to_many):
        if branch is not None:
            found += [*branch.class_logits, *branch.distance_logits]
    return found
