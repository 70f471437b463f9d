"""Folders of what teachers said about whole frames: two files for each, which the workers that load samples read.

One file holds what was said about its pixels, another one its boxes, in folders of their own: with another teacher of
masks, only masks are asked for again.

The files are in the format safetensors, which holds no code. Probabilities are kept as their logarithms in 8 bits:
`-ln p` in steps of ln(1e6) / 255 = 0.054. Each logarithm is off by at most half a step, so a probability at a
temperature T of 1 or more is off by at most exp(0.054 / T) - 1, which is 5.6 % at T = 1. One below 1e-6 is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.taught_frame import CELL_PX, SMALLEST_PROBABILITY, FrameBoxes, TaughtFrame
from training.errors import DataError
from training.whole_files import write_bytes

LARGEST_CODE = 255
MAX_FILE_BYTES = 1 << 30
_FAR_PX = 1e6
_STEP = -math.log(SMALLEST_PROBABILITY) / LARGEST_CODE
_TABLE = np.exp(-_STEP * np.arange(LARGEST_CODE + 1)).astype(np.float32)
_TABLE[LARGEST_CODE] = 0.0
_BOXES = ("objects", "ignored")
_BOX_PARTS: dict[str, type[np.generic]] = {"xyxy": np.float32, "labels": np.int64, "scores": np.float32}

Arrays = dict[str, NDArray[Any]]
Parts = dict[str, Any]  # fields of a `TaughtFrame`


class KeptFrames:
    """Reads and writes what teachers said about the frames of a run.

    It loads no torch and holds no open file, so workers get a copy of it.

    Attributes:
        folders: Folder of the files of each of `PARTS`. Its name is made from teachers and settings.
        digests: SHA-256 of the image file of each frame, source by source; it names the files.
    """

    def __init__(self, folders: Mapping[str, Path], digests: Sequence[Sequence[str]]) -> None:
        self.folders = folders
        self.digests = digests
        self._any: TaughtFrame | None = None  # tells which classes the teachers know

    def path(self, digest: str, part: str) -> Path:
        """Return the file of a part of what was said about a frame."""
        return self.folders[part] / f"{digest[:32]}.safetensors"

    def of(self, source: int, index: int) -> TaughtFrame:
        """Return what the teachers said about a frame of the run.

        Raises:
            DataError: The file is missing or damaged.
        """
        digest = self.digests[source][index]
        found = self.read(digest)
        if found is None:
            path = self.path(digest, self.missing_parts(digest)[0])
            raise DataError(
                f"{path}: expected what the teachers said about a frame, it is missing or damaged since "
                "the start of the run; start it again with --resume, and the teachers look at the frame again"
            )
        return found

    def silence(self, height: int, width: int) -> TaughtFrame:
        """Return what says nothing about a frame: no class of a pixel, neither object nor background.

        Args:
            height: Height of the frame in pixels.
            width: Its width.

        Raises:
            DataError: A file is missing or damaged.
        """
        spoken = self._any_frame()
        classes = len(spoken.known_pixels)
        cells = (math.ceil(height / CELL_PX), math.ceil(width / CELL_PX), classes)
        labels = np.arange(len(spoken.known_boxes))
        # Beyond the frame, too: a crop may be larger.
        everywhere = np.tile(np.array([-_FAR_PX, -_FAR_PX, _FAR_PX, _FAR_PX], np.float32), (len(labels), 1))
        return replace(
            spoken,
            probabilities=None if spoken.probabilities is None else np.zeros(cells, np.float32),
            objects=FrameBoxes(everywhere[:0], labels[:0], np.zeros(0, np.float32)),
            ignored=FrameBoxes(everywhere, labels, np.zeros(len(labels), np.float32)),
        )

    def _any_frame(self) -> TaughtFrame:
        if self._any is None:
            source = next(number for number, digests in enumerate(self.digests) if digests)
            self._any = self.of(source, 0)
        return self._any

    def read(self, digest: str) -> TaughtFrame | None:
        """Return what the teachers said about the frame of a digest; None if it is not kept, or damaged."""
        pixels, boxes = self._read(digest, "pixels"), self._read(digest, "boxes")
        return None if pixels is None or boxes is None else TaughtFrame(**pixels, **boxes)

    def missing_parts(self, digest: str) -> list[str]:
        """Return the parts of what was said about a frame that are not kept, or damaged; see `PARTS`."""
        return [part for part in PARTS if self._read(digest, part) is None]

    def write(self, digest: str, frame: TaughtFrame, parts: Collection[str] = ("pixels", "boxes")) -> None:
        """Keep what the teachers said about the frame of a digest.

        Args:
            digest: SHA-256 of the image file.
            frame: What they said.
            parts: The parts that were asked for; see `PARTS`.

        Raises:
            OSError: A file cannot be written; the error names it.
        """
        from safetensors.numpy import save

        for part in parts:
            encoded, _ = PARTS[part]
            write_bytes(self.path(digest, part), save(encoded(frame)))

    def _read(self, digest: str, part: str) -> Parts | None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.path(digest, part)
        _, decoded = PARTS[part]
        try:
            return decoded(load(path.read_bytes())) if path.stat().st_size <= MAX_FILE_BYTES else None
        except (OSError, ValueError, KeyError, SafetensorError):
            return None


def bytes_of(height: int, width: int, classes: int) -> int:
    """Return the size of a file about a frame, without its boxes."""
    return math.ceil(height / CELL_PX) * math.ceil(width / CELL_PX) * classes


def codes_of(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities as 8-bit logarithms."""
    logarithms = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    return np.rint(logarithms / -_STEP).clip(0, LARGEST_CODE).astype(np.uint8)


def probabilities_of(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what `codes_of` took: probabilities that sum to 1 in each cell, or to 0 where nothing was said."""
    # Ten times as fast as an index: cv2 looks up and the product with ones adds up, for each sample of a run.
    values = np.asarray(cv2.LUT(codes.reshape(len(codes), -1), _TABLE), np.float32).reshape(codes.shape)
    total = values @ np.ones(codes.shape[2], np.float32)
    values /= np.where(total > 0, total, 1)[:, :, None]
    return values


def _encoded_pixels(frame: TaughtFrame) -> Arrays:
    codes = {} if frame.probabilities is None else {"codes": codes_of(frame.probabilities)}
    return {"known_pixels": frame.known_pixels, **codes}


def _encoded_boxes(frame: TaughtFrame) -> Arrays:
    arrays: Arrays = {"known_boxes": frame.known_boxes}
    for kind in _BOXES:
        arrays |= {f"{kind}_{part}": getattr(getattr(frame, kind), part) for part in _BOX_PARTS}
    return arrays


def _decoded_pixels(arrays: Arrays) -> Parts:
    """Return what `_encoded_pixels` took apart.

    Raises:
        KeyError, ValueError: Arrays are missing, or of other shapes or types.
    """
    known, probabilities = _of_type(arrays, "known_pixels", np.bool_), None
    if "codes" in arrays:
        codes = _of_type(arrays, "codes", np.uint8)
        if codes.ndim != 3 or not codes.size:
            raise ValueError(f"codes: expected [h, w, C], got {codes.shape}")
        probabilities = probabilities_of(codes)
    return {"probabilities": probabilities, "known_pixels": known}


def _decoded_boxes(arrays: Arrays) -> Parts:
    """Return what `_encoded_boxes` took apart.

    Raises:
        KeyError, ValueError: Arrays are missing, or of other types.
    """
    boxes = {
        kind: FrameBoxes(*(_of_type(arrays, f"{kind}_{part}", dtype) for part, dtype in _BOX_PARTS.items()))
        for kind in _BOXES
    }
    return {**boxes, "known_boxes": _of_type(arrays, "known_boxes", np.bool_)}


def _of_type(arrays: Arrays, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    if arrays[name].dtype != dtype:
        raise ValueError(f"{name}: expected {dtype.__name__}, got {arrays[name].dtype}")
    return np.array(arrays[name])  # a copy: torch takes no array that cannot be written


PARTS: dict[str, tuple[Callable[[TaughtFrame], Arrays], Callable[[Arrays], Parts]]] = {
    "pixels": (_encoded_pixels, _decoded_pixels),
    "boxes": (_encoded_boxes, _decoded_boxes),
}
"""What teachers say about a frame; how its file is written and read."""
