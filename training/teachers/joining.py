"""Joins two boxes into one object of another class: a person on a bicycle is a bicyclist.

Many detectors know persons and bicycles, and no riders. A rider stands out by geometry: the box of the bicycle covers
the lower part of the person's box, and not the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.label_sets.label_set import LabelSet
from training.teachers.seen import Boxes
from training.teachers.settings import JoinRule

LOWER_SHARE = 0.5  # of the height of the upper box, which the lower box must cover
HEAD_SHARE = 1 / 3  # of the height of the upper box, which the lower box must leave free
HEAD_COVERED_MAX = 0.5


@dataclass(frozen=True)
class Joined:
    """Boxes of one image after a rule.

    Attributes:
        boxes: Boxes of the network's own classes, with what is left of their scores.
        objects: Boxes of the joined class; their ids mean nothing.
    """

    boxes: Boxes
    objects: Boxes


def join(boxes: Boxes, rule: JoinRule, label_set: LabelSet) -> Joined:
    """Join the pairs of an image that a rule describes.

    Each box belongs to one pair at most; pairs with high scores and a large overlap come first. A pair whose lower box
    has the score `lower_sure` or more is an object of the joined class, with the score of the upper box. With a lower
    score s, it is one only by the share s / `lower_sure`, and keeps the other share for its own class. Its class is in
    doubt then, so both classes also get a box with the whole score that is never sure. The joined class gets it from an
    upper box without a lower one, too: networks often miss the lower one.

    Args:
        boxes: Boxes of the network, one for each object.
        rule: Which boxes are joined.
        label_set: Classes of the network.
    """
    ids = {info.name: info.id for info in label_set.detection}
    upper = _places(boxes.ids, [ids[name] for name in rule.upper])
    lower = _places(boxes.ids, [ids[name] for name in rule.lower])
    lower = lower[boxes.scores[lower] >= rule.lower_unsure]
    covered = covered_share(boxes.xyxy[upper], boxes.xyxy[lower])
    pairs = _pairs(covered, boxes.scores[upper], boxes.scores[lower], rule.covered_min)
    first, second = upper[pairs[:, 0]], lower[pairs[:, 1]]
    share = (boxes.scores[second] / rule.lower_sure).clamp(max=1.0)
    xyxy = boxes.xyxy[first] if rule.box == "upper" else _unions(boxes.xyxy[first], boxes.xyxy[second])
    whole = Boxes(xyxy, boxes.ids[first], boxes.scores[first], boxes.cut[first] | boxes.cut[second])
    left = torch.ones_like(boxes.scores)
    left[first] = 1 - share
    if rule.box == "union":
        left[second] = 1 - share
    remaining = replace(boxes, scores=boxes.scores * left)
    alone = boxes[upper[~torch.isin(upper, first)]]
    doubtful = [_never_sure(boxes[first[share < 1]]), _never_sure(whole[share < 1]), _never_sure(alone)]
    return Joined(
        Boxes.joined([remaining, doubtful[0]]),
        Boxes.joined([replace(whole, scores=whole.scores * share), *doubtful[1:]]),
    )


def covered_share(upper: Tensor, lower: Tensor) -> Tensor:
    """Return the share of the lower half of each upper box that a lower box covers, float32 [n, m], 0..1.

    It is 0 for pairs that no object on another one makes: the lower box covers the head, or is higher than the whole
    upper box.

    Args:
        upper: Boxes xyxy, float32 [n, 4].
        lower: Boxes xyxy, float32 [m, 4].
    """
    height = upper[:, 3] - upper[:, 1]
    half, head = upper.clone(), upper.clone()
    half[:, 1] = upper[:, 3] - LOWER_SHARE * height
    head[:, 3] = upper[:, 1] + HEAD_SHARE * height
    fits = _covered(head, lower) <= HEAD_COVERED_MAX
    fits &= (lower[:, 3] - lower[:, 1])[None] <= height[:, None]
    return _covered(half, lower) * fits


def _never_sure(boxes: Boxes) -> Boxes:
    return replace(boxes, cut=torch.ones_like(boxes.cut))


def _covered(parts: Tensor, boxes: Tensor) -> Tensor:
    near = torch.maximum(parts[:, None, :2], boxes[None, :, :2])
    far = torch.minimum(parts[:, None, 2:], boxes[None, :, 2:])
    area = (parts[:, 2:] - parts[:, :2]).prod(dim=1).clamp(min=1e-6)
    return ((far - near).clamp(min=0).prod(dim=2) / area[:, None]).clamp(max=1.0)


def _places(ids: Tensor, wanted: Sequence[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(wanted, device=ids.device)).nonzero().flatten()


def _pairs(covered: Tensor, upper_scores: Tensor, lower_scores: Tensor, covered_min: float) -> Tensor:
    """Return the indices of the boxes of each pair, int64 [pairs, 2]; the best pairs are found first."""
    quality = covered * upper_scores[:, None] * lower_scores[None]
    candidates = ((covered >= covered_min) & (covered > 0)).nonzero()
    order = torch.argsort(quality[candidates[:, 0], candidates[:, 1]], descending=True, stable=True)
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for first, second in candidates[order].tolist():
        if first not in taken[0] and second not in taken[1]:
            taken[0].add(first)
            taken[1].add(second)
            pairs.append((first, second))
    return torch.tensor(pairs, dtype=torch.int64, device=covered.device).reshape(-1, 2)


def _unions(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([torch.minimum(first[:, :2], second[:, :2]), torch.maximum(first[:, 2:], second[:, 2:])], dim=1)
