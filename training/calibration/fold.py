"""Writes a temperature into the weights of a student, so that no consumer has to know it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from training.networks.student import Student


@torch.no_grad()
def folded(student: Student, temperature: float) -> Student:
    """Return a copy of a student whose logits of pixels are divided by a temperature.

    The last layer is a 1x1 convolution, so its weights and biases are divided in the same way.

    Args:
        student: The student; it is not changed.
        temperature: Above 0.
    """
    result = copy.deepcopy(student)
    if result.segmentation is not None:
        layer = result.segmentation.classifier
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        layer.weight /= temperature
        layer.bias /= temperature
    return result
