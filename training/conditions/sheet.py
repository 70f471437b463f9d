"""Draws the contact sheet: a row for each condition, a column for clean and for each severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.conditions.condition import SEVERITIES, Condition

TILE_PX = 300  # width of a frame
GAP_PX, ROW_PX = 8, 40
JPEG_QUALITY = 88
_PAGE, _INK, _SOFT = "#f6f7f9", "#1b2330", "#5c6878"


@dataclass(frozen=True)
class SheetRow:
    """The pictures of a condition.

    Attributes:
        condition: The condition.
        pictures: Picture by severity, uint8 (h, w, 3) BGR; 0 is clean.
    """

    condition: Condition
    pictures: Mapping[int, NDArray[np.uint8]]


def contact_sheet(title: str, rows: Sequence[SheetRow]) -> bytes:
    """Return the sheet as JPEG.

    Args:
        title: Line at the top.
        rows: At least one row.
    """
    columns = (0, *SEVERITIES)
    drawn = [_row(row, columns) for row in rows]
    width = len(columns) * (TILE_PX + GAP_PX) + GAP_PX
    sheet = Image.new("RGB", (width, ROW_PX + sum(band.height for band in drawn)), _PAGE)
    ImageDraw.Draw(sheet).text((GAP_PX, 10), title, _INK, _font(20))
    top = ROW_PX
    for band in drawn:
        sheet.paste(band, (0, top))
        top += band.height
    pixels = np.ascontiguousarray(np.asarray(sheet)[:, :, ::-1])
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _row(row: SheetRow, columns: Sequence[int]) -> Image.Image:
    tiles = {severity: _tile(picture) for severity, picture in row.pictures.items()}
    height = max(tile.height for tile in tiles.values())
    band = Image.new("RGB", (len(columns) * (TILE_PX + GAP_PX) + GAP_PX, height + ROW_PX), _PAGE)
    draw = ImageDraw.Draw(band)
    condition = row.condition
    draw.text((GAP_PX, 2), f"{condition.name}: {condition.words} ({condition.parameter})", _INK, _font(15))
    for place, severity in enumerate(columns):
        left = GAP_PX + place * (TILE_PX + GAP_PX)
        said = f"{severity}: {condition.value(severity):g}" if severity else "clean"
        draw.text((left, 21), said, _SOFT, _font(13))
        if severity in tiles:
            band.paste(tiles[severity], (left, ROW_PX - 2))
    return band


def _tile(picture_bgr: NDArray[np.uint8]) -> Image.Image:
    height, width = picture_bgr.shape[:2]
    size = (TILE_PX, max(1, round(height * TILE_PX / width)))
    smooth = cv2.INTER_AREA if width > TILE_PX else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(picture_bgr, size, interpolation=smooth), np.uint8)
    return Image.fromarray(np.ascontiguousarray(small[:, :, ::-1]))


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # the font that comes with Pillow
