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
from training.data.taught_frame import SMALLEST_PROBABILITY, TaughtFrame
from training.label_sets.label_set import UNLABELED_ID

SPOKEN_SHARE_MIN = 0.5  # of a cell about which teachers must say something; elsewhere it is unknown


@dataclass
class TaughtBatch:
    """What teachers said about the frames of a batch, see `TaughtFrame`. Lists have an entry for each frame.

    Attributes:
        logits: float32 [N, C, H / 4, W / 4], logarithms of the probabilities; None if no teacher teaches masks.
        counts: bool [N, H / 4, W / 4], where the teachers say something; None without `logits`.
        known_pixels: bool [C], whether any teacher knows a class of masks.
        known_boxes: bool [K], whether any teacher knows a class of boxes. Empty if no teacher teaches boxes.
        boxes_xyxy: N tensors, float32 [n, 4], in pixels of the images.
        labels: N tensors, int64 [n].
        scores: N tensors, float32 [n].
        ignored_xyxy: N tensors, float32 [m, 4], regions that are neither objects nor background.
        ignored_labels: N tensors, int64 [m]; -1 stands for every class.
    """

    logits: Tensor | None
    counts: Tensor | None
    known_pixels: Tensor
    known_boxes: Tensor
    boxes_xyxy: list[Tensor]
    labels: list[Tensor]
    scores: list[Tensor]
    ignored_xyxy: list[Tensor]
    ignored_labels: list[Tensor]


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
        taught: What teachers said about the frames, where that is kept; None if they look at `images`.
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
    taught: TaughtBatch | None = None

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
        moved: Batch = _with_each(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, from which a GPU copies without waiting."""
        pinned: Batch = _with_each(self, lambda tensor: tensor.pin_memory())
        return pinned


def _with_each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a value with every tensor changed that it or its fields and lists hold."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list):
        return [_with_each(entry, change) for entry in value]
    if isinstance(value, Batch | TaughtBatch):
        return type(value)(**{item.name: _with_each(getattr(value, item.name), change) for item in fields(value)})
    return value


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
        taught=_taught([sample.taught for sample in samples if sample.taught is not None]),
    )


def _taught(frames: Sequence[TaughtFrame]) -> TaughtBatch | None:
    """Return what teachers said about the frames of a batch; None without frames. All frames have the same teachers."""
    if not frames:
        return None
    logits = counts = None
    cells = [frame.probabilities for frame in frames if frame.probabilities is not None]
    if cells:
        stacked = torch.from_numpy(np.ascontiguousarray(np.stack(cells).transpose(0, 3, 1, 2)))
        spoken = stacked.sum(dim=1, keepdim=True)
        counts = spoken[:, 0] >= SPOKEN_SHARE_MIN
        logits = (stacked / torch.where(spoken > 0, spoken, 1.0)).clamp(min=SMALLEST_PROBABILITY).log()
    return TaughtBatch(
        logits,
        counts,
        torch.from_numpy(frames[0].known_pixels),
        torch.from_numpy(frames[0].known_boxes),
        boxes_xyxy=[torch.from_numpy(frame.objects.xyxy) for frame in frames],
        labels=[torch.from_numpy(frame.objects.labels) for frame in frames],
        scores=[torch.from_numpy(frame.objects.scores) for frame in frames],
        ignored_xyxy=[torch.from_numpy(frame.ignored.xyxy) for frame in frames],
        ignored_labels=[torch.from_numpy(frame.ignored.labels) for frame in frames],
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
