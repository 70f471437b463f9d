"""Frames that nobody has labelled: a folder of images, or frames taken out of a ROS 2 bag."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader, logs_of, read_camera_frames
from ros_kd_perception.model.classes import UNLABELED_ID
from ros_kd_perception.structures import BadFrame, UInt8Array
from ros_kd_perception.system.output_paths import OutputPathError, make_folder
from training.config.recipe import SourceRecipe
from training.data.augmentation import SOURCE_SIDE_MIN_PX
from training.data.image_files import UPRIGHT, exif_orientation
from training.data.readers.base import FrameFolder, Labels
from training.errors import DataError

FRAMES_FOLDER = Path("out/frames")
THUMBNAIL_SIZE_PX = (32, 18)
JPEG_QUALITY = 95


class UnlabeledFolder(FrameFolder):
    """A folder with images/ alone: every pixel void, objects unknown."""

    has_boxes = False

    def check(self) -> None:
        """Look at every frame once; say how many a viewer would turn, which is neither done here nor on the vehicle."""
        super().check()
        turned = sum(exif_orientation(path) != UPRIGHT for path in self._images)
        if turned:
            print(
                f"{self.folder}: {turned} of {len(self)} images have an EXIF orientation; their pixels are taken as "
                "they are stored, as the vehicle takes those of its cameras"
            )

    def read_labels(self, name: str, size: tuple[int, ...]) -> Labels:
        """Nothing is labelled."""
        return np.full(size, UNLABELED_ID, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)

    def label_files(self, name: str) -> list[Path]:
        """There are none."""
        return []


def take_frames_out(recipe: SourceRecipe, output: Path = FRAMES_FOLDER) -> Path:
    """The folder with the frames of a recipe's bag, made now unless it is there.

    Of each camera every `stride`-th frame is looked at, and kept where it differs from the last one kept: a car that
    waits at a light would otherwise fill the training with one picture.

    Args:
        recipe: `folder` is the bag; `topics`, `stride` and `change_min` choose the frames.
        output: holds one folder for each bag and choice.

    Raises:
        DataError: no such bag or topic, no frame that can be decoded, or nowhere to write.
    """
    folder = output / f"{recipe.folder.stem}-{_key(recipe)}"
    if folder.is_dir():
        return folder
    # Not by its number alone: processes of two machines on one disk may have the same.
    part = folder.with_name(f".{folder.name}.{platform.node()}.{os.getpid()}.part")
    try:
        make_folder(part / "images")
        kept, bad = _write_frames(recipe, part / "images")
        if not kept:
            raise DataError(
                f"{recipe.folder}: expected frames that can be decoded, of {SOURCE_SIDE_MIN_PX} pixels a side or more, "
                f"got {bad} that cannot or are smaller and no other; look at the bag with replay_bag"
            )
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            print(f"{recipe.folder}: another process took its frames out meanwhile; they are in {folder}")
            return folder
    except (BagError, OutputPathError) as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{folder}: the frames of {recipe.folder} cannot be written ({error}); make room") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(
        f"{recipe.folder}: {kept} frames taken out into {folder}, {bad} left out that cannot be decoded or have a side "
        f"under {SOURCE_SIDE_MIN_PX} pixels"
    )
    return folder


def _write_frames(recipe: SourceRecipe, images: Path) -> tuple[int, int]:
    wanted = {f"topic_{number}": topic for number, topic in enumerate(recipe.topics)}
    seen: dict[str, int] = {}
    last: dict[str, NDArray[np.float32]] = {}
    kept = bad = 0
    with BagReader(recipe.folder, wanted) as bag:
        for note in bag.notes:
            print(f"{recipe.folder}: {note}")
        frames = read_camera_frames(bag)
        total = bag.count(list(bag.cameras.values()))
        for camera, _, frame in tqdm(frames, total=total, desc=f"reading {recipe.folder}", unit="frame", disable=None):
            number = seen.get(camera, 0)
            seen[camera] = number + 1
            if number % recipe.stride:
                continue
            if isinstance(frame, BadFrame) or min(frame.image_bgr.shape[:2]) < SOURCE_SIDE_MIN_PX:
                bad += 1
            elif _has_changed(frame.image_bgr, camera, last, recipe.change_min):
                path = images / f"{camera}_{number:07d}.jpg"
                if not cv2.imwrite(str(path), frame.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                    raise OSError(f"{path} could not be written")
                kept += 1
    return kept, bad


def _has_changed(image_bgr: UInt8Array, camera: str, last: dict[str, NDArray[np.float32]], change_min: float) -> bool:
    """Whether a frame differs enough from the camera's last one that did, which `last` remembers."""
    thumbnail = _thumbnail(image_bgr)
    if camera in last and float(np.abs(thumbnail - last[camera]).mean()) < change_min:
        return False
    last[camera] = thumbnail
    return True


def _thumbnail(image_bgr: UInt8Array) -> NDArray[np.float32]:
    """A tiny grey picture, 0..1, in which noise and compression average out."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, THUMBNAIL_SIZE_PX, interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)


def _key(recipe: SourceRecipe) -> str:
    """Changes when the bag does, or what is taken out of it."""
    path = recipe.folder
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path, *logs_of(path)]
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise DataError(f"{path}: expected a ROS 2 bag, got {error.strerror}; correct the recipe's folder") from error
    chosen = (recipe.topics, recipe.stride, recipe.change_min)
    return hashlib.sha256(repr((facts, chosen)).encode()).hexdigest()[:12]
