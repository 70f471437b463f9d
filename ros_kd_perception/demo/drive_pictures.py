"""Draw a recorded drive: an overlay video of all cameras, and single pictures for the report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from ros_kd_perception.bags.reader import BagReader, RawMessage, decode_message
from ros_kd_perception.demo.recorded_results import RecordedResult
from ros_kd_perception.drawing.mosaic import Mosaic, shrink
from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.drawing.video import VideoWriter
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.playback_timeline import PlaybackTimeline, played_part
from ros_kd_perception.structures import BadFrame, UInt8Array

FrameKey = tuple[str, int]
"""Camera, and stamp in nanoseconds."""


@dataclass(frozen=True)
class DrawnFrame:
    """A drawn camera frame.

    Attributes:
        key: Camera and stamp.
        position_ns: When it was played, nanoseconds after the first frame.
        image_bgr: The camera image, uint8 `[height, width, 3]`.
        picture_bgr: The picture for the camera's tile of the mosaic, uint8; with the overlay if there is a result.
        result: The recorded result. None if there is no result.
    """

    key: FrameKey
    position_ns: int
    image_bgr: UInt8Array
    picture_bgr: UInt8Array
    result: RecordedResult | None


class PictureAlbum:
    """Keeps JPEGs of chosen frames while a drive is drawn.

    Args:
        wanted: Keys of the frames to keep.
        contract: Names and colours of the classes.
        width: Width of the kept pictures, pixels. They are drawn in this size, so that labels stay readable.
    """

    def __init__(self, wanted: Collection[FrameKey], contract: ModelContract, width: int = 512) -> None:
        self._wanted = set(wanted)
        self._contract = contract
        self._width = width
        self.jpegs: dict[FrameKey, bytes] = {}

    def keep(self, drawn: DrawnFrame) -> None:
        """Keep a frame if it is one of the wanted frames."""
        if drawn.key in self._wanted:
            height, width = drawn.image_bgr.shape[:2]
            size = (max(1, round(height * self._width / width)), self._width)
            self.jpegs[drawn.key] = jpeg_of(_overlay(drawn.image_bgr, drawn.result, self._contract, size))


def draw_frames(
    bag: BagReader,
    duration_s: float,
    results: Mapping[FrameKey, RecordedResult],
    contract: ModelContract,
    mosaic: Mosaic,
) -> Iterator[DrawnFrame]:
    """Draw every frame of a bag that can be decoded, in the order of the bag.

    Args:
        bag: The drive.
        duration_s: Seconds that were played; 0 means all.
        results: Recorded results, shrunk to the tiles of the mosaic.
        contract: Names and colours of the classes.
        mosaic: Gives the size of each camera's pictures.
    """
    camera_of = {topic: camera for camera, topic in bag.cameras.items()}
    for position_ns, raw in played_part(bag.raw_messages(camera_of), duration_s, PlaybackTimeline()):
        drawn = _draw(camera_of[raw.topic], position_ns, raw, results, contract, mosaic)
        if drawn is not None:
            yield drawn


def _draw(
    camera: str,
    position_ns: int,
    raw: RawMessage,
    results: Mapping[FrameKey, RecordedResult],
    contract: ModelContract,
    mosaic: Mosaic,
) -> DrawnFrame | None:
    try:
        frame = frame_from_message(camera, decode_message(raw))
    except BadFrame:
        return None  # the node has also dropped and counted it
    key = (camera, frame.stamp_ns)
    result = results.get(key)
    if result is not None and not result.fits(frame.image_bgr.shape[:2]):
        result = None
    size = mosaic.tiles[camera].fit(*frame.image_bgr.shape[:2])
    picture_bgr = _overlay(frame.image_bgr, result, contract, size)
    return DrawnFrame(key, position_ns, frame.image_bgr, picture_bgr, result)


def _overlay(
    image_bgr: UInt8Array, result: RecordedResult | None, contract: ModelContract, size: tuple[int, int]
) -> UInt8Array:
    picture_bgr = shrink(image_bgr, *size)
    if result is None:
        return picture_bgr
    return draw_overlay(picture_bgr, result.perception(size, image_bgr.shape[:2]), contract)


def write_overlay_video(
    frames: Iterable[DrawnFrame],
    captions: Mapping[FrameKey, str],
    mosaic: Mosaic,
    video: VideoWriter,
    frames_per_second: int,
    hero: FrameKey | None,
    album: PictureAlbum,
) -> bytes:
    """Write all cameras side by side in real time, and keep the pictures that the report needs.

    At any moment of the video, each tile shows its camera's latest frame.

    Args:
        frames: Drawn frames in the order of playing.
        captions: Text in the corner of each frame's tile.
        mosaic: Gives the place of each camera.
        video: Takes the pictures.
        frames_per_second: Frame rate of the video.
        hero: The frame at which the whole mosaic is kept.
        album: Keeps single frames.

    Returns:
        JPEG of the mosaic at `hero`, or of the last mosaic.
    """
    hero_jpeg = b""
    next_ns, period_ns = 0, 1_000_000_000 // frames_per_second
    for drawn in frames:
        while next_ns < drawn.position_ns:
            video.write(mosaic.canvas_bgr)
            next_ns += period_ns
        mosaic.put(drawn.key[0], drawn.picture_bgr, captions.get(drawn.key, drawn.key[0]), missing=drawn.result is None)
        album.keep(drawn)
        if drawn.key == hero:
            hero_jpeg = jpeg_of(mosaic.canvas_bgr)
    video.write(mosaic.canvas_bgr)
    return hero_jpeg or jpeg_of(mosaic.canvas_bgr)


def jpeg_of(picture_bgr: UInt8Array, quality: int = 82) -> bytes:
    """Compress a picture as JPEG."""
    _, data = cv2.imencode(".jpg", picture_bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return bytes(np.asarray(data).tobytes())
