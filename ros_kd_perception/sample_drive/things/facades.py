"""Pictures of house fronts: bricks, render and stone with windows, doors, shop fronts; roofs and garden walls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ros_kd_perception.sample_drive.canvas.canvas import Color
from ros_kd_perception.sample_drive.canvas.noise import apply_gain, grain, stains
from ros_kd_perception.sample_drive.canvas.panel import Texture

PX_PER_M = 22
Picture = NDArray[np.uint8]

# BGR of walls: London stock and red brick, render, stone, concrete.
WALL_COLORS: tuple[Color, ...] = (
    (92, 128, 150), (70, 84, 138), (62, 72, 120), (84, 110, 142), (176, 200, 212), (196, 210, 216), (150, 168, 178),
    (120, 140, 150), (130, 136, 140), (104, 108, 112), (150, 180, 205), (60, 66, 84),
)  # fmt: skip
ROOF_COLORS: tuple[Color, ...] = ((78, 74, 70), (62, 60, 60), (60, 72, 104), (66, 80, 118), (90, 90, 92))
DOOR_COLORS: tuple[Color, ...] = (
    (40, 30, 110), (70, 50, 20), (30, 60, 30), (25, 25, 25), (200, 205, 205), (60, 90, 130), (110, 60, 30),
)  # fmt: skip
SHOP_COLORS: tuple[Color, ...] = (
    (30, 25, 150), (110, 50, 20), (40, 90, 30), (30, 30, 30), (170, 90, 20), (30, 130, 200), (190, 190, 195),
    (90, 30, 90), (60, 110, 120),
)  # fmt: skip


@dataclass(frozen=True)
class FacadeStyle:
    """The style that neighbouring houses of one kind share."""

    wall_bgr: Color
    trim_bgr: Color
    roof_bgr: Color
    storey_m: float
    window_width_m: float
    window_height_m: float
    bay_m: float
    has_bricks: bool
    is_office: bool
    glass_level: float

    @classmethod
    def draw(cls, rng: np.random.Generator, is_office: bool = False) -> FacadeStyle:
        """Choose a style."""
        wall = np.array(WALL_COLORS[rng.integers(len(WALL_COLORS))]) * rng.uniform(0.8, 1.15)
        trim = np.array([205.0, 212.0, 215.0]) * rng.uniform(0.55, 1.1)
        return cls(
            wall_bgr=_color(wall + rng.normal(0, 6, 3)),
            trim_bgr=_color(trim),
            roof_bgr=_color(np.array(ROOF_COLORS[rng.integers(len(ROOF_COLORS))]) * rng.uniform(0.8, 1.2)),
            storey_m=float(rng.uniform(2.6, 3.4) if not is_office else rng.uniform(3.0, 3.8)),
            window_width_m=float(rng.uniform(0.8, 1.6)),
            window_height_m=float(rng.uniform(1.1, 1.9)),
            bay_m=float(rng.uniform(1.8, 3.4)),
            has_bricks=bool(rng.random() < 0.65),
            is_office=is_office,
            glass_level=float(rng.uniform(0.5, 1.6)),
        )


def _color(values: NDArray[np.float64] | Color) -> Color:
    blue, green, red = (float(np.clip(value, 0, 255)) for value in values)
    return blue, green, red


def wall(rng: np.random.Generator, width_m: float, height_m: float, style: FacadeStyle) -> Picture:
    """Draw a bare wall, uint8 (h, w, 3)."""
    height, width = max(int(height_m * PX_PER_M), 8), max(int(width_m * PX_PER_M), 8)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = style.wall_bgr
    gain = 1.0 + 0.06 * stains(rng, height, width, 40) + 0.04 * grain(rng, height, width)
    if style.has_bricks:
        gain[:: max(int(0.15 * PX_PER_M), 2)] *= 1.12
        gain += 0.07 * stains(rng, height, width, 4)
    gain *= np.linspace(1.04, 0.9, height, dtype=np.float32)[:, None]
    return apply_gain(picture, gain.astype(np.float32))


def _px(*values_m: float) -> list[int]:
    return [int(value * PX_PER_M) for value in values_m]


def _window(rng: np.random.Generator, picture: Picture, box: list[int], style: FacadeStyle, lit: float) -> None:
    """Draw a window into x0, y0, x1, y1 pixels: reveal, frame, panes with a piece of sky and a curtain."""
    x0, y0, x1, y1 = box
    if x1 - x0 < 5 or y1 - y0 < 5:
        return
    cv2.rectangle(picture, (x0 - 1, y0 - 2), (x1 + 1, y1 + 2), style.trim_bgr, -1)
    glow = rng.random() < lit
    level = rng.uniform(25, 75) * style.glass_level
    glass = (110.0, 190.0, 240.0) if glow else _color(np.array([1.12, 1.05, 0.95]) * level)
    cv2.rectangle(picture, (x0 + 1, y0 + 1), (x1 - 1, y1 - 1), glass, -1)
    if not glow:
        middle = y0 + int((y1 - y0) * rng.uniform(0.25, 0.6))
        cv2.rectangle(picture, (x0 + 1, y0 + 1), (x1 - 1, middle), _color(np.array(glass) * 1.5 + 12), -1)
    if rng.random() < 0.45:
        side = int((x1 - x0) * rng.uniform(0.1, 0.3))
        curtain = _color(np.array([150.0, 165.0, 175.0]) * rng.uniform(0.5, 1.1))
        cv2.rectangle(picture, (x0 + 1, y0 + 1), (x0 + side, y1 - 1), curtain, -1)
        cv2.rectangle(picture, (x1 - side, y0 + 1), (x1 - 1, y1 - 1), curtain, -1)
    middle_x, middle_y = (x0 + x1) // 2, (y0 + y1) // 2
    cv2.line(picture, (middle_x, y0), (middle_x, y1), style.trim_bgr, 1)
    cv2.line(picture, (x0, middle_y), (x1, middle_y), style.trim_bgr, 1)
    cv2.rectangle(picture, (x0 - 3, y1), (x1 + 3, y1 + 2), _color(np.array(style.trim_bgr) * 0.9), -1)
    cv2.line(picture, (x0, y0), (x1, y0), _color(np.array(style.wall_bgr) * 0.5), 1)


def _door(rng: np.random.Generator, picture: Picture, x_m: float, height_m: float, style: FacadeStyle) -> None:
    x0, x1, y0, y1 = _px(x_m, x_m + 0.95, height_m - 2.2, height_m)
    color = _color(np.array(DOOR_COLORS[rng.integers(len(DOOR_COLORS))]) * rng.uniform(0.7, 1.2))
    cv2.rectangle(picture, (x0 - 3, y0 - 6), (x1 + 3, y1), style.trim_bgr, -1)
    cv2.rectangle(picture, (x0, y0), (x1, y1), color, -1)
    cv2.rectangle(picture, (x0, y0 - 5), (x1, y0 - 1), (70, 60, 50), -1)
    inset = _color(np.array(color) * 0.75)
    for top, bottom in ((0.15, 0.5), (0.58, 0.9)):
        cv2.rectangle(picture, (x0 + 4, y0 + int((y1 - y0) * top)), (x1 - 4, y0 + int((y1 - y0) * bottom)), inset, 1)


def _shop_front(rng: np.random.Generator, picture: Picture, width_m: float, height_m: float, lit: float) -> None:
    """Draw big panes below a name board, and now and then an awning."""
    color = _color(np.array(SHOP_COLORS[rng.integers(len(SHOP_COLORS))]) * rng.uniform(0.7, 1.3))
    width = picture.shape[1]
    y_board, y_glass, y_sill, y_end = _px(height_m - 3.2, height_m - 2.6, height_m - 0.45, height_m)
    cv2.rectangle(picture, (2, y_board), (width - 3, y_end), _color(np.array(color) * 0.7), -1)
    cv2.rectangle(picture, (2, y_board), (width - 3, y_glass - 2), color, -1)
    letters = "".join(chr(rng.integers(65, 91)) for _ in range(rng.integers(4, 11)))
    ink = (235, 235, 235) if sum(color) < 380 else (30, 30, 30)
    cv2.putText(
        picture, letters, (int(width * rng.uniform(0.05, 0.3)), y_glass - 4), cv2.FONT_HERSHEY_DUPLEX, 0.42, ink, 1,
        cv2.LINE_AA,
    )  # fmt: skip
    panes = max(int(width_m / rng.uniform(1.2, 2.2)), 1)
    edges = np.linspace(5, width - 6, panes + 1).astype(int)
    for x0, x1 in pairwise(edges):
        base = np.array([150.0, 185.0, 210.0]) if rng.random() < lit else np.array([62.0, 60.0, 55.0])
        cv2.rectangle(picture, (x0 + 2, y_glass), (x1 - 2, y_sill), _color(base * rng.uniform(0.5, 1.3)), -1)
        for _ in range(int(rng.integers(2, 7))):
            x = int(rng.integers(x0 + 2, max(x1 - 4, x0 + 3)))
            y = int(rng.integers(y_glass + 5, y_sill - 5))
            goods = _color(base * rng.uniform(0.4, 1.7) * (1 + rng.normal(0, 0.16, 3)))
            cv2.rectangle(picture, (x, y), (min(x + int(rng.integers(3, 12)), x1 - 2), y_sill - 1), goods, -1)
    if rng.random() < 0.3:
        awning = _color(np.array(SHOP_COLORS[rng.integers(len(SHOP_COLORS))]) * rng.uniform(0.7, 1.3))
        cv2.rectangle(picture, (4, y_glass - 2), (width - 5, y_glass + 11), awning, -1)
        for x in range(4, width - 12, 18):
            cv2.rectangle(picture, (x, y_glass - 2), (x + 8, y_glass + 11), (225, 225, 225), -1)


def front(
    rng: np.random.Generator, width_m: float, height_m: float, style: FacadeStyle, has_shop: bool, lit: float
) -> Picture:
    """Draw the street side of a house, uint8 (h, w, 3).

    Args:
        rng: Source of every choice.
        width_m: Width of the front.
        height_m: Height of the wall up to the eaves.
        style: Style that it shares with its neighbours.
        has_shop: Whether the ground floor is a shop.
        lit: Share of the windows with a light behind them, 0..1.
    """
    picture = wall(rng, width_m, height_m, style)
    storeys = max(int(height_m / style.storey_m), 1)
    bays = max(int(width_m / style.bay_m), 1)
    if style.is_office:
        _office_bands(rng, picture, height_m, storeys, style, lit)
    door_bay = int(rng.integers(bays))
    for storey in range(storeys):
        bottom_m = height_m - storey * style.storey_m
        if storey == 0 and has_shop:
            _shop_front(rng, picture, width_m, height_m, lit * 2)
            continue
        if style.is_office:
            continue
        for bay in range(bays):
            middle_m = (bay + 0.5) * width_m / bays
            if storey == 0 and bay == door_bay:
                _door(rng, picture, middle_m - 0.5, height_m, style)
                continue
            half_m = min(style.window_width_m, 0.8 * width_m / bays) / 2
            top_m = bottom_m - 0.8 - min(style.window_height_m, style.storey_m - 1.1)
            _window(rng, picture, _px(middle_m - half_m, top_m, middle_m + half_m, bottom_m - 0.8), style, lit)
    _trim(rng, picture, style)
    return picture


def _office_bands(
    rng: np.random.Generator, picture: Picture, height_m: float, storeys: int, style: FacadeStyle, lit: float
) -> None:
    step = int(rng.uniform(0.9, 1.8) * PX_PER_M)
    for storey in range(storeys):
        bottom_m = height_m - storey * style.storey_m
        y0, y1 = _px(max(bottom_m - style.storey_m + 0.4, 0.1), bottom_m - 0.9)
        for x in range(6, picture.shape[1] - step - 4, step):
            level = rng.uniform(40, 85) * style.glass_level
            glass = (150.0, 210.0, 240.0) if rng.random() < lit else _color(np.array([1.2, 1.08, 0.9]) * level)
            cv2.rectangle(picture, (x, y0), (x + step - 3, y1), glass, -1)
            cv2.line(picture, (x, (2 * y0 + y1) // 3), (x + step - 3, (2 * y0 + y1) // 3), style.trim_bgr, 1)


def _trim(rng: np.random.Generator, picture: Picture, style: FacadeStyle) -> None:
    width = picture.shape[1]
    cv2.rectangle(picture, (0, 0), (width, int(rng.integers(2, 8))), _color(np.array(style.trim_bgr) * 0.8), -1)
    if rng.random() < 0.6:
        x = int(rng.choice([3, max(width - 6, 4)]))
        cv2.line(picture, (x, 0), (x, picture.shape[0]), (50, 50, 50), 2)


def roof(rng: np.random.Generator, width_m: float, slope_m: float, style: FacadeStyle) -> Picture:
    """Draw a slope of slates or tiles, uint8 (h, w, 3)."""
    height, width = max(int(slope_m * PX_PER_M), 8), max(int(width_m * PX_PER_M), 8)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = style.roof_bgr
    gain = 1.0 + 0.12 * stains(rng, height, width, 30) + 0.06 * grain(rng, height, width)
    gain[::5] *= 0.8
    return apply_gain(picture, gain.astype(np.float32))


def gable(picture: Picture) -> Texture:
    """Cut a wall's picture to the triangle under a pitched roof."""
    height, width = picture.shape[:2]
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, [np.array([[0, height], [width, height], [width // 2, 0]])], 255)
    return Texture.build(picture, alpha)


def lit_by(picture: Picture, gain: float) -> Picture:
    """Scale a picture's brightness, saturating."""
    return np.asarray(cv2.convertScaleAbs(picture, alpha=gain), np.uint8)
