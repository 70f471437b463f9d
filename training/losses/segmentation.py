"""Segmentation losses at the resolution of the logits that count every pixel of the mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.data.sample import FULL_CONFIDENCE
from training.losses.across_processes import mean_over_processes, sum_over_processes

_NO_PROBABILITY = -1e4  # a logit so low that its softmax is 0; infinity would become NaN in the gradient


def count_labels(masks: Tensor, classes: int, stride: int, confidence: Tensor | None = None) -> Tensor:
    """Count the pixels of each class in every stride x stride block, float32 [N, classes, H / stride, W / stride].

    A pixel of which a teacher was not sure counts with its confidence, a share of 1.

    Args:
        masks: Class ids, integers [N, H, W]; ids of `classes` and above (255 = void) are not counted.
        classes: Number of classes.
        stride: Side of a block in pixels.
        confidence: uint8 [N, H, W], 255 = the pixel counts fully; None = all do.
    """
    frames, height, width = masks.shape
    rows, columns = height // stride, width // stride

    def in_blocks(pixels: Tensor) -> Tensor:
        parts = pixels.view(frames, rows, stride, columns, stride).permute(0, 2, 4, 1, 3)
        return parts.reshape(frames, stride * stride, rows, columns)

    ids = in_blocks(masks).long().clamp(max=classes)
    shares = torch.ones_like(ids, dtype=torch.float32)
    if confidence is not None:
        shares = in_blocks(confidence).float() / FULL_CONFIDENCE
    counts = torch.zeros(frames, classes + 1, rows, columns, device=masks.device)
    counts.scatter_add_(1, ids, shares)
    return counts[:, :classes]


def without_unlabeled_classes(logits: Tensor, labeled: Tensor | None) -> Tensor:
    """Return logits in which the classes that a frame's source does not label have no probability and no gradient.

    A class that a source does not label is neither right nor wrong there, so the others share the probability.

    Args:
        logits: Class logits, float [N, C, h, w].
        labeled: bool [N, C]; None = all classes are labelled.
    """
    if labeled is None:
        return logits
    return logits.float().masked_fill(~labeled[:, :, None, None], _NO_PROBABILITY)


def segmentation_cross_entropy(logits: Tensor, counts: Tensor, class_weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy of the labelled pixels with the logits of their blocks; 0 if all is void.

    It equals the cross-entropy of logits that are enlarged to the size of the mask by nearest neighbour, as the
    exported class map is used, at a sixteenth of the work. A pole of one pixel still counts with its share of the
    block.

    Args:
        logits: Class logits, float [N, C, h, w].
        counts: Result of `count_labels`.
        class_weights: Weight of each class, float32 [C].
    """
    log_probability = functional.log_softmax(logits.float(), dim=1)
    weights = counts * class_weights.view(1, -1, 1, 1)
    return -(weights * log_probability).sum() / mean_over_processes(weights.sum()).clamp(min=1e-6)


def soft_jaccard(logits: Tensor, counts: Tensor) -> Tensor:
    """Return 1 - soft IoU of probabilities and labels, mean over the classes in the batch; 0 if all is void.

    The IoU of a class runs over the whole batch of all processes, like the mean IoU that this loss approximates. A rare
    class therefore weighs as much as road.

    Args:
        logits: Class logits, float [N, C, h, w].
        counts: Result of `count_labels`.
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
