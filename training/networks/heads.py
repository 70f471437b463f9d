"""The heads: class logits of every pixel at stride 4, scores and boxes of every cell at strides 8, 16 and 32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import NormalizedConvolution, ReparameterizedConvolution
from training.networks.combination import Sum

SUPPRESSION = 20.0  # in logits: lowers a score of 0.99 to 2e-7
PRIOR_PROBABILITY = 0.01  # of an object in a cell before training, so that background does not dominate early steps


@dataclass(frozen=True)
class DetectionOutputs:
    """Outputs of a detection branch, one tensor per level, fine to coarse.

    Attributes:
        class_logits: Class logits, float [N, classes, H / stride, W / stride], a sigmoid each.
        distance_logits: Logits of the box's sides, float [N, 4, H / stride, W / stride]; see `decode_boxes`.
        strides: Input pixels per cell of each level.
    """

    class_logits: tuple[Tensor, ...]
    distance_logits: tuple[Tensor, ...]
    strides: tuple[int, ...]

    def flat_class_logits(self) -> Tensor:
        """Return the class logits of all levels, [N, cells, classes]."""
        return torch.cat([level.flatten(2) for level in self.class_logits], dim=2).transpose(1, 2)

    def flat_peak_logits(self) -> Tensor:
        """Return `flat_class_logits`, where each logit below that of a neighbour of the same class is lowered.

        After a short training, two neighbouring cells may detect one object. Only the surer cell is then kept (the
        peaks of CenterNet; Zhou et al., Objects as Points, 2019). On rendered drives this lowered the share of output
        pairs of one class with an IoU above 0.7 from 7.0 % to 0.8 %, at equal AP50 of cars. A max pool runs on every
        runtime; non-maximum suppression does not.

        Returns:
            float [N, cells, classes].
        """
        peaks = []
        for level in self.class_logits:
            best_around = functional.max_pool2d(level, kernel_size=3, stride=1, padding=1)
            peaks.append(torch.where(level < best_around, level - SUPPRESSION, level).flatten(2))
        return torch.cat(peaks, dim=2).transpose(1, 2)

    def peak_bounds(self, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of `flat_peak_logits` for class logits that are off by up to `tolerance`.

        If the logits of two neighbours are nearly equal, rounding decides which of them is lowered. Everywhere else
        both bounds are the same.

        Args:
            tolerance: Largest error of a logit, not negative.

        Returns:
            Lower and upper bounds, [N, cells, classes] each.
        """
        lowest, highest = [], []
        for level in self.class_logits:
            lead = level - _best_neighbour(level)
            lowest.append(torch.where(lead < tolerance, level - SUPPRESSION, level).flatten(2))
            highest.append(torch.where(lead < -tolerance, level - SUPPRESSION, level).flatten(2))
        return torch.cat(lowest, dim=2).transpose(1, 2), torch.cat(highest, dim=2).transpose(1, 2)

    def flat_distance_logits(self) -> Tensor:
        """Return the distance logits of all levels, [N, cells, 4]."""
        return torch.cat([level.flatten(2) for level in self.distance_logits], dim=2).transpose(1, 2)

    def cells(self) -> Tensor:
        """Return centre and stride of all cells, float32 [cells, 3], in the order of the flat tensors."""
        sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in self.class_logits]
        return cell_centres(sizes, self.strides).to(self.class_logits[0].device)


def _best_neighbour(level: Tensor) -> Tensor:
    """Return the highest of the eight logits around each cell; logits outside the level count as minus infinity."""
    rows, columns = level.shape[-2:]
    padded = functional.pad(level, (1, 1, 1, 1), value=-math.inf)
    places = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    return torch.stack([padded[..., y : y + rows, x : x + columns] for y, x in places]).amax(dim=0)


def cell_centres(sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> Tensor:
    """Return centre x, centre y and stride of all cells in input pixels, float32 [cells, 3].

    Args:
        sizes: Rows and columns of each level.
        strides: Stride of each level.
    """
    levels = []
    for (rows, columns), stride in zip(sizes, strides, strict=True):
        centre_y, centre_x = torch.meshgrid(
            (torch.arange(rows, dtype=torch.float32) + 0.5) * stride,
            (torch.arange(columns, dtype=torch.float32) + 0.5) * stride,
            indexing="ij",
        )
        levels.append(torch.stack([centre_x, centre_y, torch.full_like(centre_x, stride)], dim=-1).reshape(-1, 3))
    return torch.cat(levels)


def decode_boxes(distance_logits: Tensor, cells: Tensor) -> Tensor:
    """Return boxes xyxy in input pixels, [..., 4], from distance logits [..., 4] and cells [..., 3].

    The sides lie (softplus(logit) - 0.5) strides to the left, top, right and bottom of the cell's centre. A distance
    may be as low as minus half a stride, so that a cell can also represent a box that is smaller than the cell.
    """
    centres, stride = cells[..., :2], cells[..., 2:]
    distances = (functional.softplus(distance_logits) - 0.5) * stride
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def decode_clipped_boxes(distance_logits: Tensor, cells: Tensor, limit: Tensor) -> Tensor:
    """Return the boxes of `decode_boxes`, clipped to the input, [..., 4].

    A box outside the input, or with right before left or bottom before top, gets a width or height of 0.

    Args:
        distance_logits: Distance logits, [..., 4].
        cells: Centre and stride of the cells, [..., 3]; see `cell_centres`.
        limit: Width and height of the input in pixels, [2].
    """
    boxes = decode_boxes(distance_logits, cells)
    near = boxes[..., :2].clamp(min=0.0).minimum(limit)
    far = boxes[..., 2:].minimum(limit).maximum(near)
    return torch.cat([near, far], dim=-1)


class SegmentationHead(nn.Module):
    """Segments at stride 4, from the backbone's features of stride 4 and the pyramid's of stride 8."""

    def __init__(self, fine_channels: int, pyramid_channels: int, channels: int, classes: int) -> None:
        super().__init__()
        self.lateral = NormalizedConvolution(fine_channels, channels, kernel_size=1, activation=False)
        self.above = NormalizedConvolution(pyramid_channels, channels, kernel_size=1, activation=False)
        self.sum = Sum()
        self.merge = ReparameterizedConvolution(channels, channels)
        self.classifier = nn.Conv2d(channels, classes, kernel_size=1)

    def forward(self, fine: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, channels, H / 4, W / 4] and class logits of the same size."""
        above = functional.interpolate(self.above(pyramid), scale_factor=2.0, mode="nearest")
        features = self.merge(self.sum(self.lateral(fine), above))
        return features, self.classifier(features)


class PixelClassifier(nn.Module):
    """Segments at stride 4 from features of a decoder, which need no more than a classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, classes, kernel_size=1)

    def forward(self, fine: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of stride 4 and their class logits."""
        del pyramid
        return fine, self.classifier(fine)


class DetectionBranch(nn.Module):
    """Anchor-free detection: a 3x3 block and a 1x1 convolution per level for classes, and the same for boxes."""

    def __init__(self, channels: int, classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        class_logit = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
        distance_logit = 2.0  # boxes of about three cells at the start
        self.class_layers = nn.ModuleList(self._layers(channels, classes, class_logit) for _ in strides)
        self.distance_layers = nn.ModuleList(self._layers(channels, 4, distance_logit) for _ in strides)

    @staticmethod
    def _layers(channels: int, outputs: int, initial_logit: float) -> nn.Sequential:
        predictor = nn.Conv2d(channels, outputs, kernel_size=1)
        nn.init.normal_(predictor.weight, std=0.01)
        assert predictor.bias is not None
        nn.init.constant_(predictor.bias, initial_logit)
        return nn.Sequential(ReparameterizedConvolution(channels, channels), predictor)

    def forward(self, pyramid: Sequence[Tensor]) -> DetectionOutputs:
        """Return the outputs for features [N, channels, H / stride, W / stride], fine to coarse."""
        return DetectionOutputs(
            class_logits=tuple(layers(level) for layers, level in zip(self.class_layers, pyramid, strict=True)),
            distance_logits=tuple(layers(level) for layers, level in zip(self.distance_layers, pyramid, strict=True)),
            strides=self.strides,
        )
