"""Batches of samples as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.sample import FULL_CONFIDENCE, Sample
from training.label_sets.label_set import UNLABELED_ID


@dataclass
class Batch:
    """Several frames of one size with their masks and boxes.

    Attributes:
        images: uint8 [N, 3, H, W], channel order BGR, 0..255. The network itself divides by 255.
        masks: uint8 [N, H, W], segmentation class ids. The loss ignores 255.
        boxes_xyxy: N tensors, float32 [n, 4], in pixels of `images`.
        labels: N tensors, int64 [n], detection class ids.
        has_boxes: bool [N]. False if the objects of a frame are not known, so that a missing box means nothing.
        box_weight: float32 [N], 0..1. Below 1 for boxes that were derived from masks and are only approximate.
        views: N names. Two images have the same name if and only if they are equal; empty if views never repeat.
        ignored_xyxy: N tensors, float32 [m, 4], regions that teach nothing about objects; empty = none in any frame.
        ignored_labels: N tensors, int64 [m], the detection class that each region teaches nothing about; -1 = every
            class.
        labeled_pixels: bool [N, segmentation classes], False for a class that the source of a frame does not label;
            None = all are labelled.
        labeled_boxes: bool [N, detection classes], False for a class whose missing boxes mean nothing in a frame;
            None = all are labelled.
        confidence: uint8 [N, H, W], how much each pixel of `masks` counts in the loss, 255 = fully; None = all do.
    """

    images: Tensor
    masks: Tensor
    boxes_xyxy: list[Tensor]
    labels: list[Tensor]
    has_boxes: Tensor
    box_weight: Tensor
    views: list[str]
    ignored_xyxy: list[Tensor] = field(default_factory=list)
    ignored_labels: list[Tensor] = field(default_factory=list)
    labeled_pixels: Tensor | None = None
    labeled_boxes: Tensor | None = None
    confidence: Tensor | None = None

    @classmethod
    def of_images(cls, images: Tensor) -> Batch:
        """Return a batch of images uint8 [N, 3, H, W] without labels."""
        frames, _, height, width = images.shape
        return cls(
            images=images,
            masks=torch.full((frames, height, width), UNLABELED_ID, dtype=torch.uint8),
            boxes_xyxy=[torch.zeros(0, 4)] * frames,
            labels=[torch.zeros(0, dtype=torch.int64)] * frames,
            has_boxes=torch.zeros(frames, dtype=torch.bool),
            box_weight=torch.zeros(frames),
            views=[""] * frames,
        )

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy the batch to a device."""
        return self._with_each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, from which a GPU copies without waiting."""
        return self._with_each(lambda tensor: tensor.pin_memory())

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with every tensor changed."""
        changed: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                value = change(value)
            elif isinstance(value, list):
                value = [change(entry) if isinstance(entry, Tensor) else entry for entry in value]
            changed[item.name] = value
        return Batch(**changed)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch.

    Raises:
        ValueError: The samples differ in size.
    """
    sizes = {sample.image_bgr.shape[:2] for sample in samples}
    if len(sizes) != 1:
        raise ValueError(f"a batch needs frames of one size, but these are (height, width) {sorted(sizes)}; crop them")
    # Planes in memory: np.stack alone keeps the pixels of the transposed views together, and for three channels torch's
    # backward pass on CPUs has crashed in that layout.
    images = np.ascontiguousarray(np.stack([sample.image_bgr.transpose(2, 0, 1) for sample in samples]))
    return Batch(
        images=torch.from_numpy(images),
        masks=torch.from_numpy(np.stack([sample.mask for sample in samples])),
        boxes_xyxy=[torch.from_numpy(sample.boxes_xyxy.astype(np.float32)) for sample in samples],
        labels=[torch.from_numpy(sample.labels.astype(np.int64)) for sample in samples],
        has_boxes=torch.tensor([sample.has_boxes for sample in samples], dtype=torch.bool),
        box_weight=torch.tensor([sample.box_weight for sample in samples], dtype=torch.float32),
        views=[sample.view for sample in samples],
        ignored_xyxy=[_of_frame(sample.ignored_xyxy, (0, 4), np.float32) for sample in samples],
        ignored_labels=[_of_frame(sample.ignored_labels, (0,), np.int64) for sample in samples],
        labeled_pixels=_stacked([sample.labeled_pixels for sample in samples], 1),
        labeled_boxes=_stacked([sample.labeled_boxes for sample in samples], 1),
        confidence=_stacked([sample.confidence for sample in samples], FULL_CONFIDENCE),
    )


def _of_frame(values: NDArray[Any] | None, empty: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.zeros(empty, dtype) if values is None else values.astype(dtype))


def _stacked(values: Sequence[NDArray[Any] | None], default: int) -> Tensor | None:
    """Return arrays of one shape as a tensor with the frames first; None if no frame has one.

    A frame without an array gets one of the same type that is `default` everywhere: all classes are labelled, and all
    pixels count.
    """
    found = next((each for each in values if each is not None), None)
    if found is None:
        return None
    return torch.from_numpy(np.stack([np.full_like(found, default) if each is None else each for each in values]))
