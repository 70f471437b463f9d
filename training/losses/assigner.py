"""Which cells answer for which objects, decided anew in every step from what the network says (TOOD, YOLOv10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.losses.boxes import box_iou

# Cells are ranked by score ** a * IoU ** b. One-to-many: the exponents of TOOD. One-to-one: more weight on the score,
# so that the cell that answered in the last step goes on answering. Ranked by IoU alone neighbours take turns, all
# learn to answer a little, and the object is reported twice.
ONE_TO_MANY_EXPONENTS = (0.5, 6.0)
ONE_TO_ONE_EXPONENTS = (1.0, 4.0)
SMALLEST_METRIC = 1e-12  # of a candidate; an object whose every cell still misses it must get a cell all the same


@dataclass(frozen=True)
class Targets:
    """The objects of a batch, padded to the longest list.

    Attributes:
        boxes_xyxy: float32 [N, M, 4], input pixels.
        labels: int64 [N, M].
        exists: bool [N, M]; False for padding.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    exists: Tensor

    @classmethod
    def pad(cls, boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
        """Stack the lists of N frames; boxes without area are left out."""
        kept = [(boxes[:, 2:] > boxes[:, :2]).all(dim=1) for boxes in boxes_xyxy]
        longest = max((int(keep.sum()) for keep in kept), default=0)
        device = boxes_xyxy[0].device
        padded = cls(
            torch.zeros(len(kept), longest, 4, device=device),
            torch.zeros(len(kept), longest, dtype=torch.int64, device=device),
            torch.zeros(len(kept), longest, dtype=torch.bool, device=device),
        )
        for index, keep in enumerate(kept):
            count = int(keep.sum())
            padded.boxes_xyxy[index, :count] = boxes_xyxy[index][keep].float()
            padded.labels[index, :count] = labels[index][keep]
            padded.exists[index, :count] = True
        return padded


@dataclass(frozen=True)
class Assignment:
    """Pairs of a cell and an object that it answers for, no cell twice.

    Attributes:
        image, cell, target: int64 [P], which cell of which frame answers for which row of the targets.
        quality: float32 [P], 0..1, the class score to aim at: the better the cell's box, the higher.
    """

    image: Tensor
    cell: Tensor
    target: Tensor
    quality: Tensor


@torch.no_grad()
def assign(targets: Targets, scores: Tensor, boxes_xyxy: Tensor, cells: Tensor, cells_per_object: int) -> Assignment:
    """Choose the cells that answer for each object.

    Args:
        targets: M objects a frame.
        scores: float32 [N, A, classes], 0..1, of all cells.
        boxes_xyxy: float32 [N, A, 4], decoded.
        cells: float32 [A, 3], centre x, centre y, stride.
        cells_per_object: 1 gives each object one cell of its own; more gives it up to so many.
    """
    exponents = ONE_TO_ONE_EXPONENTS if cells_per_object == 1 else ONE_TO_MANY_EXPONENTS
    metric, iou = _candidates(targets, scores, boxes_xyxy, cells, exponents)
    chosen = _one_each(metric) if cells_per_object == 1 else _several_each(metric, iou, cells_per_object)
    image, target, cell = chosen.nonzero(as_tuple=True)
    chosen_metric = torch.where(chosen, metric, 0.0)
    best_metric = chosen_metric.amax(dim=2).clamp(min=SMALLEST_METRIC)
    best_iou = torch.where(chosen, iou, 0.0).amax(dim=2)
    # The best cell of an object aims at the best IoU that any of its cells reaches, the others at less by their rank.
    quality = metric[image, target, cell] / best_metric[image, target] * best_iou[image, target]
    return Assignment(image, cell, target, quality)


def _candidates(
    targets: Targets, scores: Tensor, boxes_xyxy: Tensor, cells: Tensor, exponents: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Ranking metric and IoU of every object and cell, [N, M, A]; zero where the cell is no candidate."""
    centres, half_stride = cells[:, :2], cells[:, 2:] / 2
    boxes = targets.boxes_xyxy.unsqueeze(2)
    near, far = boxes[..., :2], boxes[..., 2:]
    inside = ((centres > near) & (centres < far)).all(dim=-1)
    # An object smaller than a cell may hold no cell's centre; then the cell that holds its centre is a candidate.
    inside |= ((centres - (near + far) / 2).abs() <= half_stride).all(dim=-1)
    inside &= targets.exists.unsqueeze(-1)
    # Few of all pairs are candidates, so that the IoU is worth computing for those alone.
    image, target, cell = inside.nonzero(as_tuple=True)
    pair_iou = box_iou(boxes_xyxy[image, cell], targets.boxes_xyxy[image, target])
    pair_score = scores[image, cell, targets.labels[image, target]]
    pair_metric = pair_score ** exponents[0] * pair_iou ** exponents[1]
    metric, iou = torch.zeros_like(inside, dtype=torch.float32), torch.zeros_like(inside, dtype=torch.float32)
    metric[image, target, cell] = pair_metric.clamp(min=SMALLEST_METRIC)
    iou[image, target, cell] = pair_iou
    return metric, iou


def _several_each(metric: Tensor, iou: Tensor, count: int) -> Tensor:
    """The best `count` cells of each object, bool [N, M, A]; a cell wanted by several serves the one it fits best."""
    count = min(count, metric.shape[2])
    chosen = torch.zeros_like(metric, dtype=torch.bool)
    chosen.scatter_(2, metric.topk(count, dim=2).indices, True)
    chosen &= metric > 0
    if metric.shape[1] == 0:
        return chosen
    best = torch.where(chosen, iou, -1.0).argmax(dim=1, keepdim=True)
    return chosen & torch.zeros_like(chosen).scatter_(1, best, True)


def _one_each(metric: Tensor) -> Tensor:
    """One cell of its own for each object that has a candidate, bool [N, M, A].

    In rounds: every object without a cell asks for its best free one; among those who ask for the same cell the highest
    metric has it. Two rounds are enough for nearly all batches.
    """
    images, objects, cells = metric.shape
    chosen = torch.zeros_like(metric, dtype=torch.bool)
    if objects == 0:
        return chosen
    free = metric.clone()
    order = torch.arange(objects, device=metric.device).expand(images, objects)
    while True:
        asked_metric, asked_cell = free.max(dim=2)
        asking = asked_metric > 0
        if not bool(asking.any()):
            return chosen
        highest = metric.new_zeros(images, cells).scatter_reduce(1, asked_cell, asked_metric, "amax")
        contends = asking & (asked_metric >= highest.gather(1, asked_cell))
        first = torch.full((images, cells), objects, device=metric.device)
        first = first.scatter_reduce(1, asked_cell, torch.where(contends, order, objects), "amin")
        wins = contends & (first.gather(1, asked_cell) == order)
        image, winner = wins.nonzero(as_tuple=True)
        cell = asked_cell[image, winner]
        chosen[image, winner, cell] = True
        free[image, winner] = 0.0
        free[image, :, cell] = 0.0
