"""Masks whose pixels have the colours of their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.image_files import check_upright, exif_orientation, read_image
from training.errors import DataError, RecipeError
from training.label_sets.label_set import LabelSet


class MaskColors:
    """The colours of a label set's classes of masks.

    Attributes:
        ids: Id of the class of each colour; a colour is red x 65536 + green x 256 + blue.
    """

    def __init__(self, label_set: LabelSet) -> None:
        """Collect the colours.

        Raises:
            RecipeError: A class has no colour in the file of the label set, or two classes have the same.
        """
        self._name = label_set.name
        names: dict[int, str] = {}
        ids: dict[int, int] = {}
        for info in label_set.segmentation:
            if info.color is None:
                raise RecipeError(
                    f"label set {label_set.name}: expected a color for every class of masks, {info.name} has none; "
                    "masks are read by their colours (mask_colors), add it"
                )
            code = int(_codes_of(np.array(info.color)))
            if code in ids:
                raise RecipeError(
                    f"label set {label_set.name}: expected every color once, {names[code]} and {info.name} both have "
                    f"{list(info.color)}; masks are read by their colours (mask_colors), change one or merge them"
                )
            names[code], ids[code] = info.name, info.id
        self.ids = dict(sorted(ids.items()))
        self._codes: NDArray[np.int64] = np.array(sorted(ids), np.int64)
        self._ids: NDArray[np.uint16] = np.array([ids[code] for code in sorted(ids)], np.uint16)

    def read(self, path: Path) -> NDArray[np.uint16]:
        """Return the class ids of a mask, (h, w), from its colours.

        Args:
            path: A PNG with colours or a palette; transparency does not count.

        Raises:
            DataError: The file is damaged, or has colours that are not in the label set.
        """
        picture = read_image(path)
        check_upright(path, exif_orientation(path))
        codes = _codes_of(picture[..., ::-1])
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = self._codes[places] != codes
        if unknown.any():
            self._refuse(path, codes[unknown], codes.size)
        return self._ids.take(places)

    def _refuse(self, path: Path, codes: NDArray[np.int64], pixels: int) -> None:
        values, counts = np.unique(codes, return_counts=True)
        first = np.argsort(-counts)[:3]
        shown = ", ".join(
            f"[{value >> 16}, {value >> 8 & 255}, {value & 255}] in {count / pixels:.2%}"
            for value, count in zip(values[first].tolist(), counts[first].tolist(), strict=True)
        )
        raise DataError(
            f"{path}: expected colours of the label set {self._name}, got {len(values)} others in "
            f"{len(codes) / pixels:.2%} of the pixels: {shown}; add a class with such a colour to the label set, which "
            "may be mapped to ignore, or export the mask without smoothed edges"
        )


def _codes_of(rgb: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number for each colour, (...), of red, green and blue (..., 3)."""
    return np.asarray(rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]))
