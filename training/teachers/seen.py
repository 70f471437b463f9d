"""What a network says about images in its own classes, and the protocol of teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from training.label_sets.label_set import LabelSet
from training.networks.student import StudentOutputs
from training.teachers.settings import TASKS


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image.

    Attributes:
        xyxy: float32 [n, 4], in pixels of the image.
        ids: int64 [n], ids of classes.
        scores: float32 [n], 0..1.
        cut: bool [n], True for boxes that are never sure. They end at an inner edge of a tile, so that the object may
            be larger, or their class is in doubt.
    """

    xyxy: Tensor
    ids: Tensor
    scores: Tensor
    cut: Tensor

    @classmethod
    def of(cls, xyxy: Tensor, ids: Tensor, scores: Tensor) -> Boxes:
        """Return boxes of a whole image; those without an area are left out."""
        kept = (xyxy[:, 2:] > xyxy[:, :2]).all(dim=1)
        xyxy, ids, scores = xyxy[kept].float(), ids[kept].long(), scores[kept].float()
        return cls(xyxy, ids, scores, torch.zeros_like(ids, dtype=torch.bool))

    @classmethod
    def joined(cls, parts: list[Boxes]) -> Boxes:
        """Return the boxes of all parts; at least one part is given."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("xyxy", "ids", "scores", "cut")))

    def __getitem__(self, chosen: Tensor) -> Boxes:
        """Return the boxes at some indices, or where a mask is True."""
        return Boxes(self.xyxy[chosen], self.ids[chosen], self.scores[chosen], self.cut[chosen])

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Seen:
    """What a network says about N images.

    Attributes:
        probabilities: Of the classes of masks in the order of their ids, float [N, C, h, w]; the h x w cells cover the
            image. None for a network without masks.
        boxes: Boxes of each image; None for a network without boxes.
        outputs: Outputs of a network of ours with its features; None for other networks.
    """

    probabilities: Tensor | None
    boxes: list[Boxes] | None
    outputs: StudentOutputs | None = None


def joined_outputs(parts: Sequence[StudentOutputs]) -> StudentOutputs:
    """Return the outputs of several batches as those of one."""
    outputs: StudentOutputs = parts[0] if len(parts) == 1 else _joined(parts)
    return outputs


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, tuple) and first and isinstance(first[0], Tensor):
        return tuple(torch.cat(levels) for levels in zip(*parts, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        names = [item.name for item in fields(first)]
        return type(first)(**{name: _joined([getattr(part, name) for part in parts]) for name in names})
    return first  # None and strides, which are the same for all


class Teacher(Protocol):
    """A network that says something about images."""

    @property
    def label_set(self) -> LabelSet:
        """Its own classes."""
        ...

    @property
    def sha256(self) -> str:
        """SHA-256 of all that its outputs depend on."""
        ...

    def __call__(self, images: Tensor) -> Seen:
        """Look at images, uint8 [N, 3, H, W], BGR, of any size."""
        ...


def of_tasks(label_set: LabelSet, tasks: Sequence[str]) -> LabelSet:
    """Return a set without the classes of other tasks, and without their entries in its tables."""
    others = [task for task in TASKS if task not in tasks]
    empty: dict[str, object] = dict.fromkeys(others, ())
    no_entries: dict[str, object] = {task: {} for task in others}
    tables = {name: table.model_copy(update=no_entries) for name, table in label_set.mappings.items()}
    return label_set.model_copy(update=empty | {"mappings": tables})
