"""Overlap of pairs of boxes xyxy."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of each pair of boxes, [...], 0..1, from two tensors [..., 4]."""
    intersection, union = _intersection_and_union(first, second)
    return intersection / union.clamp(min=1e-6)


def generalized_box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the GIoU of each pair of boxes, [...], -1..1 (Rezatofighi et al., 2019).

    GIoU is the IoU minus the share of the enclosing box that neither box covers. Unlike the IoU, it has a gradient for
    boxes that do not overlap.
    """
    intersection, union = _intersection_and_union(first, second)
    near = torch.minimum(first[..., :2], second[..., :2])
    far = torch.maximum(first[..., 2:], second[..., 2:])
    enclosing = (far - near).prod(dim=-1).clamp(min=1e-6)
    return intersection / union.clamp(min=1e-6) - (enclosing - union) / enclosing


def _intersection_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    near = torch.maximum(first[..., :2], second[..., :2])
    far = torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (far - near).clamp(min=0).prod(dim=-1)
    area_first = (first[..., 2:] - first[..., :2]).clamp(min=0).prod(dim=-1)
    area_second = (second[..., 2:] - second[..., :2]).clamp(min=0).prod(dim=-1)
    return intersection, area_first + area_second - intersection
