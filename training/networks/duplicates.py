"""Finds boxes that repeat a better one, in operators that every runtime has."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 3  # odd, so that no box that greedy suppression drops is kept


def first_of_each_object(boxes_xyxy: Tensor, labels: Tensor, overlap_max: float) -> Tensor:
    """Return 1 for a box that no kept box before it repeats, else 0, float32 [N, K].

    It is greedy non-maximum suppression in a fixed number of rounds. No two boxes that it keeps repeat each other. Of a
    chain of more than ROUNDS boxes, each of which repeats only the one before it, it may drop one too many.

    Args:
        boxes_xyxy: Boxes, the best one first, [N, K, 4].
        labels: Their classes, [N, K]. A box repeats another one of its class alone.
        overlap_max: IoU above which two boxes show the same object, 0..1.
    """
    near = torch.maximum(boxes_xyxy[:, :, None, :2], boxes_xyxy[:, None, :, :2])
    far = torch.minimum(boxes_xyxy[:, :, None, 2:], boxes_xyxy[:, None, :, 2:])
    sides = (far - near).clamp(min=0.0)
    common = sides[..., 0] * sides[..., 1]
    sizes = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    areas = sizes[..., 0] * sizes[..., 1]
    overlaps = common > overlap_max * (areas[:, :, None] + areas[:, None, :] - common)
    alike = labels[:, :, None] == labels[:, None, :]
    count = boxes_xyxy.shape[1]
    is_before = torch.ones(count, count, dtype=torch.bool, device=boxes_xyxy.device).triu(diagonal=1)
    repeats = (overlaps & alike & is_before).float()
    kept = torch.ones_like(areas)
    for _ in range(ROUNDS):
        kept = 1.0 - (repeats * kept[:, :, None]).amax(dim=1)
    return kept
