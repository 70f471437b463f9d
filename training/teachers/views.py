"""Looks at images in several views - whole, in tiles, mirrored, in other sizes - and merges what a teacher says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import RecipeError
from training.networks.strides import SEGMENTATION_STRIDE
from training.networks.student import StudentOutputs
from training.teachers.box_fusion import fuse_views
from training.teachers.memory import is_memory_error
from training.teachers.seen import Boxes, Seen, Teacher, joined_outputs
from training.teachers.settings import FusionSettings, TeacherSettings, ViewSettings

ALL_PARTS = frozenset({"pixels", "boxes", "outputs"})  # of what a teacher says
CUT_PX = 4.0  # a box that ends this close to the inner edge of a tile is cut by it
CUT_SHARE = 0.01  # of the tile's side; boxes of a network with a small input are less exact


@dataclass(frozen=True)
class View:
    """A look at a part of an image.

    Attributes:
        x0, y0, x1, y1: The part, in pixels. The first two are multiples of the stride of class maps.
        scale: Factor of its size.
        mirrored: Whether left and right are swapped.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    scale: float = 1.0
    mirrored: bool = False

    def of(self, images: Tensor) -> Tensor:
        """Return the view of images uint8 [N, 3, H, W]."""
        part = images[:, :, self.y0 : self.y1, self.x0 : self.x1]
        if self.scale != 1.0:
            size = [max(1, round(side * self.scale)) for side in part.shape[-2:]]
            resized = functional.interpolate(
                part.float(), size=size, mode="bilinear", align_corners=False, antialias=self.scale < 1
            )
            part = resized.round().clamp(0, 255).to(torch.uint8)
        return part.flip(3) if self.mirrored else part

    def boxes_in_image(self, boxes: Boxes, seen: Tensor, height: int, width: int) -> Boxes:
        """Return boxes of the view in pixels of the image, and which of them an inner edge of the view cuts.

        Args:
            boxes: Boxes in pixels of `seen`.
            seen: The view of the image.
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        rows, columns = seen.shape[-2:]
        x0, y0, x1, y1 = boxes.xyxy.unbind(dim=1)
        if self.mirrored:
            x0, x1 = columns - x1, columns - x0
        x0, x1 = (self.x0 + x * ((self.x1 - self.x0) / columns) for x in (x0, x1))
        y0, y1 = (self.y0 + y * ((self.y1 - self.y0) / rows) for y in (y0, y1))
        near_x, near_y = (max(CUT_PX, CUT_SHARE * side) for side in (self.x1 - self.x0, self.y1 - self.y0))
        cut = torch.zeros_like(boxes.cut)
        if self.x0 > 0:
            cut |= x0 <= self.x0 + near_x
        if self.y0 > 0:
            cut |= y0 <= self.y0 + near_y
        if self.x1 < width:
            cut |= x1 >= self.x1 - near_x
        if self.y1 < height:
            cut |= y1 >= self.y1 - near_y
        xyxy = torch.stack([x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], dim=1)
        return Boxes(xyxy, boxes.ids, boxes.scores, cut)


def views_of(settings: ViewSettings, height: int, width: int) -> list[View]:
    """Return the views of images of a size. If the whole image as it is belongs to them, it is the first."""
    parts = [(0, 0, width, height)] if settings.whole else []
    if settings.rows * settings.columns > 1:
        tops = _parts(height, settings.rows, settings.overlap)
        lefts = _parts(width, settings.columns, settings.overlap)
        parts += [(x0, y0, x1, y1) for y0, y1 in tops for x0, x1 in lefts]
    turns = (False, True) if settings.mirrored else (False,)
    return [
        View(x0, y0, x1, y1, scale, mirrored)
        for x0, y0, x1, y1 in parts
        for scale in settings.scales_of(y1 - y0, x1 - x0)
        for mirrored in turns
    ]


def look(
    teacher: Teacher,
    images: Tensor,
    settings: TeacherSettings,
    fusion: FusionSettings,
    where: str = "",
    parts: frozenset[str] = ALL_PARTS,
) -> Seen:
    """Return what a teacher says about images in all views.

    Args:
        teacher: The network.
        images: uint8 [N, 3, H, W], BGR.
        settings: Its views, and how many images it takes at once.
        fusion: How boxes of several views become one.
        where: Begins errors.
        parts: What is wanted: `pixels`, `boxes`, `outputs`. Merging the others would cost time.

    Returns:
        Mean probabilities, float32 [N, C, ceil(H / 4), ceil(W / 4)], and fused boxes in pixels of the image. `outputs`
        are those of the whole image as it is.

    Raises:
        RecipeError: There is not enough memory.
    """
    height, width = images.shape[-2:]
    views = views_of(settings.views, height, width)
    merged = _Merged(len(images), height, width, images.device, parts)
    for view in views:
        for start in range(0, len(images), settings.images_at_once):
            seen_images = view.of(images[start : start + settings.images_at_once])
            with refused_for_memory(where, len(seen_images), seen_images.shape[-2:]):
                merged.add(view, seen_images, teacher(seen_images), start, fusion)
    return merged.seen(fusion)


class _Merged:
    """Adds up what a teacher says in each view."""

    def __init__(self, frames: int, height: int, width: int, device: torch.device, parts: frozenset[str]) -> None:
        self.parts = parts
        self.height, self.width, self.device = height, width, device
        self.cells = (math.ceil(height / SEGMENTATION_STRIDE), math.ceil(width / SEGMENTATION_STRIDE))
        self.sums: Tensor | None = None
        self.views = torch.zeros(frames, 1, *self.cells, device=device)
        self.boxes: list[list[Boxes]] | None = None
        self.outputs: list[StudentOutputs] = []
        self.frames = frames

    def add(self, view: View, images: Tensor, seen: Seen, start: int, fusion: FusionSettings) -> None:
        """Add a view of the frames from `start` on."""
        frames = slice(start, start + len(images))
        if seen.probabilities is not None and "pixels" in self.parts:
            self._add_probabilities(view, seen.probabilities.float(), frames)
        if seen.boxes is not None and "boxes" in self.parts:
            self.boxes = self.boxes or [[] for _ in range(self.frames)]
            for frame, boxes in enumerate(seen.boxes, start):
                placed = view.boxes_in_image(boxes, images, self.height, self.width)
                self.boxes[frame].append(fuse_views(placed, FusionSettings(iou=fusion.iou)))
        if seen.outputs is not None and "outputs" in self.parts and view == View(0, 0, self.width, self.height):
            self.outputs.append(seen.outputs)

    def _add_probabilities(self, view: View, probabilities: Tensor, frames: slice) -> None:
        stride = SEGMENTATION_STRIDE
        top, left = view.y0 // stride, view.x0 // stride
        bottom, right = math.ceil(view.y1 / stride), math.ceil(view.x1 / stride)
        turned = probabilities.flip(3) if view.mirrored else probabilities
        if self.sums is None:
            self.sums = torch.zeros(self.frames, turned.shape[1], *self.cells, device=self.device)
        self.sums[frames, :, top:bottom, left:right] += resampled(turned, bottom - top, right - left)
        self.views[frames, :, top:bottom, left:right] += 1

    def seen(self, fusion: FusionSettings) -> Seen:
        """Return the mean of the probabilities and the fused boxes."""
        probabilities = None if self.sums is None else self.sums / self.views
        boxes = None
        if self.boxes is not None:
            boxes = [fuse_views(Boxes.joined(parts), fusion) for parts in self.boxes]
        return Seen(probabilities, boxes, joined_outputs(self.outputs) if self.outputs else None)


def resampled(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Return maps [N, C, h, w] as [N, C, rows, columns]: means where they get smaller, else bilinear."""
    if tuple(maps.shape[-2:]) == (rows, columns):
        return maps
    if maps.shape[-2] >= rows and maps.shape[-1] >= columns:
        return functional.interpolate(maps, size=(rows, columns), mode="area")
    return functional.interpolate(maps, size=(rows, columns), mode="bilinear", align_corners=False)


@contextmanager
def refused_for_memory(where: str, images: int, size: tuple[int, ...] | torch.Size) -> Iterator[None]:
    """Turn the errors of a machine without enough memory into a sentence."""
    try:
        yield
    except Exception as error:
        if is_memory_error(error):
            raise _too_large(where, images, size) from error
        raise


def _too_large(where: str, images: int, size: tuple[int, ...] | torch.Size) -> RecipeError:
    return RecipeError(
        f"{where or 'teacher'}: expected the teacher to fit into the memory beside the student, with {images} images "
        f"of {size[1]}x{size[0]} at once it does not; lower images_at_once or the sizes of its views, or name a "
        "smaller network"
    )


def _parts(side: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Return first and last pixel of each of `count` parts of a side; neighbours share `overlap` of their length."""
    stride = SEGMENTATION_STRIDE
    length = math.ceil(side / (count - (count - 1) * overlap) / stride) * stride
    starts = [round(place * (side - length) / max(1, count - 1) / stride) * stride for place in range(count)]
    parts = [(max(0, start), min(side, max(0, start) + length)) for start in starts]
    return [*parts[:-1], (parts[-1][0], side)]
