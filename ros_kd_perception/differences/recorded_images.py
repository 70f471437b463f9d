"""Finds the camera images that belong to recorded results, for their pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ros_kd_perception.bags.reader import BagError, BagReader, decode_message
from ros_kd_perception.differences.frames import no_image
from ros_kd_perception.differences.recorded_frames import FrameCursor, FrameKey, StampIndex
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.structures import BadFrame, UInt8Array

_IMAGE = "image"


class RecordedImages:
    """The images of shared frames, from one bag.

    Attributes:
        bag: The bag that has them. None if no bag has images.
        known: Number of shared frames with an image.

    Args:
        bag: An open bag with cameras, or None.
        frames: The shared frames.
    """

    def __init__(self, bag: BagReader | None, frames: Collection[FrameKey]) -> None:
        self.bag = bag
        self.known = 0
        self._cursor: FrameCursor | None = None
        self._has: frozenset[FrameKey] = frozenset()
        if bag is not None:
            topics = {topic: (camera, _IMAGE) for camera, topic in bag.cameras.items()}
            found = StampIndex.of(bag, topics).parts
            self._has = frozenset(key for key in frames if key in found)
            self.known = len(self._has)
            self._cursor = FrameCursor(bag, topics, dict.fromkeys(self._has, (_IMAGE,)))

    def image_of(self, key: FrameKey) -> Callable[[], UInt8Array | None]:
        """Return what decodes the image of a frame. Call it for each frame, in the order of the old side."""
        if self._cursor is None or key not in self._has:
            return no_image
        raw = self._cursor.take(key)[_IMAGE]

        def decode() -> UInt8Array | None:
            try:
                return frame_from_message(key[0], decode_message(raw)).image_bgr
            except BadFrame:
                return None

        return decode


def open_images(
    stack: ExitStack, paths: Sequence[Path], is_named: bool, topics: Mapping[str, str], cameras: Collection[str]
) -> BagReader | None:
    """Open the first bag that has images of one of the cameras.

    Args:
        stack: Closes the bag.
        paths: Bags to try.
        is_named: Whether the user named the bag for its images, so that it must have some.
        topics: Camera name -> image topic, chosen by the user. May be empty.
        cameras: Names of the cameras.

    Raises:
        BagError: The bag that the user named has no images of these cameras.
    """
    for path in paths:
        try:
            bag = stack.enter_context(BagReader(path, topics))
        except BagError:
            if is_named:
                raise
            continue
        if set(bag.cameras) & set(cameras) and bag.count(bag.cameras.values()):
            return bag
        if is_named:
            raise BagError(
                f"expected images of {', '.join(cameras)} in {path}, found those of {', '.join(bag.cameras)}; name "
                "their topics with --camera NAME=TOPIC"
            )
    return None
