"""Takes frames out of a ROS 2 bag into a folder of images, with the stamp and the camera of each."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2

from ros_kd_perception.bags.reader import BagError, BagReader
from ros_kd_perception.images.compressed import decode_file
from ros_kd_perception.structures import BadFrame, Frame, UInt8Array
from ros_kd_perception.system.output_paths import OutputPathError
from training.data.augmentation import SOURCE_SIDE_MIN_PX
from training.data.frame_choice import ChosenFrame, FrameChoice, FrameChooser
from training.data.frame_log import IMAGES_FOLDER, FrameList, FrameLog, FrameRecord
from training.errors import DataError, writing_to
from training.whole_files import write_bytes

FRAMES_FOLDER = Path("out/frames")
JPEG_QUALITY = 95


class FrameAnnotator(Protocol):
    """Writes more files beside the images of an extraction, such as pseudo-labels."""

    @property
    def key(self) -> str:
        """Digest of everything that decides what is written; an interrupted extraction goes on only with the same."""
        ...

    def annotate(self, folder: Path, record: FrameRecord, image_bgr: UInt8Array) -> dict[str, Any]:
        """Write the files of a frame and return notes about it as plain values, for `finish`.

        Args:
            folder: The folder of the extraction.
            record: The frame, without notes. Its image is written afterwards.
            image_bgr: uint8 [h, w, 3], the pixels of the image file.
        """
        ...

    def finish(self, folder: Path, frames: Sequence[FrameRecord]) -> None:
        """Write the files about all frames.

        Args:
            folder: The folder of the extraction.
            frames: All frames with their notes.
        """
        ...


def extract_frames(bag: Path, choice: FrameChoice, folder: Path, annotator: FrameAnnotator | None = None) -> FrameList:
    """Write the chosen frames of a bag into a folder, or the rest of them after an interrupted run.

    The folder then holds images/ and frames.json. An interrupted run and a second one give the same files as one run:
    every file is written under a temporary name, and a frame is noted only when its files are complete.

    Args:
        bag: A file or a folder.
        choice: Which frames to take.
        folder: A new or empty folder, or one of an earlier run with the same arguments.
        annotator: Writes more files for each frame.

    Raises:
        DataError: There is no such bag or topic, no frame can be decoded, or the folder holds something else or cannot
            be written.
    """
    key = choice.digest(bag, annotator.key if annotator else "")
    try:
        finished = FrameList.read(folder)
        if finished is not None:
            return _same(finished, key, folder)
        with choice.open(bag) as reader, writing_to(folder), FrameLog(folder, key) as log:
            similar = _write_frames(reader, choice, folder, log, annotator)
            if not log.records:
                log.remove()
                found = (
                    f"got {log.bad} that cannot or are smaller and no other; look at the bag with replay_bag"
                    if log.bad
                    else "the chosen range of time has no frame at all; begin earlier, or end later"
                )
                raise DataError(
                    f"{bag}: expected frames that can be decoded, of {SOURCE_SIDE_MIN_PX} pixels a side or more, "
                    f"{found}"
                )
            frames = FrameList(key, tuple(log.records), log.bad, similar)
            if annotator:
                annotator.finish(folder, frames.frames)
            frames.write(folder, bag)
            log.remove()
    except (BagError, OutputPathError) as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(
            f"{folder}: the frames of {bag} cannot be written ({error}); make room, and begin again to go on"
        ) from error
    return frames


def take_frames_out(bag: Path, choice: FrameChoice, output: Path = FRAMES_FOLDER) -> Path:
    """Return the folder with the chosen frames of a bag; make it unless it is there from before.

    Several processes of a run may do this at once: each extracts into a folder of its own, and the first one to finish
    gives its folder the name.

    Args:
        bag: A file or a folder.
        choice: Which frames to take.
        output: Holds one folder for each bag and choice.

    Raises:
        DataError: See `extract_frames`.
    """
    folder = output / f"{bag.stem}-{choice.digest(bag)}"
    if folder.is_dir():
        return folder
    # Processes of two machines that share a disk may have the same number.
    part = folder.with_name(f".{folder.name}.{platform.node()}.{os.getpid()}.part")
    try:
        frames = extract_frames(bag, choice, part)
        if _is_ours(part, folder):
            print(f"{bag}: {summary(frames, folder)}")
        else:
            print(f"{bag}: another process took its frames out meanwhile; they are in {folder}")
    except OSError as error:
        raise DataError(f"{folder}: the frames of {bag} cannot be written ({error}); make room") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def summary(frames: FrameList, folder: Path) -> str:
    """Return in words how many frames were taken out and left out."""
    return (
        f"{len(frames.frames)} frames taken out into {folder}, {frames.bad} left out that cannot be decoded or have a "
        f"side under {SOURCE_SIDE_MIN_PX} pixels, {frames.similar} that hardly differ from the one before"
    )


def _same(finished: FrameList, key: str, folder: Path) -> FrameList:
    """Return a finished extraction if it is of the same bag and choice."""
    if finished.key != key:
        raise DataError(
            f"{folder}: expected a new folder, or the frames of this bag and choice, it holds those of others; choose "
            "another folder, or delete it"
        )
    return finished


def _is_ours(part: Path, folder: Path) -> bool:
    """Give a finished folder its name; return False if another process was first."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        return False
    return True


def _write_frames(
    bag: BagReader, choice: FrameChoice, folder: Path, log: FrameLog, annotator: FrameAnnotator | None
) -> int:
    """Write the frames that the log does not have; return how many were left out as similar."""
    for note in bag.notes:
        print(f"{bag.path}: {note}")
    chooser = FrameChooser(bag, choice, log.decided)
    for chosen in chooser:
        if isinstance(chosen.frame, BadFrame):
            log.add_bad(chosen.camera, chosen.number, chosen.frame.reason)
        else:
            log.add(_write_frame(chosen, chosen.frame, folder, annotator))
    return chooser.similar


def _write_frame(chosen: ChosenFrame, frame: Frame, folder: Path, annotator: FrameAnnotator | None) -> FrameRecord:
    name = f"{chosen.camera}_{chosen.number:07d}"
    file = f"{IMAGES_FOLDER}/{name}.jpg"
    encoded, pixels = cv2.imencode(".jpg", frame.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise OSError(f"{folder / file} could not be encoded")
    content = pixels.tobytes()
    height, width = frame.image_bgr.shape[:2]
    facts = (chosen.message.topic, frame.frame_id, frame.stamp_ns, chosen.message.log_time_ns, width, height)
    record = FrameRecord(name, file, chosen.camera, chosen.number, *facts, hashlib.sha256(content).hexdigest())
    if annotator is not None:
        # A teacher sees the pixels that the student will see: those of the file, with its losses. It comes first, so
        # that one that cannot look at such frames leaves no image.
        record = replace(record, notes=annotator.annotate(folder, record, decode_file(content)))
    write_bytes(folder / file, content)
    return record
