"""How important each channel of a group is: by the size of its weights, or by what the loss says about them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch_pruning  # type: ignore[import-untyped]
from torch import Tensor
from tqdm import tqdm

from training.data.augmentation import cut
from training.data.batch import Batch, collate
from training.data.readers.registry import AnySource, open_source
from training.data.sample import Sample
from training.errors import CheckpointError, DataError
from training.label_sets.label_set import LabelSet
from training.losses import SupervisedLoss
from training.pruning.groups import FusedCopy

BATCH_SIZE = 4


def magnitudes(fused: FusedCopy) -> list[Tensor]:
    """Return the mean squared length of the weights of each channel, relative to the mean of its group.

    Relative, because the weights of layers differ in size for other reasons than their importance.

    Args:
        fused: Copy of a student.

    Returns:
        A tensor float32 [channels] for each of its groups.

    Raises:
        CheckpointError: A weight is NaN or infinite.
    """
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer="mean")
    return _checked([importance(group.torch_group) for group in fused.groups])


def taylor(fused: FusedCopy, batches: Sequence[Batch]) -> list[Tensor]:
    """Return the change of the loss, to first order, if the weights of a channel were zero.

    The product of weights and their gradients is summed over a channel, and its absolute value over the batches
    (Molchanov et al., 2019, equation 8 without the square, for a whole filter). The loss is that of supervised training
    with equal weights of tasks and classes.

    Args:
        fused: Copy of a student; its gradients are changed.
        batches: Frames with labels.

    Returns:
        A tensor float32 [channels] for each of its groups.

    Raises:
        CheckpointError: A weight or a gradient is NaN or infinite.
        DataError: No frame has a label that the loss could be computed from.
    """
    importance = torch_pruning.importance.GroupTaylorImportance(normalizer=None, multivariable=True, bias=True)
    loss = SupervisedLoss()
    totals = [torch.zeros(group.channels) for group in fused.groups]
    for batch in tqdm(batches, desc="gradients", unit="batch", disable=None, leave=False):
        fused.network.zero_grad()
        outputs = fused.network(batch.images.float() / 255, with_one_to_many=True)
        torch.autograd.backward(torch.stack(list(loss(outputs, batch).values())).sum())
        for total, group in zip(totals, fused.groups, strict=True):
            total += importance(group.torch_group)
    if not any(float(total.max()) > 0 for total in totals):
        raise DataError("frames of the step prune: expected labels of the student's classes, found none; name others")
    return _checked(totals)


def read_batches(source: AnySource, classes: LabelSet, count: int, height: int, width: int) -> list[Batch]:
    """Return batches of whole frames, evenly spread over a source, scaled and padded like on a vehicle.

    Args:
        source: Labelled frames.
        classes: Classes of the student.
        count: Largest number of batches; a source with few frames gives fewer.
        height: Height of the network input in pixels.
        width: Width of the network input in pixels.

    Raises:
        DataError: The frames or their labels cannot be read.
        RecipeError: A class of the source maps to nothing in the student's label set.
    """
    frames = open_source(source, classes)
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), count * BATCH_SIZE)).round().long().tolist()
    samples = [_letterboxed(frames[place], height, width) for place in chosen]
    return [collate(samples[start : start + BATCH_SIZE]) for start in range(0, len(samples), BATCH_SIZE)]


def _letterboxed(sample: Sample, height: int, width: int) -> Sample:
    source_height, source_width = sample.mask.shape
    scale = min(height / source_height, width / source_width)
    return cut(sample, (0, 0, round(width / scale), round(height / scale)), height, width, visible_share_min=0.3)


def _checked(importances: list[Tensor]) -> list[Tensor]:
    if not all(bool(values.isfinite().all()) for values in importances):
        raise CheckpointError(
            "expected finite weights and gradients to rank channels by, got NaN or infinity; prune an earlier "
            "checkpoint, or train with a lower optimizer.learning_rate"
        )
    return importances
