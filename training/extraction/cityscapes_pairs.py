"""Make labelled frames of the small pairs of Cityscapes that image-to-image networks are trained on (pix2pix).

    python -m training.extraction.cityscapes_pairs PICTURES MASKS -o data/found/cityscapes_small/train

Pictures and masks are squeezed to squares, and the masks are coloured JPEGs: colours are blended at edges. A pixel gets
the class whose colour is nearest, or void where that is a guess. The result is a folder of `kind: folder` with
`labels: cityscapes19`, twice as wide as it is high, as Cityscapes is. Its labels are better: use it if you have it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import OutputPathError
from training.arguments import folder_to_write
from training.config.loading import load_settings
from training.config.settings import Settings
from training.data.image_files import read_image
from training.data.image_listing import list_images
from training.errors import DataError
from training.label_sets.loading import load_label_set
from training.whole_files import write_bytes

VOID = 255
LARGEST_DISTANCE = 60.0  # in RGB, of a pixel to the colour of its class
LARGEST_DISTANCE_AT_EDGES = 25.0  # there, blends of two classes look like a third
LARGEST_DISTANCE_OF_SMALL_AT_EDGES = 40.0
COMPACT_PX = 5
COLOR_STEP = 4  # colours are looked up in a table of every fourth value
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92)


class UnscoredClass(Settings):
    """A class that is void."""

    name: str
    """Its name, for the reader of the file."""
    color: tuple[int, ...]
    """Its colour, RGB."""


class PaintedColors(Settings):
    """The classes and colours of a data set whose masks went through JPEG."""

    label_set: str
    """Label set of the masks."""
    unscored: tuple[UnscoredClass, ...]
    """What is void."""
    small: tuple[str, ...]
    """Classes of small objects, whose colours may be farther off at edges."""
    thin: tuple[str, ...]
    """More classes that may be one pixel wide."""
    blended: str
    """Class that blends of other colours look like."""


class PaintedClasses:
    """The classes of masks whose colours have gone through JPEG."""

    def __init__(self) -> None:
        self._colors = load_settings(Path(__file__).with_suffix(".yaml"), PaintedColors)
        unscored = [each.color for each in self._colors.unscored]
        classes = load_label_set(self._colors.label_set).segmentation
        colors = [info.color for info in classes if info.color is not None]
        self._ids = {info.name: info.id for info in classes}
        self._nearest, self._distances = _color_table(
            np.array([*colors, *unscored], np.float32),
            np.array([*(info.id for info in classes), *(VOID for _ in unscored)], np.uint8),
        )

    def of(self, painted_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return train ids, uint8 [h, w], 255 = void, of a coloured mask, uint8 [h, w, 3]."""
        blue, green, red = np.moveaxis(painted_bgr // COLOR_STEP, -1, 0)
        nearest = self._nearest[red, green, blue]
        ids: NDArray[np.uint8] = nearest.copy()
        ids[self._distances[red, green, blue] > self._largest_distance(nearest)] = VOID
        thin = [self._ids[name] for name in (*self._colors.thin, *self._colors.small)]
        for wide in np.setdiff1d(nearest, [*thin, VOID]):
            of_class = (nearest == wide).astype(np.uint8)
            opened = cv2.morphologyEx(of_class, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
            ids[(of_class > 0) & (opened == 0)] = VOID
        self._drop_blends(ids)
        ids[:, [0, -1]] = VOID  # black in the pairs
        return ids

    def _largest_distance(self, nearest: NDArray[np.uint8]) -> NDArray[np.float64]:
        around = np.ones((3, 3), np.uint8)
        at_edge = cv2.dilate(nearest, around) != cv2.erode(nearest, around)
        small = np.isin(nearest, [self._ids[name] for name in self._colors.small])
        at_edges = np.where(small, LARGEST_DISTANCE_OF_SMALL_AT_EDGES, LARGEST_DISTANCE_AT_EDGES)
        return np.where(at_edge, at_edges, LARGEST_DISTANCE)

    def _drop_blends(self, ids: NDArray[np.uint8]) -> None:
        """Make pieces void, in place, that only look like the class of blends."""
        found = (ids == self._ids[self._colors.blended]).astype(np.uint8)
        if not found.any():
            return
        _, pieces = cv2.connectedComponents(found)
        compact = cv2.erode(found, np.ones((COMPACT_PX, COMPACT_PX), np.uint8))
        ids[(found > 0) & ~np.isin(pieces, pieces[compact > 0])] = VOID


def _color_table(colors: NDArray[np.float32], ids: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the id of the nearest colour and the distance to it, uint8 [r, g, b] each, for every fourth value."""
    values = np.arange(256 // COLOR_STEP, dtype=np.float32) * COLOR_STEP + COLOR_STEP // 2
    shape = (len(values),) * 3
    nearest, distances = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for index, red in enumerate(values):
        plane = np.stack(np.meshgrid([red], values, values, indexing="ij"), axis=-1)[0]
        to_colors = np.sqrt(((plane[:, :, None] - colors) ** 2).sum(axis=-1))
        nearest[index] = ids[to_colors.argmin(axis=-1)]
        distances[index] = np.minimum(to_colors.min(axis=-1), 255)
    return nearest, distances


def convert(pictures: Path, masks: Path, output: Path) -> int:
    """Write images/ and masks/ of all pairs, and return their number. Pictures without a mask are left out.

    Args:
        pictures: Folder of squeezed pictures.
        masks: Folder of their coloured masks, with the same names.
        output: Folder to write; files of the same names are replaced.

    Raises:
        DataError: A folder is missing or empty, a file is damaged, no picture has a mask, a mask has another size, or a
            picture is not a square.
        OSError: A file cannot be written; the error names it.
    """
    painted = {path.stem: path for path in list_images(masks)}
    classes = PaintedClasses()
    files = [path for path in list_images(pictures) if path.stem in painted]
    if not files:
        raise DataError(f"{masks}: expected masks with the names of the pictures in {pictures}, there are none")
    for path in tqdm(files, desc="pairs", unit="frame", leave=False):
        picture, mask = read_image(path), read_image(painted[path.stem])
        if picture.shape != mask.shape:
            raise DataError(
                f"{path}: expected a mask of the same size, it has {mask.shape[1]}x{mask.shape[0]} pixels, the picture "
                f"{picture.shape[1]}x{picture.shape[0]}; give folders that belong together"
            )
        if picture.shape[0] != picture.shape[1]:
            raise DataError(
                f"{path}: expected a picture that is squeezed to a square, got {picture.shape[1]}x{picture.shape[0]}; "
                "cut a picture that has its mask beside it into two first"
            )
        size = (2 * picture.shape[0], picture.shape[0])
        image = cv2.imencode(".jpg", cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), _JPEG)[1]
        ids = cv2.resize(classes.of(mask), size, interpolation=cv2.INTER_NEAREST)
        write_bytes(output / "images" / f"{path.stem}.jpg", image.tobytes())
        write_bytes(output / "masks" / f"{path.stem}.png", cv2.imencode(".png", ids)[1].tobytes())
    return len(files)


def main() -> int:
    """Read the arguments, convert, and say what was written."""
    parser = argparse.ArgumentParser(description="Make labelled frames of small pairs of Cityscapes.")
    parser.add_argument("pictures", type=path_argument, help="folder of the pictures")
    parser.add_argument("masks", type=path_argument, help="folder of their coloured masks, with the same names")
    parser.add_argument("-o", "--output", type=folder_to_write, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        count = convert(arguments.pictures, arguments.masks, arguments.output)
    except (DataError, OSError, OutputPathError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count} frames with masks in {arguments.output}; read them with kind: folder, labels: cityscapes19")
    return 0


if __name__ == "__main__":
    sys.exit(main())
