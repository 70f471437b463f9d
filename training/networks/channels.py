"""Channels of each layer of a student: those that are left after pruning, as a checkpoint notes them.

A pruned student is a student of its size and backbone some of whose layers have fewer channels. The numbers of channels
are all that a file needs to say about its shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.networks.backbone import FeatureBackbone
from training.networks.blocks import NormalizedConvolution
from training.networks.student import Student

PROBE_PX = 64  # side of an image, a multiple of 32


def layers_of(student: Student) -> Iterator[tuple[str, NormalizedConvolution | nn.Conv2d]]:
    """Yield name and module of every layer with channels: blocks, and the predictors at the end of the heads."""
    for name, module in student.named_modules():
        if isinstance(module, (NormalizedConvolution, nn.Conv2d)):
            yield name, module


def channels_of(student: Student) -> dict[str, list[int]]:
    """Return the numbers of output and input channels of each layer, by its name."""
    return {name: list(_numbers(layer)) for name, layer in layers_of(student)}


def noted_channels(student: Student) -> dict[str, list[int]] | None:
    """Return the channels that a checkpoint must note; None if they follow from size and backbone."""
    return channels_of(student) if student.pruned else None


def set_channels(student: Student, channels: Mapping[str, Any]) -> None:
    """Give a student the shape of a pruned one, with random weights where the shape changes.

    The outputs of a predictor are its classes or sides. They stay as they are, so that the student may have other
    classes than the pruned one.

    Args:
        student: A student that is not pruned, of the size and backbone of the pruned one; changed.
        channels: Output and input channels of each layer, from `channels_of`. They may come from a file.

    Raises:
        ValueError: They are not the channels of a student of this size and backbone.
    """
    layers = dict(layers_of(student))
    if channels.keys() != layers.keys():
        others = sorted(channels.keys() ^ layers.keys())
        raise ValueError(
            f"expected channels of the {len(layers)} layers of this size and backbone, got {len(channels)}; "
            f"{others[0]} is only in one of them"
        )
    for name, layer in layers.items():
        outputs, inputs = _checked(name, layer, channels[name])
        if isinstance(layer, nn.Conv2d):
            outputs = layer.out_channels
        if (outputs, inputs) != _numbers(layer):
            replace_layer(student, name, _reshaped(layer, outputs, inputs))
    mark_pruned(student)


def mark_pruned(student: Student) -> None:
    """Note that layers of a student have other channels now.

    Raises:
        ValueError: The channels of its layers do not fit together.
    """
    student.pruned = True
    training, image = student.training, torch.zeros(1, 3, PROBE_PX, PROBE_PX)
    try:
        with torch.no_grad():
            student.eval()(image.to(next(student.parameters()).device), with_one_to_many=True)
            student.backbone.widths = _widths(student.backbone, image)
    except RuntimeError as error:
        raise ValueError(f"expected channels that fit together, got: {' '.join(str(error).split())[:200]}") from error
    finally:
        student.train(training)


def replace_layer(student: Student, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of `name`. It keeps the mode, the device, and whether the weights are trained."""
    holder, _, place = name.rpartition(".")
    before = student.get_submodule(name)
    weight = before.get_parameter("weight")
    layer.requires_grad_(weight.requires_grad).train(before.training).to(weight.device)
    setattr(student.get_submodule(holder), place, layer)


def _numbers(layer: NormalizedConvolution | nn.Conv2d) -> tuple[int, int]:
    outputs, inputs = layer.weight.shape[:2]
    return outputs, inputs * layer.groups


def _checked(name: str, layer: NormalizedConvolution | nn.Conv2d, numbers: Any) -> tuple[int, int]:
    """Return the two numbers if they can be what is left of a layer; they limit what a file makes us allocate."""
    largest = _numbers(layer)
    if isinstance(layer, nn.Conv2d):
        largest = (1 << 16, largest[1])  # the classes of a file may be more than ours
    if (
        isinstance(numbers, Sequence)
        and len(numbers) == 2
        and all(type(number) is int and 0 < number <= most for number, most in zip(numbers, largest, strict=True))
    ):
        return numbers[0], numbers[1]
    raise ValueError(f"expected two numbers up to {list(largest)} as the channels of {name}, got {str(numbers)[:40]}")


def _reshaped(layer: NormalizedConvolution | nn.Conv2d, outputs: int, inputs: int) -> nn.Module:
    if isinstance(layer, NormalizedConvolution):
        return layer.reshaped(inputs, outputs)
    predictor = nn.Conv2d(inputs, outputs, kernel_size=1)
    nn.init.normal_(predictor.weight, std=0.01)
    assert predictor.bias is not None
    assert layer.bias is not None
    predictor.bias.data.copy_(layer.bias.data)
    return predictor


def _widths(backbone: FeatureBackbone, image: Tensor) -> tuple[int, ...]:
    device = next(backbone.parameters()).device
    return tuple(int(level.shape[1]) for level in backbone(image.to(device)))
