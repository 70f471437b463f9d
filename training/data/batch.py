"""Batches of samples as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ros_kd_perception.model.classes import UNLABELED_ID
from training.data.sample import Sample


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
    """

    images: Tensor
    masks: Tensor
    boxes_xyxy: list[Tensor]
    labels: list[Tensor]
    has_boxes: Tensor
    box_weight: Tensor
    views: list[str]

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
        return Batch(
            images=self.images.to(device, non_blocking=non_blocking),
            masks=self.masks.to(device, non_blocking=non_blocking),
            boxes_xyxy=[boxes.to(device, non_blocking=non_blocking) for boxes in self.boxes_xyxy],
            labels=[labels.to(device, non_blocking=non_blocking) for labels in self.labels],
            has_boxes=self.has_boxes.to(device, non_blocking=non_blocking),
            box_weight=self.box_weight.to(device, non_blocking=non_blocking),
            views=self.views,
        )

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, from which a GPU copies without waiting."""
        return Batch(
            images=self.images.pin_memory(),
            masks=self.masks.pin_memory(),
            boxes_xyxy=[boxes.pin_memory() for boxes in self.boxes_xyxy],
            labels=[labels.pin_memory() for labels in self.labels],
            has_boxes=self.has_boxes.pin_memory(),
            box_weight=self.box_weight.pin_memory(),
            views=self.views,
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch.

    Raises:
        ValueError: The samples differ in size.
    """
    sizes = {sample.image_bgr.shape[:2] for sample in samples}
    if len(sizes) != 1:
        raise ValueError(f"a batch needs frames of one size, but these are (height, width) {sorted(sizes)}; crop them")
    images = np.stack([sample.image_bgr.transpose(2, 0, 1) for sample in samples])
    return Batch(
        images=torch.from_numpy(images),
        masks=torch.from_numpy(np.stack([sample.mask for sample in samples])),
        boxes_xyxy=[torch.from_numpy(sample.boxes_xyxy.astype(np.float32)) for sample in samples],
        labels=[torch.from_numpy(sample.labels.astype(np.int64)) for sample in samples],
        has_boxes=torch.tensor([sample.has_boxes for sample in samples], dtype=torch.bool),
        box_weight=torch.tensor([sample.box_weight for sample in samples], dtype=torch.float32),
        views=[sample.view for sample in samples],
    )
