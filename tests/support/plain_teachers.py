"""Teachers that read what they say off the pixels, so that tests can compute it by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.label_sets.label_set import LabelSet
from training.teachers.seen import Boxes, Seen

WHITE = 255


@dataclass(frozen=True)
class PixelTeacher:
    """Says that the probabilities of a pixel are its channels (blue, green, red), divided by their sum.

    Attributes:
        label_set: Three classes of masks.
    """

    label_set: LabelSet
    sha256: str = "pixels"

    def __call__(self, images: Tensor) -> Seen:
        """Return probabilities at the size of the images."""
        shares = images.float() + 1e-3
        return Seen(shares / shares.sum(dim=1, keepdim=True), None)


@dataclass(frozen=True)
class WhiteBoxTeacher:
    """Says that all white pixels of an image are one object, with a score of 0.9.

    Attributes:
        label_set: One class of boxes.
    """

    label_set: LabelSet
    sha256: str = "white"

    def __call__(self, images: Tensor) -> Seen:
        """Return at most one box for each image."""
        found = []
        for image in images:
            rows, columns = (image == WHITE).all(dim=0).nonzero(as_tuple=True)
            if len(rows):
                sides = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                xyxy = torch.tensor([[float(side) for side in sides]])
                found.append(Boxes.of(xyxy, torch.tensor([self.label_set.detection[0].id]), torch.tensor([0.9])))
            else:
                found.append(Boxes.of(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)))
        return Seen(None, found)


@dataclass(frozen=True)
class SaidBefore:
    """Says the same about every image.

    Attributes:
        label_set: Its classes.
        said: What it says about one image.
    """

    label_set: LabelSet
    said: Seen
    sha256: str = "said"

    def __call__(self, images: Tensor) -> Seen:
        """Return what it says, for each image."""
        maps, boxes = self.said.probabilities, self.said.boxes
        return Seen(None if maps is None else maps.repeat(len(images), 1, 1, 1), boxes and boxes * len(images))
