"""Reads image files: pixels as on the vehicle, and the class ids in PNG masks.

Masks are read by Pillow: OpenCV turns the indices of a palette into colours and spreads 1 to 4 bits over 0..255.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ros_kd_perception.images.compressed import check_whole, claimed_size, decode_file
from ros_kd_perception.structures import BadFrame
from training.data.augmentation import SOURCE_SIDE_MIN_PX
from training.errors import DataError

MAX_SIDE_PX = 8192
UPRIGHT = 1
_TURNED_OR_MIRRORED = range(2, 9)
MAX_IMAGE_BYTES = 1 << 30
_STARTS = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
_PNG_DEPTH_AT, _PNG_COLOUR_AT = 24, 25
_GREY, _PALETTE = 0, 3
_WITHOUT_IDS = {2: "RGB", 4: "grey with alpha", 6: "RGB with alpha"}


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a JPEG or PNG as uint8 (h, w, 3) BGR, with the decoder of the vehicle. No EXIF orientation is applied.

    Raises:
        DataError: The file is damaged, or its size cannot be trained on.
    """
    content = _read_whole(path)
    try:
        return decode_file(content)
    except BadFrame as error:
        raise _broken(path, error) from error


def read_class_ids(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read the numbers in a PNG mask, (h, w): indices of a palette, or grey values of any depth, unchanged.

    Raises:
        DataError: The file is damaged, has colours or an EXIF orientation, or its size cannot be trained on.
    """
    content = _read_whole(path)
    depth, colour = content[_PNG_DEPTH_AT], content[_PNG_COLOUR_AT]
    if colour not in (_GREY, _PALETTE):
        found = _WITHOUT_IDS.get(colour, f"colour type {colour}")
        raise DataError(
            f"{path}: expected class ids in the one channel of a PNG, grey or palette, got {found}; export the ids "
            "themselves, or read colours by a label set (kind: folder with mask_colors: true)"
        )
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            ids = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
            orientation = _orientation_of(picture)
    except Exception as error:  # Pillow raises nearly any exception for damaged bytes
        raise _broken(path, error) from error
    check_upright(path, orientation)
    if colour == _GREY and depth < 8:
        ids = ids // (255 // ((1 << depth) - 1))  # Pillow spreads them over 0..255
    return ids


def exif_orientation(path: Path) -> int:
    """Return the orientation in the EXIF or XMP data of an image, 2..8, by which viewers turn it; else UPRIGHT."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            return _orientation_of(picture)
    except Exception:  # a file that cannot be opened is not turned; Pillow raises nearly any exception
        return UPRIGHT


def check_upright(path: Path, orientation: int) -> None:
    """Refuse a labelled image or a mask that viewers turn or mirror.

    Raises:
        DataError: Labels that were drawn in a viewer would lie on the wrong pixels.
    """
    if orientation != UPRIGHT:
        raise DataError(
            f"{path}: expected the pixels of a labelled frame stored as they are shown, got EXIF orientation "
            f"{orientation}: labelling tools turn such an image, training and the vehicle do not; store it turned "
            "(mogrify -auto-orient), or remove the tag if the labels belong to the stored pixels "
            "(exiftool -Orientation=)"
        )


def _orientation_of(picture: Image.Image) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data
        try:
            value = picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        except Exception:  # no tool turns an image by damaged EXIF data
            return UPRIGHT
    return int(value) if value in _TURNED_OR_MIRRORED else UPRIGHT


def _read_whole(path: Path) -> bytes:
    """Read the bytes of a JPEG or PNG; refuse a wrong header, missing bytes, or a size that cannot be trained on."""
    try:
        content = _read_bytes(path)
        height, width = claimed_size(content, _kind_of(path, content))
        if max(height, width) > MAX_SIDE_PX:
            raise BadFrame("too_large", f"expected at most {MAX_SIDE_PX} pixels a side, got {width} x {height}")
        check_whole(content)
    except (OSError, BadFrame) as error:
        raise _broken(path, error) from error
    if min(height, width) < SOURCE_SIDE_MIN_PX:
        raise DataError(
            f"{path}: expected at least {SOURCE_SIDE_MIN_PX} pixels a side, of which a crop of any zoom keeps some, "
            f"got {width} x {height}; remove it"
        )
    return content


def _read_bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: expected a file with an image, got a folder, pipe or device; remove it")
    with path.open("rb") as file:
        content = file.read(MAX_IMAGE_BYTES + 1)
    if len(content) > MAX_IMAGE_BYTES:
        raise DataError(f"{path}: expected an image of at most {MAX_IMAGE_BYTES} bytes, it is larger; remove it")
    return content


def _kind_named(path: Path) -> str:
    return "png" if path.suffix.lower() == ".png" else "jpeg"


def _kind_of(path: Path, content: bytes) -> str:
    """Return `jpeg` or `png` by the suffix; refuse content of the other format."""
    named = _kind_named(path)
    found = next((kind for kind, start in _STARTS.items() if content.startswith(start)), named)
    if found != named:
        raise DataError(
            f"{path}: expected a {named.upper()} image as its suffix says, got a {found.upper()}; rename it, and "
            "export masks as PNG"
        )
    return named


def _broken(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        kind = _kind_named(path).upper()
        return DataError(f"{path}: expected a {kind} image, there is no such file; add it, or leave its frame out")
    return DataError(f"{path}: expected a whole {_kind_named(path).upper()} image ({error}); replace it or remove it")
