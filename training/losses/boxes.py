"""Overlap of boxes xyxy, row by row."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4] with those in the same place of the other, 0..1."""
    intersection, union = _intersection_and_union(first, second)
    return intersection / union.clamp(min=1e-6)


def generalized_box_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU less the share of the enclosing box that neither covers, -1..1 (Rezatofighi et al., 2019).

    Unlike the IoU it still tells boxes that do not touch which way to go.
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
