"""Makes one box for each object of the boxes of several views or teachers."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.boxes import box_iou
from training.teachers.seen import Boxes
from training.teachers.settings import FusionSettings

BOXES_MAX = 2000  # of an image, before fusion; the overlap of all pairs is computed
COVERED_SHARE = 0.7  # of a cut box that lies in a box of the whole object
MUCH_LESS_SURE = 0.3  # score of the whole object over that of the cut box


def fuse(boxes: Boxes, settings: FusionSettings, weights: Tensor | None = None) -> Boxes:
    """Return one box for each object, in falling order of the scores.

    Args:
        boxes: Boxes of one image.
        settings: How overlapping boxes of one class become one.
        weights: Weight of each box in a mean, float [n]; None for equal weights.
    """
    order = torch.argsort(boxes.scores, descending=True, stable=True)[:BOXES_MAX]
    ordered = boxes[order]
    groups = _groups(ordered, settings.iou)
    if settings.boxes == "nms":
        return ordered[torch.tensor([group[0] for group in groups], dtype=torch.int64, device=boxes.ids.device)]
    shares = torch.ones_like(boxes.scores)[order] if weights is None else weights[order]
    return _means(ordered, groups, shares)


def fuse_views(boxes: Boxes, settings: FusionSettings) -> Boxes:
    """Return one box for each object of an image of which several views were seen.

    Boxes that a tile cuts are fused apart: they must not take the place of a box of the whole object. Those that such a
    box covers are dropped, unless it is much less sure.
    """
    whole, cut = boxes[~boxes.cut], boxes[boxes.cut]
    near = torch.maximum(cut.xyxy[:, None, :2], whole.xyxy[None, :, :2])
    far = torch.minimum(cut.xyxy[:, None, 2:], whole.xyxy[None, :, 2:])
    area = (cut.xyxy[:, 2:] - cut.xyxy[:, :2]).prod(dim=1).clamp(min=1e-6)
    covers = (far - near).clamp(min=0).prod(dim=2) / area[:, None] > COVERED_SHARE
    covers &= cut.ids[:, None] == whole.ids[None]
    covers &= whole.scores[None] > MUCH_LESS_SURE * cut.scores[:, None]
    return Boxes.joined([fuse(whole, settings), fuse(cut[~covers.any(dim=1)], settings)])


def overlaps(first: Boxes, second: Boxes, iou: float) -> Tensor:
    """Return whether each box of `first` overlaps one of its class in `second` by more than `iou`, bool [n]."""
    alike = first.ids[:, None] == second.ids[None]
    pairs: Tensor = (box_iou(first.xyxy[:, None], second.xyxy[None]) > iou) & alike
    return pairs.any(dim=1)


def _groups(ordered: Boxes, iou: float) -> list[list[int]]:
    """Return the indices of the boxes of each object, the box with the highest score first."""
    alike = ordered.ids[:, None] == ordered.ids[None]
    near = ((box_iou(ordered.xyxy[:, None], ordered.xyxy[None]) > iou) & alike).cpu()
    free = torch.ones(len(ordered), dtype=torch.bool)
    groups = []
    for first in range(len(ordered)):
        if free[first]:
            members = near[first] & free
            members[first] = True
            free &= ~members
            groups.append(members.nonzero().flatten().tolist())
    return groups


def _means(ordered: Boxes, groups: list[list[int]], shares: Tensor) -> Boxes:
    """Return the mean box of each group, weighted by score, and the mean score.

    The authors also lower the score of an object that not all models found. Here tiles see different parts of the
    image, and teachers know different classes, so a missing box means nothing.
    """
    if not groups:
        return ordered
    xyxy, scores, cut = [], [], []
    for group in groups:
        share = shares[group]
        by_score = (share * ordered.scores[group]).clamp(min=1e-6)
        xyxy.append((by_score[:, None] * ordered.xyxy[group]).sum(dim=0) / by_score.sum())
        scores.append((share * ordered.scores[group]).sum() / share.sum())
        cut.append(ordered.cut[group].all())
    first = ordered.ids[[group[0] for group in groups]]
    fused = Boxes(torch.stack(xyxy), first, torch.stack(scores), torch.stack(cut))
    return fused[torch.argsort(fused.scores, descending=True, stable=True)]
