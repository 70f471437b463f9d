"""Draws the contact sheet as one PNG: of each source some frames, with the classes, their colours and shares."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ros_kd_perception.model.contract import ClassInfo
from training.inspection.inspection import InspectedSource, Inspection, Picture
from training.inspection.words import facts_of, percent

COLUMNS = 4
TILE_PX = 380  # width of a frame
GAP_PX = 14
ROW_PX = 24  # height of a line of text
PICTURES_MAX = 12  # of a source, so that the file stays small
_PAGE, _INK, _SOFT, _LINE = "#f6f7f9", "#1b2330", "#5c6878", "#dde2ea"
_WIDTH_PX = COLUMNS * TILE_PX + (COLUMNS + 1) * GAP_PX
_BAR_PX, _SWATCH_PX = 90, 14
_CLASS_COLUMNS = 4


def contact_sheet(inspection: Inspection) -> bytes:
    """Return the sheet as PNG, the sources one below the other."""
    bands = [_title(inspection), *(_source(source) for source in inspection.sources)]
    sheet = Image.new("RGB", (_WIDTH_PX, sum(band.height for band in bands)), _PAGE)
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=3)  # smaller by a tenth at most, and ten times slower
    return buffer.getvalue()


def _title(inspection: Inspection) -> Image.Image:
    band = Image.new("RGB", (_WIDTH_PX, 3 * ROW_PX), _PAGE)
    draw = ImageDraw.Draw(band)
    draw.text((GAP_PX, GAP_PX), inspection.name, _INK, _font(26))
    count = len(inspection.problems)
    found = f"label set {inspection.student.name}, {count:,} problem{'' if count == 1 else 's'}"
    draw.text((_WIDTH_PX - GAP_PX, GAP_PX + 8), found, _SOFT, _font(15), anchor="ra")
    return band


def _source(source: InspectedSource) -> Image.Image:
    pictures = source.pictures[:PICTURES_MAX]
    legend = [(one.info, one.share, percent(one.share)) for one in source.figures.masks if one.pixels]
    boxes = [one for one in source.figures.boxes if one.total]
    total = sum(one.total for one in boxes)
    counts = [(one.info, one.total / total, f"{one.total:,}") for one in boxes]
    parts = [_head(source), *(_legend(what, rows) for what, rows in (("masks", legend), ("boxes", counts)) if rows)]
    parts += [_row(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
    band = Image.new("RGB", (_WIDTH_PX, sum(part.height for part in parts) + 2 * GAP_PX), _PAGE)
    ImageDraw.Draw(band).line((GAP_PX, 0, _WIDTH_PX - GAP_PX, 0), _LINE, 2)
    top = GAP_PX
    for part in parts:
        band.paste(part, (0, top))
        top += part.height
    return band


def _head(source: InspectedSource) -> Image.Image:
    lines = _wrapped([f"{what}: {value}" for what, value in facts_of(source)], _WIDTH_PX - 2 * GAP_PX, 13)
    band = Image.new("RGB", (_WIDTH_PX, (len(lines) + 1) * ROW_PX + 8), _PAGE)
    draw = ImageDraw.Draw(band)
    title = f"{source.title} ({source.subtitle})"
    draw.text((GAP_PX, 0), _fitted(title, _WIDTH_PX - 2 * GAP_PX, 18), _INK, _font(18))
    for place, line in enumerate(lines, start=1):
        draw.text((GAP_PX, place * ROW_PX + 2), _fitted(line, _WIDTH_PX - 2 * GAP_PX, 13), _SOFT, _font(13))
    return band


def _legend(what: str, rows: Sequence[tuple[ClassInfo, float, str]]) -> Image.Image:
    """Return the classes with their colours, shares and bars, in columns."""
    lines = -(-len(rows) // _CLASS_COLUMNS)
    band = Image.new("RGB", (_WIDTH_PX, (lines + 1) * ROW_PX + 8), _PAGE)
    draw = ImageDraw.Draw(band)
    draw.text((GAP_PX, 2), what, _SOFT, _font(13))
    most = max(share for _, share, _ in rows)
    for place, (info, share, text) in enumerate(rows):
        left = GAP_PX + place // lines * (TILE_PX + GAP_PX)
        top = (1 + place % lines) * ROW_PX
        draw.rectangle((left, top, left + _SWATCH_PX, top + _SWATCH_PX), info.color_rgb, _LINE)
        draw.text((left + 22, top - 1), _fitted(info.name, 130, 14), _INK, _font(14))
        end = left + 160 + max(1, round(_BAR_PX * share / most))
        draw.rectangle((left + 160, top + 1, end, top + _SWATCH_PX - 1), info.color_rgb, _LINE)
        draw.text((left + TILE_PX - 20, top - 1), text, _SOFT, _font(14), anchor="ra")
    return band


def _row(pictures: Sequence[Picture]) -> Image.Image:
    tiles = [_tile(picture) for picture in pictures]
    height = max(tile.height for tile in tiles)
    band = Image.new("RGB", (_WIDTH_PX, height + ROW_PX + GAP_PX), _PAGE)
    draw = ImageDraw.Draw(band)
    for place, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        left = GAP_PX + place * (TILE_PX + GAP_PX)
        band.paste(tile, (left + (TILE_PX - tile.width) // 2, height - tile.height))
        name = _fitted(picture.name, TILE_PX // 2, 13)
        draw.text((left, height + 3), name, _INK, _font(13))
        start = left + round(_font(13).getlength(name)) + 8
        draw.text((start, height + 3), _fitted(picture.reason, left + TILE_PX - start, 13), _SOFT, _font(13))
    return band


def _tile(picture: Picture) -> Image.Image:
    """Return the picture at the width of a tile, or less if it would be higher than wide."""
    image = Image.fromarray(np.ascontiguousarray(picture.image_bgr[:, :, ::-1]))
    image.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
    return image


def _wrapped(parts: Sequence[str], width_px: int, size_px: int) -> list[str]:
    """Return parts of text in as few lines as they need."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}   |   {part}" if lines else part
        if lines and _font(size_px).getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _fitted(text: str, width_px: int, size_px: int) -> str:
    """Return a text that fits into a width, with an ellipsis if it is cut."""
    font = _font(size_px)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text + "…" if text else ""


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # the font that comes with Pillow
