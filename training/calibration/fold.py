"""Writes a temperature and scales of scores into the weights of a student, so that no consumer has to know them."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.calibration.boxes import ScoreScale
from training.networks.student import Student


@torch.no_grad()
def folded(student: Student, temperature: float, scales: Mapping[int, ScoreScale]) -> Student:
    """Return a copy of a student whose logits are scaled.

    The last layer of each head is a 1x1 convolution, so its weights and biases are scaled in the same way.

    Args:
        student: The student; it is not changed.
        temperature: What the logits of pixels are divided by, above 0.
        scales: Scales of the scores of boxes, by the id of the class.
    """
    result = copy.deepcopy(student)
    if result.segmentation is not None:
        weight, bias = _parts(result.segmentation.classifier)
        weight /= temperature
        bias /= temperature
    if result.detection is not None:
        for layers in result.detection.class_layers:
            assert isinstance(layers, nn.Sequential)
            weight, bias = _parts(layers[-1])
            for label, scale in scales.items():
                weight[label] *= scale.scale
                bias[label] = bias[label] * scale.scale + scale.shift
    return result


def _parts(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    return layer.weight, layer.bias
