"""Synthetic neighbours of frames: each frame once more, as the next frame of a drive could show it.

A small homography stands for the motion of the camera between two frames, a gain for the exposure, noise for the
sensor. The homography is known, so it is known for each pixel of the neighbour where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_FOCUS = 0.4  # of half the frame: how far from the middle the point lies that the camera moves to


@dataclass(frozen=True)
class ViewChange:
    """The largest changes between a frame and its neighbour. Each change is drawn up to its largest.

    Attributes:
        zoom: Growth, as a share of the size.
        shift: Shift, as a share of width and height.
        turn_degrees: Turn about the optical axis.
        tilt: Growth of one edge against the opposite one, as a share.
        light: Gain, as a share.
        noise: Standard deviation of the sensor noise, in levels 0..255.
    """

    zoom: float
    shift: float
    turn_degrees: float
    tilt: float
    light: float
    noise: float


@dataclass(frozen=True)
class NeighbourView:
    """Neighbours of N frames.

    Attributes:
        images: float32 [N, 3, H, W], BGR, 0..1.
        homographies: float32 [N, 3, 3], from places in the neighbour to places in the frame; both axes run from -1 to
            1 between the outer edges of the image, whatever its resolution.
    """

    images: Tensor
    homographies: Tensor

    def warped(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps of the frames as the neighbours see them.

        Args:
            maps: float [N, C, h, w], of any resolution, such as class probabilities.

        Returns:
            The maps float32 [N, C, h, w], interpolated bilinearly, and bool [N, h, w]: whether all four cells that a
            value is interpolated from lie in the frame.
        """
        return warp(maps.float(), self.homographies)


def neighbours_of(images: Tensor, change: ViewChange) -> NeighbourView:
    """Return a neighbour of each frame.

    The random numbers of a frame follow from its pixels: a resumed run draws the same ones, and so does a run of two
    processes that deals the batch out. A frame that is augmented anew each time gets a new neighbour each time.

    Args:
        images: uint8 [N, 3, H, W], BGR.
        change: The largest changes.
    """
    seeds = [int(total) for total in images.sum(dim=(1, 2, 3), dtype=torch.int64).cpu()]
    aspect = images.shape[3] / images.shape[2]
    drawn = [torch.rand(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    homographies = torch.stack([_homography((2 * each - 1).tolist(), change, aspect) for each in drawn])
    seen, inside = warp(images.float() / 255, homographies.to(images.device))
    del inside  # what lies outside is black, as beyond the edge of a crop; it is left out of the comparison
    gains = torch.stack([(2 * each[7] - 1) * math.log1p(change.light) for each in drawn]).exp()
    seen = seen * gains.float().to(images.device)[:, None, None, None]
    sigmas = [float(each[8]) * change.noise / 255 for each in drawn]
    return NeighbourView(_noisy(seen, seeds, sigmas).clamp(0, 1), homographies.to(images.device))


def warp(maps: Tensor, homographies: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps [N, C, h, w] seen through homographies, and where they are known; see `NeighbourView.warped`."""
    height, width = maps.shape[2:]
    x, y = (
        ((torch.arange(size, device=maps.device, dtype=torch.float32) + 0.5) * (2 / size) - 1)
        for size in (width, height)
    )
    places = torch.stack(
        [x[None, :].expand(height, width), y[:, None].expand(height, width), torch.ones_like(maps[0, 0])], dim=-1
    )
    moved = torch.einsum("nij,hwj->nhwi", homographies, places)
    grid = moved[..., :2] / moved[..., 2:]
    margin = grid.new_tensor([1 - 1 / width, 1 - 1 / height]) + 1e-6
    inside = (grid.abs() <= margin).all(dim=-1)
    return functional.grid_sample(maps, grid, mode="bilinear", align_corners=False), inside


def _homography(drawn: Sequence[float], change: ViewChange, aspect: float) -> Tensor:
    """Return a homography, float32 [3, 3], from numbers -1..1: zoom, turn, shift, tilt, and the point of the zoom."""
    zoom = math.exp(drawn[0] * math.log1p(change.zoom))
    turn = drawn[1] * math.radians(change.turn_degrees)
    focus_x, focus_y = _FOCUS * drawn[6], _FOCUS * drawn[2]
    cosine, sine = zoom * math.cos(turn), zoom * math.sin(turn)
    # Axes of -1..1 are not of equal length in pixels; a turn must not shear.
    rows = [[cosine, -sine / aspect], [sine * aspect, cosine]]
    # The factor 2: a share of the width is twice as long in coordinates from -1 to 1.
    shift_x = 2 * change.shift * drawn[3] + focus_x - rows[0][0] * focus_x - rows[0][1] * focus_y
    shift_y = 2 * change.shift * drawn[4] + focus_y - rows[1][0] * focus_x - rows[1][1] * focus_y
    tilt = 0.5 * change.tilt * drawn[5]
    return torch.tensor([[*rows[0], shift_x], [*rows[1], shift_y], [tilt * 0.5, tilt, 1.0]], dtype=torch.float32)


def _noisy(images: Tensor, seeds: Sequence[int], sigmas: Sequence[float]) -> Tensor:
    # Drawn on the CPU, so that every device sees the same noise.
    noise = [
        sigma * torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed + 1))
        for seed, sigma in zip(seeds, sigmas, strict=True)
    ]
    return images + torch.stack(noise).to(images.device)
