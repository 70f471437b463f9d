"""Chooses frames of a ROS 2 bag: by topic, time and stride, without those that hardly differ from the one before."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.bags.reader import BagReader, RawMessage, decode_message, logs_of
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.images.serialized_message import stamp_ns_of
from ros_kd_perception.parameters.camera_names import name_cameras
from ros_kd_perception.structures import BadFrame, Frame, UInt8Array
from training.data.augmentation import SOURCE_SIDE_MIN_PX
from training.errors import DataError

THUMBNAIL_SIZE_PX = (32, 18)


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a bag to take out.

    Attributes:
        topics: Image topics; empty for those of all cameras in the bag.
        stride: Look at every n-th frame of a camera.
        change_min: Leave out a frame if its thumbnail differs by less than this from that of the last frame kept; mean
            over pixels, full scale is 1.
        from_s: Begin this many seconds after the first image, by the times of the recorder.
        to_s: End this many seconds after the first image, exclusive; None takes all.
        from_stamp_ns: Leave out frames with an earlier header stamp; None takes all.
        to_stamp_ns: Leave out frames with this header stamp or a later one; None takes all.
        max_frames: Keep at most this many frames of all cameras together; 0 takes all.
    """

    topics: tuple[str, ...] = ()
    stride: int = 1
    change_min: float = 0.01
    from_s: float = 0.0
    to_s: float | None = None
    from_stamp_ns: int | None = None
    to_stamp_ns: int | None = None
    max_frames: int = 0

    def digest(self, bag: Path, more: str = "") -> str:
        """Return a digest that changes when the bag does, or the choice of frames, or `more`.

        Raises:
            DataError: There is no such bag.
        """
        try:
            files = sorted(bag.rglob("*")) if bag.is_dir() else [bag, *logs_of(bag)]
            facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        except OSError as error:
            raise DataError(f"{bag}: expected a ROS 2 bag, got {error.strerror}; correct the path") from error
        return hashlib.sha256(repr((facts, astuple(self), more)).encode()).hexdigest()[:12]

    def open(self, bag: Path) -> BagReader:
        """Open a bag with the chosen topics as its cameras.

        Raises:
            BagError: The bag cannot be read, or does not have the topics.
        """
        return BagReader(bag, name_cameras(self.topics))


@dataclass(frozen=True)
class Decided:
    """A frame that an earlier, interrupted run has decided on.

    Attributes:
        camera: Name of its camera.
        number: Its place among the frames of the camera.
        kept: Whether it was kept; False for one that cannot be trained on.
    """

    camera: str
    number: int
    kept: bool


@dataclass(frozen=True)
class ChosenFrame:
    """A frame to keep, or one that cannot be trained on.

    Attributes:
        camera: Name of its camera.
        number: Its place among the frames of the camera, counted from the begin of the time range.
        message: The recorded message.
        frame: The decoded image, or why there is none.
    """

    camera: str
    number: int
    message: RawMessage
    frame: Frame | BadFrame


class FrameChooser:
    """Goes through a bag and yields the chosen frames.

    Attributes:
        similar: How many frames were left out because they hardly differ from the last one kept. After an interrupted
            run, those before its end count, too.
    """

    def __init__(self, bag: BagReader, choice: FrameChoice, decided: Sequence[Decided] = ()) -> None:
        """Prepare to go through a bag.

        Args:
            bag: An open bag, see `FrameChoice.open`.
            choice: Which frames to take.
            decided: What an earlier run yielded, in its order. These frames are not yielded again.
        """
        self.similar = 0
        self._bag, self._choice = bag, choice
        self._decided = deque(decided)
        self._last_kept = {entry.camera: entry.number for entry in decided if entry.kept}
        self._thumbnails: dict[str, NDArray[np.float32]] = {}
        self._kept = sum(entry.kept for entry in decided)

    def __iter__(self) -> Iterator[ChosenFrame]:
        choice, seen = self._choice, dict.fromkeys(self._bag.cameras, 0)
        for camera, message in self._messages():
            if choice.max_frames and self._kept >= choice.max_frames and not self._decided:
                return
            number = seen[camera]
            seen[camera] = number + 1
            if number % choice.stride:
                continue
            if self._decided:
                self._pass_over(camera, number, message)
                continue
            chosen = ChosenFrame(camera, number, message, _decoded(camera, message))
            if isinstance(chosen.frame, BadFrame):
                yield chosen
            elif self._has_changed(camera, chosen.frame.image_bgr):
                self._kept += 1
                yield chosen
            else:
                self.similar += 1

    def _messages(self) -> Iterator[tuple[str, RawMessage]]:
        """Yield camera and message of the frames in the range of time, with a progress bar.

        The images of a topic that several cameras share are yielded for each of them.
        """
        bag, choice = self._bag, self._choice
        cameras_of: dict[str, list[str]] = {}
        for camera, topic in bag.cameras.items():
            cameras_of.setdefault(topic, []).append(camera)
        start_ns, end_ns = None, None
        if choice.from_s or choice.to_s is not None:
            start_ns = bag.first_image_ns + round(choice.from_s * 1e9)
            end_ns = None if choice.to_s is None else bag.first_image_ns + round(choice.to_s * 1e9)
        messages = bag.raw_messages(cameras_of, start_ns, end_ns)
        bar = tqdm(messages, total=bag.count(cameras_of), desc=f"reading {bag.path}", unit="frame", disable=None)
        for message in bar:
            if self._is_stamped_within(message):
                for camera in cameras_of[message.topic]:
                    yield camera, message

    def _is_stamped_within(self, message: RawMessage) -> bool:
        earliest, end = self._choice.from_stamp_ns, self._choice.to_stamp_ns
        if earliest is None and end is None:
            return True
        try:
            stamp_ns = stamp_ns_of(message.data)
        except ValueError:  # no whole header: the frame cannot be decoded either, and is counted there
            return True
        return (earliest is None or stamp_ns >= earliest) and (end is None or stamp_ns < end)

    def _pass_over(self, camera: str, number: int, message: RawMessage) -> None:
        """Skip a frame that an earlier run decided on. Take the thumbnail of the last one kept of each camera."""
        if (camera, number) != (self._decided[0].camera, self._decided[0].number):
            self.similar += 1
            return
        self._decided.popleft()
        if self._last_kept.get(camera) == number:
            frame = _decoded(camera, message)
            if isinstance(frame, Frame):
                self._thumbnails[camera] = thumbnail(frame.image_bgr)

    def _has_changed(self, camera: str, image_bgr: UInt8Array) -> bool:
        """Return whether a frame differs enough from the last one kept of its camera; note it if it does."""
        small = thumbnail(image_bgr)
        last = self._thumbnails.get(camera)
        if last is not None and float(np.abs(small - last).mean()) < self._choice.change_min:
            return False
        self._thumbnails[camera] = small
        return True


def _decoded(camera: str, message: RawMessage) -> Frame | BadFrame:
    """Return the image of a message, or why it cannot be trained on."""
    try:
        frame = frame_from_message(camera, decode_message(message))
    except BadFrame as reason:
        return reason
    if min(frame.image_bgr.shape[:2]) < SOURCE_SIDE_MIN_PX:
        return BadFrame("bad_size", f"expected at least {SOURCE_SIDE_MIN_PX} pixels a side")
    return frame


def thumbnail(image_bgr: UInt8Array) -> NDArray[np.float32]:
    """Return a tiny grey picture, 0..1, in which noise and compression average out."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, THUMBNAIL_SIZE_PX, interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)
