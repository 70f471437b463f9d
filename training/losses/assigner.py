"""Assigns cells to objects, in every step again, by the outputs of the network (TOOD, YOLOv10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.losses.boxes import box_iou

# Cells are ranked by score ** a * IoU ** b. One-to-many uses the exponents of TOOD. One-to-one gives the score more
# weight, so that an object tends to keep its cell from step to step. With a ranking by IoU only, the cell changes from
# step to step, all neighbours learn to respond a little, and the object is detected twice.
ONE_TO_MANY_EXPONENTS = (0.5, 6.0)
ONE_TO_ONE_EXPONENTS = (1.0, 4.0)
SMALLEST_METRIC = 1e-12  # of a candidate, so that an object gets a cell even while no box overlaps it


@dataclass(frozen=True)
class Targets:
    """The objects of a batch, padded to the longest list.

    Attributes:
        boxes_xyxy: Boxes, float32 [N, M, 4], input pixels.
        labels: Class ids, int64 [N, M].
        exists: False for padding, bool [N, M].
        scores: How sure it is that the object is there, float32 [N, M], 0..1; 1 for objects of labels.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    exists: Tensor
    scores: Tensor

    @classmethod
    def pad(
        cls, boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor], scores: Sequence[Tensor] | None = None
    ) -> Targets:
        """Stack the boxes, labels and scores of N frames, without boxes that have no area; None = scores of 1."""
        kept = [(boxes[:, 2:] > boxes[:, :2]).all(dim=1) for boxes in boxes_xyxy]
        longest = max((int(keep.sum()) for keep in kept), default=0)
        device = boxes_xyxy[0].device
        padded = cls(
            torch.zeros(len(kept), longest, 4, device=device),
            torch.zeros(len(kept), longest, dtype=torch.int64, device=device),
            torch.zeros(len(kept), longest, dtype=torch.bool, device=device),
            torch.ones(len(kept), longest, device=device),
        )
        for index, keep in enumerate(kept):
            count = int(keep.sum())
            padded.boxes_xyxy[index, :count] = boxes_xyxy[index][keep].float()
            padded.labels[index, :count] = labels[index][keep]
            padded.exists[index, :count] = True
            if scores is not None:
                padded.scores[index, :count] = scores[index][keep].float()
        return padded


@dataclass(frozen=True)
class Assignment:
    """Pairs of a cell and the object that it should detect. A cell has at most one object.

    Attributes:
        image: Index of the frame, int64 [P].
        cell: Index of the cell, int64 [P].
        target: Index of the object among the targets of the frame, int64 [P].
        quality: Class score that the cell should reach, float32 [P], 0..1; higher for a better box and a surer object.
    """

    image: Tensor
    cell: Tensor
    target: Tensor
    quality: Tensor


@torch.no_grad()
def assign(targets: Targets, scores: Tensor, boxes_xyxy: Tensor, cells: Tensor, cells_per_object: int) -> Assignment:
    """Choose the cells that should detect each object.

    Args:
        targets: M objects in each frame.
        scores: Class scores of all cells, float32 [N, A, classes], 0..1.
        boxes_xyxy: Decoded boxes of all cells, float32 [N, A, 4].
        cells: Centre x, centre y and stride of each cell, float32 [A, 3].
        cells_per_object: 1 gives each object exactly one cell; a larger number is the most cells that an object gets.
    """
    exponents = ONE_TO_ONE_EXPONENTS if cells_per_object == 1 else ONE_TO_MANY_EXPONENTS
    metric, iou = _candidates(targets, scores, boxes_xyxy, cells, exponents)
    chosen = _one_each(metric) if cells_per_object == 1 else _several_each(metric, iou, cells_per_object)
    image, target, cell = chosen.nonzero(as_tuple=True)
    chosen_metric = torch.where(chosen, metric, 0.0)
    best_metric = chosen_metric.amax(dim=2).clamp(min=SMALLEST_METRIC)
    best_iou = torch.where(chosen, iou, 0.0).amax(dim=2)
    # The best cell of an object should reach the best IoU of the object's cells, the others less, by their rank.
    quality = metric[image, target, cell] / best_metric[image, target] * best_iou[image, target]
    quality = quality * targets.scores[image, target]
    return Assignment(image, cell, target, quality)


def _candidates(
    targets: Targets, scores: Tensor, boxes_xyxy: Tensor, cells: Tensor, exponents: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Return ranking metric and IoU of every object and cell, [N, M, A]; zero where the cell is not a candidate."""
    centres, half_stride = cells[:, :2], cells[:, 2:] / 2
    boxes = targets.boxes_xyxy.unsqueeze(2)
    near, far = boxes[..., :2], boxes[..., 2:]
    inside = ((centres > near) & (centres < far)).all(dim=-1)
    # A small object may lie between the centres of cells; the cell that contains its centre is a candidate too.
    inside |= ((centres - (near + far) / 2).abs() <= half_stride).all(dim=-1)
    inside &= targets.exists.unsqueeze(-1)
    # Few pairs are candidates; the IoU is computed for these only.
    image, target, cell = inside.nonzero(as_tuple=True)
    pair_iou = box_iou(boxes_xyxy[image, cell], targets.boxes_xyxy[image, target])
    pair_score = scores[image, cell, targets.labels[image, target]]
    pair_metric = pair_score ** exponents[0] * pair_iou ** exponents[1]
    metric, iou = torch.zeros_like(inside, dtype=torch.float32), torch.zeros_like(inside, dtype=torch.float32)
    metric[image, target, cell] = pair_metric.clamp(min=SMALLEST_METRIC)
    iou[image, target, cell] = pair_iou
    return metric, iou


def _several_each(metric: Tensor, iou: Tensor, count: int) -> Tensor:
    """Return the best `count` cells of each object, bool [N, M, A]; a cell of several goes to the one it fits best."""
    count = min(count, metric.shape[2])
    chosen = torch.zeros_like(metric, dtype=torch.bool)
    chosen.scatter_(2, metric.topk(count, dim=2).indices, True)
    chosen &= metric > 0
    if metric.shape[1] == 0:
        return chosen
    best = torch.where(chosen, iou, -1.0).argmax(dim=1, keepdim=True)
    return chosen & torch.zeros_like(chosen).scatter_(1, best, True)


def _one_each(metric: Tensor) -> Tensor:
    """Return one cell for each object that has a candidate, bool [N, M, A].

    In each round, every object without a cell asks for its best free cell. If several objects ask for a cell, the one
    with the highest metric gets it. Nearly all batches need two rounds.
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
