"""The loss of one detection branch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.losses.across_processes import mean_over_processes, processes
from training.losses.assigner import Targets, assign
from training.losses.boxes import generalized_box_iou
from training.networks.heads import DetectionOutputs, decode_boxes


def detection_loss(
    outputs: DetectionOutputs,
    targets: Targets,
    frame_weight: Tensor,
    cells_per_object: int,
    teaches: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return class loss and box loss of a branch, float32 scalars; zero with zero gradients if no frame has a weight.

    The class loss is the cross-entropy with the quality y of the cell's box as soft target, so that a score says how
    well the box fits. In the one-to-many branch it is multiplied by |y - p| ** 2 (quality focal loss; Li et al.,
    Generalized Focal Loss, 2020), because nearly all background there is easy. The one-to-one branch does not use
    this factor. The neighbours of its one cell are background that looks like the object, and the factor, a sixth at
    p = 0.4, would leave their scores high: with it, 22 % of the detections repeated another one after 400 steps on
    CamVid, without it 4 % after 300. The box loss is 1 - GIoU, weighted by y. Both losses are divided by the sum of
    all y.

    Args:
        outputs: Outputs of the branch for N frames.
        targets: Objects of these frames.
        frame_weight: Weight of each frame, float32 [N], 0..1; 0 for frames whose objects are not known.
        cells_per_object: 1 for the one-to-one branch.
        teaches: bool [N, cells, classes]; where False, background teaches nothing, see `teaching_cells`. None = it
            teaches everywhere.
    """
    # Exponents and small differences need float32, also where the network ran in half precision.
    class_logits = outputs.flat_class_logits().float()
    cells = outputs.cells()
    boxes = decode_boxes(outputs.flat_distance_logits().float(), cells)
    scores = class_logits.detach().sigmoid()
    assignment = assign(targets, scores, boxes.detach(), cells, cells_per_object)
    labels = targets.labels[assignment.image, assignment.target]
    quality = torch.zeros_like(scores)
    quality[assignment.image, assignment.cell, labels] = assignment.quality
    pair_weight = assignment.quality * frame_weight[assignment.image]
    # At least one, so that the loss stays bounded without objects, or while no box overlaps its object.
    normalizer = mean_over_processes(pair_weight.sum()).clamp(min=1.0 / processes())
    cross_entropy = functional.binary_cross_entropy_with_logits(class_logits, quality, reduction="none")
    if cells_per_object > 1:
        cross_entropy = cross_entropy * (quality - scores).square()
    if teaches is not None:
        counts = teaches.clone()
        counts[assignment.image, assignment.cell, labels] = True  # an object counts, wherever it lies
        cross_entropy = cross_entropy * counts
    class_loss = (cross_entropy.sum(dim=(1, 2)) * frame_weight).sum() / normalizer
    overlap = generalized_box_iou(
        boxes[assignment.image, assignment.cell], targets.boxes_xyxy[assignment.image, assignment.target]
    )
    box_loss = ((1.0 - overlap) * pair_weight).sum() / normalizer
    return class_loss, box_loss


def teaching_cells(
    cells: Tensor,
    labeled: Tensor | None,
    ignored_xyxy: Sequence[Tensor],
    ignored_labels: Sequence[Tensor],
    shape: torch.Size,
) -> Tensor | None:
    """Return where background teaches that there is no object, bool [N, cells, classes]; None = everywhere.

    It teaches nothing about a class that the source of the frame does not label, and nothing in the cells whose centre
    lies in an ignored region.

    Args:
        cells: Centre x, centre y and stride of the cells, float32 [cells, 3].
        labeled: bool [N, classes], False for a class that a frame's source does not label; None = all are labelled.
        ignored_xyxy: N tensors [m, 4] in input pixels, or none at all.
        ignored_labels: N tensors [m], class ids; below 0 for every class.
        shape: [N, cells, classes].
    """
    if labeled is None and not any(len(regions) for regions in ignored_xyxy):
        return None
    teaches = torch.ones(shape, dtype=torch.bool, device=cells.device)
    if labeled is not None:
        teaches &= labeled[:, None, :]
    centres = cells[:, None, :2]
    for frame, (regions, labels) in enumerate(zip(ignored_xyxy, ignored_labels, strict=True)):
        inside = ((centres >= regions[:, :2]) & (centres <= regions[:, 2:])).all(dim=-1)
        classes = torch.arange(shape[2], device=cells.device)
        means = (labels[:, None] == classes) | (labels[:, None] < 0)
        teaches[frame] &= ~(inside[:, :, None] & means).any(dim=1)
    return teaches
