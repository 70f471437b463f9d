"""Pictures of trees, bushes, hedges and railings, each with its visible coverage and its object mask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.canvas.canvas import Color
from ros_kd_perception.sample_drive.canvas.noise import grain, stains
from ros_kd_perception.sample_drive.canvas.panel import Texture

LEAF_COLORS: tuple[Color, ...] = (
    (38, 74, 62), (34, 60, 50), (48, 86, 80), (54, 84, 90), (36, 54, 42), (60, 96, 96), (54, 82, 104), (30, 44, 40),
)  # fmt: skip
BARK_COLORS: tuple[Color, ...] = ((52, 64, 74), (60, 70, 80), (44, 52, 58), (70, 84, 92), (36, 42, 46))


def _leafy_colors(rng: np.random.Generator, height: int, width: int, base: Color) -> NDArray[np.uint8]:
    """Fill a picture with leaf-like speckle, lit from above, uint8 (height, width, 3)."""
    gain = 0.95 + 0.35 * stains(rng, height, width, width / 9) + 0.3 * stains(rng, height, width, 4)
    gain += 0.22 * grain(rng, height, width)
    gain *= np.linspace(1.25, 0.65, height, dtype=np.float32)[:, None]
    tint = np.array(base, np.float32) * (1 + 0.1 * rng.standard_normal(3).astype(np.float32))
    return np.asarray(np.clip(gain[..., None] * tint, 0, 255), np.uint8)


def leafy_tree(rng: np.random.Generator, size_px: int = 320) -> Texture:
    """Draw a tree in leaf on a square: trunk at the bottom middle, crown of blobs with ragged edges and gaps."""
    base = LEAF_COLORS[rng.integers(len(LEAF_COLORS))]
    picture = _leafy_colors(rng, size_px, size_px, base)
    crown = np.zeros((size_px, size_px), np.uint8)
    top, bottom = 0.04, rng.uniform(0.62, 0.78)
    is_conifer = rng.random() < 0.15
    for _ in range(int(rng.integers(26, 46))):
        level = rng.uniform(0, 1)
        spread = 0.42 * (level if is_conifer else np.sqrt(max(1 - (2 * level - 1) ** 2, 0.05)))
        x = 0.5 + rng.uniform(-1, 1) * spread * 0.8
        y = top + 0.08 + level * (bottom - top - 0.12)
        radius = size_px * rng.uniform(0.05, 0.12) * (0.6 if is_conifer else 1.0)
        cv2.circle(crown, (int(x * size_px), int(y * size_px)), int(radius), 255, -1)
    ragged: Any = cv2.GaussianBlur(crown, (0, 0), size_px / 60).astype(np.float32) / 255
    noise = stains(rng, size_px, size_px, 5) * 0.35 + stains(rng, size_px, size_px, 14) * 0.3
    alpha = (np.clip((ragged + noise - 0.42) * 6, 0, 1) * 255).astype(np.uint8)
    alpha[ragged < 0.08] = 0
    bark = BARK_COLORS[rng.integers(len(BARK_COLORS))]
    _trunk(rng, picture, alpha, bark, bottom - 0.15, rng.uniform(0.015, 0.03))
    mask: Any = cv2.GaussianBlur(alpha, (0, 0), size_px / 110)
    return Texture.build(picture, alpha, np.maximum((mask > 90).astype(np.uint8) * 255, (alpha > 127) * np.uint8(255)))


def _trunk(
    rng: np.random.Generator, picture: NDArray[np.uint8], alpha: NDArray[np.uint8], bark: Color, top: float, half: float
) -> None:
    size = picture.shape[0]
    lean = rng.uniform(-0.02, 0.02)
    outline = np.array(
        [[0.5 - half, 1.0], [0.5 + half, 1.0], [0.5 + lean + half / 2, top], [0.5 + lean - half / 2, top]]
    )
    corners = [np.rint(outline * size).astype(np.int32)]
    stem = np.zeros_like(alpha)
    cv2.fillPoly(stem, corners, 255, cv2.LINE_AA)
    free = (stem > 0) & (alpha < 128)
    shade = np.array(bark, np.float32) * (1 + 0.25 * stains(rng, size, size, 6))[..., None]
    picture[free] = np.clip(shade, 0, 255).astype(np.uint8)[free]
    np.maximum(alpha, stem, out=alpha)


def bare_tree(rng: np.random.Generator, size_px: int = 384) -> Texture:
    """Draw a tree in winter: branches that fork; its mask is the branches and the small gaps between them."""
    bark = BARK_COLORS[rng.integers(len(BARK_COLORS))]
    picture = np.empty((size_px, size_px, 3), np.uint8)
    picture[:] = bark
    alpha = np.zeros((size_px, size_px), np.uint8)
    spread = rng.uniform(0.35, 0.6)
    first = rng.uniform(0.16, 0.26) * size_px
    stack = [
        (0.5 * size_px, size_px - 1.0, -np.pi / 2 + rng.normal(0, 0.03), first, rng.uniform(0.03, 0.045) * size_px)
    ]
    while stack:
        x, y, angle, length, thickness = stack.pop()
        end_x, end_y = x + np.cos(angle) * length, y + np.sin(angle) * length
        start, end = (int(x * 8), int(y * 8)), (int(end_x * 8), int(end_y * 8))
        cv2.line(alpha, start, end, 255 if thickness > 1 else 170, max(round(thickness), 1), cv2.LINE_AA, 3)
        if length < 0.02 * size_px or thickness < 0.35:
            continue
        for _ in range(int(rng.integers(2, 4))):
            turn = rng.normal(0.0, spread)
            stack.append(
                (end_x, end_y, angle + turn, length * rng.uniform(0.62, 0.9), thickness * rng.uniform(0.5, 0.75))
            )
    picture[:] = np.clip(picture * (1 + 0.2 * stains(rng, size_px, size_px, 20))[..., None], 0, 255).astype(np.uint8)
    closed: Any = cv2.GaussianBlur(alpha, (0, 0), size_px / 64)
    return Texture.build(picture, alpha, np.where((closed > 26) | (alpha > 127), 255, 0).astype(np.uint8))


def hedge(rng: np.random.Generator, width_m: float, height_m: float, ragged: float) -> Texture:
    """Draw a hedge or a row of bushes; `ragged` 0..1 is the unevenness of its top."""
    height, width = max(int(height_m * 28), 24), max(int(width_m * 28), 24)
    picture = _leafy_colors(rng, height, width, LEAF_COLORS[rng.integers(len(LEAF_COLORS))])
    top = 0.04 + 0.5 * ragged * np.clip(
        0.5 + 0.5 * stains(rng, 1, width, 30)[0] + 0.3 * stains(rng, 1, width, 7)[0], 0, 1
    )
    rows = (np.arange(height, dtype=np.float32) / height)[:, None]
    edge = rows - top[None] + 0.05 * stains(rng, height, width, 4)
    alpha = (np.clip(edge * 25, 0, 1) * 255).astype(np.uint8)
    return Texture.build(picture, alpha)


def railings(rng: np.random.Generator, width_m: float, height_m: float) -> Texture:
    """Draw a fence of bars or mesh. It is transparent, but its mask is the whole panel."""
    scale = 48
    height, width = max(int(height_m * scale), 16), max(int(width_m * scale), 16)
    color = np.array(((30, 32, 34), (60, 90, 40), (150, 155, 158), (205, 208, 210), (70, 40, 30))[rng.integers(5)])
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = np.clip(color * rng.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
    alpha = np.zeros((height, width), np.uint8)
    spacing = int(rng.uniform(0.09, 0.16) * scale)
    alpha[:, ::spacing] = 255
    alpha[:, 1::spacing] = 255
    for share in (0.08, 0.9):
        row = int(share * height)
        alpha[row : row + 3] = 255
    for x in range(0, width, int(2.0 * scale)):
        alpha[:, x : x + 4] = 255
    return Texture.build(picture, alpha, np.full((height, width), 255, np.uint8))


def boards(rng: np.random.Generator, width_m: float, height_m: float) -> Texture:
    """Draw a wooden fence."""
    scale = 30
    height, width = max(int(height_m * scale), 16), max(int(width_m * scale), 16)
    color = np.array(((70, 100, 130), (60, 82, 100), (90, 110, 125), (50, 60, 75))[rng.integers(4)], np.float32)
    gain = 1 + 0.1 * grain(rng, height, width)
    board = int(0.13 * scale) + 1
    gain *= 1 + 0.15 * rng.standard_normal((1, width // board + 1)).astype(np.float32).repeat(board, 1)[:, :width]
    gain[:, ::board] *= 0.55
    return Texture.build(np.clip(gain[..., None] * color, 0, 255).astype(np.uint8))
