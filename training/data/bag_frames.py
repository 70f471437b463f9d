"""Takes frames out of a ROS 2 bag into a folder of images."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader, logs_of, read_camera_frames
from ros_kd_perception.structures import BadFrame, UInt8Array
from ros_kd_perception.system.output_paths import OutputPathError, make_folder
from training.data.augmentation import SOURCE_SIDE_MIN_PX
from training.errors import DataError

FRAMES_FOLDER = Path("out/frames")
THUMBNAIL_SIZE_PX = (32, 18)
JPEG_QUALITY = 95


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a bag to take out.

    Attributes:
        topics: Image topics; empty for those of all cameras in the bag.
        stride: Look at every n-th frame of a camera.
        change_min: Leave out a frame if its thumbnail differs by less than this from that of the last frame kept; mean
            over pixels, full scale is 1.
    """

    topics: tuple[str, ...] = ()
    stride: int = 1
    change_min: float = 0.01


def take_frames_out(bag: Path, choice: FrameChoice, output: Path = FRAMES_FOLDER) -> Path:
    """Return the folder with the chosen frames of a bag; make it unless it is there from before.

    Frames that hardly differ from the last one kept are left out: a car that waits at a light would otherwise fill the
    training with one picture.

    Args:
        bag: A file or a folder.
        choice: Which frames to take.
        output: Holds one folder for each bag and choice.

    Raises:
        DataError: There is no such bag or topic, no frame can be decoded, or nowhere to write.
    """
    folder = output / f"{bag.stem}-{_key(bag, choice)}"
    if folder.is_dir():
        return folder
    # Processes of two machines that share a disk may have the same number.
    part = folder.with_name(f".{folder.name}.{platform.node()}.{os.getpid()}.part")
    try:
        make_folder(part / "images")
        kept, bad = _write_frames(bag, choice, part / "images")
        if not kept:
            raise DataError(
                f"{bag}: expected frames that can be decoded, of {SOURCE_SIDE_MIN_PX} pixels a side or more, "
                f"got {bad} that cannot or are smaller and no other; look at the bag with replay_bag"
            )
        if _is_ours(part, folder):
            print(
                f"{bag}: {kept} frames taken out into {folder}, {bad} left out that cannot be decoded or have a side "
                f"under {SOURCE_SIDE_MIN_PX} pixels"
            )
        else:
            print(f"{bag}: another process took its frames out meanwhile; they are in {folder}")
    except (BagError, OutputPathError) as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{folder}: the frames of {bag} cannot be written ({error}); make room") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_ours(part: Path, folder: Path) -> bool:
    """Give a finished folder its name; return False if another process was first."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        return False
    return True


def _write_frames(path: Path, choice: FrameChoice, images: Path) -> tuple[int, int]:
    """Write the chosen frames into `images`; return how many were kept, and how many cannot be trained on."""
    wanted = {f"topic_{number}": topic for number, topic in enumerate(choice.topics)}
    seen: dict[str, int] = {}
    last: dict[str, NDArray[np.float32]] = {}
    kept = bad = 0
    with BagReader(path, wanted) as bag:
        for note in bag.notes:
            print(f"{path}: {note}")
        frames = read_camera_frames(bag)
        total = bag.count(list(bag.cameras.values()))
        for camera, _, frame in tqdm(frames, total=total, desc=f"reading {path}", unit="frame", disable=None):
            number = seen.get(camera, 0)
            seen[camera] = number + 1
            if number % choice.stride:
                continue
            if isinstance(frame, BadFrame) or min(frame.image_bgr.shape[:2]) < SOURCE_SIDE_MIN_PX:
                bad += 1
            elif _has_changed(frame.image_bgr, camera, last, choice.change_min):
                _write_image(images / f"{camera}_{number:07d}.jpg", frame.image_bgr)
                kept += 1
    return kept, bad


def _write_image(path: Path, image_bgr: UInt8Array) -> None:
    if not cv2.imwrite(str(path), image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise OSError(f"{path} could not be written")


def _has_changed(image_bgr: UInt8Array, camera: str, last: dict[str, NDArray[np.float32]], change_min: float) -> bool:
    """Return whether a frame differs enough from the last one kept of its camera; update `last` if it does."""
    thumbnail = _thumbnail(image_bgr)
    if camera in last and float(np.abs(thumbnail - last[camera]).mean()) < change_min:
        return False
    last[camera] = thumbnail
    return True


def _thumbnail(image_bgr: UInt8Array) -> NDArray[np.float32]:
    """Return a tiny grey picture, 0..1, in which noise and compression average out."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, THUMBNAIL_SIZE_PX, interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)


def _key(bag: Path, choice: FrameChoice) -> str:
    """Return a digest that changes when the bag does, or the choice of frames."""
    try:
        files = sorted(bag.rglob("*")) if bag.is_dir() else [bag, *logs_of(bag)]
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise DataError(f"{bag}: expected a ROS 2 bag, got {error.strerror}; correct the recipe's folder") from error
    return hashlib.sha256(repr((facts, astuple(choice))).encode()).hexdigest()[:12]
