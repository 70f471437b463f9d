"""The figures of one source: sizes, brightness, classes of masks and of boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ros_kd_perception.model.contract import ClassInfo
from training.inspection.facts import FrameFacts
from training.label_sets.mapping import LabelMapping

# Areas in square pixels below which COCO calls an object small and medium
# (github.com/cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py).
SMALL_PX, MEDIUM_PX = 32**2, 96**2
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some values."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: ArrayLike) -> Spread | None:
        """Return the spread of values; None if there are none."""
        array = np.asarray(values, np.float64)
        return cls(float(array.min()), float(np.median(array)), float(array.max())) if array.size else None


@dataclass(frozen=True)
class MaskClass:
    """A class of masks in a source.

    Attributes:
        info: The class, with its colour.
        labeled: Whether the source labels it at all.
        pixels: Number of its pixels.
        share: Its share of the labelled pixels.
        frames: Number of frames that show it.
        frame_share: Their share of the frames that have a mask.
    """

    info: ClassInfo
    labeled: bool
    pixels: int
    share: float
    frames: int
    frame_share: float


@dataclass(frozen=True)
class BoxClassFigures:
    """A class of boxes in a source.

    Attributes:
        info: The class, with its colour.
        labeled: Whether the source labels it at all.
        boxes: Number of boxes by size as COCO divides them.
        frames: Number of frames that show it.
        aspect: Width / height of its boxes; None if there are none.
    """

    info: ClassInfo
    labeled: bool
    boxes: dict[str, int]
    frames: int
    aspect: Spread | None

    @property
    def total(self) -> int:
        """Number of boxes of all sizes."""
        return sum(self.boxes.values())


@dataclass(frozen=True)
class Figures:
    """The figures of a source.

    Attributes:
        frames: Number of frames that can be read.
        sizes: Number of frames by (width, height), the most frequent first.
        brightness: Mean grey value of a frame, 0..1.
        with_mask: Number of frames with a mask.
        with_boxes: Number of frames whose objects are known.
        unlabeled: Share of the pixels without a class in the frames with a mask.
        ignored_regions: Number of regions that teach nothing.
        boxes_per_frame: Of the frames whose objects are known.
        masks: Classes of masks in the order of their ids.
        boxes: Classes of boxes in the order of their ids.
    """

    frames: int
    sizes: dict[tuple[int, int], int]
    brightness: Spread | None
    with_mask: int
    with_boxes: int
    unlabeled: float
    ignored_regions: int
    boxes_per_frame: Spread | None
    masks: tuple[MaskClass, ...]
    boxes: tuple[BoxClassFigures, ...]

    @classmethod
    def of(cls, frames: Sequence[FrameFacts], mapping: LabelMapping) -> Figures:
        """Count the frames of a source.

        Args:
            frames: All frames that can be read.
            mapping: From the classes of the source to those of the student, which are counted.
        """
        masked = [frame for frame in frames if frame.has_mask]
        known = [frame for frame in frames if frame.has_boxes]
        all_pixels = sum(frame.height * frame.width for frame in masked)
        labeled_pixels = sum(frame.labeled_pixels for frame in masked)
        sizes = Counter((frame.width, frame.height) for frame in frames)
        return cls(
            len(frames),
            dict(sizes.most_common()),
            Spread.of([frame.brightness for frame in frames]),
            len(masked),
            len(known),
            1 - labeled_pixels / all_pixels if all_pixels else 0.0,
            sum(frame.ignored for frame in frames),
            Spread.of([len(frame.labels) for frame in known]),
            _mask_classes(masked, mapping, max(1, labeled_pixels)),
            _box_classes(known, mapping),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        content = asdict(self)
        content["sizes"] = [
            {"width": width, "height": height, "frames": count} for (width, height), count in self.sizes.items()
        ]
        for task in ("masks", "boxes"):
            for entry in content[task]:
                info = entry.pop("info")
                entry |= {"id": info["id"], "name": info["name"]}
        return content


def _mask_classes(masked: Sequence[FrameFacts], mapping: LabelMapping, labeled_pixels: int) -> tuple[MaskClass, ...]:
    found = []
    for info, labeled in zip(mapping.student.segmentation_classes, mapping.covered_segmentation, strict=True):
        pixels = [frame.pixels.get(info.id, 0) for frame in masked]
        shown = sum(count > 0 for count in pixels)
        share = shown / max(1, len(masked))
        found.append(MaskClass(info, labeled, sum(pixels), sum(pixels) / labeled_pixels, shown, share))
    return tuple(found)


def _box_classes(known: Sequence[FrameFacts], mapping: LabelMapping) -> tuple[BoxClassFigures, ...]:
    none = np.zeros((0, 4), np.float32)
    corners = np.concatenate([frame.boxes_xyxy for frame in known]) if known else none
    labels = np.concatenate([frame.labels for frame in known]) if known else np.zeros(0, np.int64)
    found = []
    for info, labeled in zip(mapping.student.detection_classes, mapping.covered_detection, strict=True):
        width, height = (corners[labels == info.id, 2:] - corners[labels == info.id, :2]).astype(np.float64).T
        places = np.digitize(width * height, (SMALL_PX, MEDIUM_PX))
        by_size = {size: int((places == place).sum()) for place, size in enumerate(SIZES)}
        frames = sum(bool((frame.labels == info.id).any()) for frame in known)
        found.append(BoxClassFigures(info, labeled, by_size, frames, Spread.of(width / np.maximum(height, 1e-6))))
    return tuple(found)
