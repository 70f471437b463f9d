"""Segmentation loss at the resolution of the logits, from every pixel of the mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.losses.across_processes import mean_over_processes, sum_over_processes


def count_labels(masks: Tensor, classes: int, stride: int) -> Tensor:
    """How many pixels of each class every stride x stride block holds, float32 [N, classes, H / stride, W / stride].

    Args:
        masks: integers [N, H, W]; ids of `classes` and above (255 = void) are counted nowhere.
        classes: of the segmentation.
        stride: side of a block, pixels.
    """
    frames, height, width = masks.shape
    rows, columns = height // stride, width // stride
    blocks = masks.view(frames, rows, stride, columns, stride).permute(0, 2, 4, 1, 3)
    blocks = blocks.reshape(frames, stride * stride, rows, columns).long().clamp(max=classes)
    counts = torch.zeros(frames, classes + 1, rows, columns, device=masks.device)
    counts.scatter_add_(1, blocks, torch.ones_like(blocks, dtype=torch.float32))
    return counts[:, :classes]


def segmentation_cross_entropy(logits: Tensor, counts: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy of every labelled pixel with the logits of its block, weighted mean; 0 where all is void.

    This equals the cross-entropy of the logits enlarged to the mask by nearest neighbour, which is how the exported
    class map is read, at a sixteenth of the work: a pole of one pixel still counts with its share of the block.

    Args:
        logits: float [N, C, h, w].
        counts: from `count_labels`.
        class_weights: float32 [C].
    """
    log_probability = functional.log_softmax(logits.float(), dim=1)
    weights = counts * class_weights.view(1, -1, 1, 1)
    return -(weights * log_probability).sum() / mean_over_processes(weights.sum()).clamp(min=1e-6)


def soft_jaccard(logits: Tensor, counts: Tensor) -> Tensor:
    """1 - soft IoU of probabilities and label shares, mean over the classes that the batch has; 0 where all is void.

    The whole batch, of all processes, is one region, as in the mean IoU that it stands in for, so that rare classes
    weigh as much as road.
    """
    probability = functional.softmax(logits.float(), dim=1)
    labelled = counts.sum(dim=1, keepdim=True)
    axes = (0, 2, 3)
    intersection = (probability * counts).sum(dim=axes)
    truth = counts.sum(dim=axes)
    claimed = (probability * labelled).sum(dim=axes)
    intersection, truth, claimed = sum_over_processes(torch.stack([intersection, truth, claimed]))
    union = claimed + truth - intersection
    present = (truth > 0).float()
    loss = (1.0 - intersection / union.clamp(min=1e-6)) * present
    mean: Tensor = loss.sum() / present.sum().clamp(min=1.0)
    return mean
