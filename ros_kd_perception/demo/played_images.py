"""What the demo will play of a bag: how many images, with which gaps jumped, and how large."""

from __future__ import annotations

from dataclasses import dataclass

from ros_kd_perception.bags.reader import BagReader, RawMessage, decode_message
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.playback_timeline import Jump, PlaybackTimeline, played_part
from ros_kd_perception.structures import BadFrame


@dataclass(frozen=True)
class PlayedImages:
    """The images that are played.

    Attributes:
        count: how many.
        jumps: gaps between them that are jumped.
        largest_message_bytes: of all that is sent, masks of the images included.
        absent: cameras without an image among them.
    """

    count: int
    jumps: list[Jump]
    largest_message_bytes: int
    absent: list[str]


def look_at_images(bag: BagReader, duration_s: float) -> PlayedImages:
    """Go through the images that will be played, without decoding them but for the first of each camera.

    Args:
        bag: open.
        duration_s: seconds of playing; 0 is all.

    Raises:
        BagError: the bag cannot be read on.
    """
    timeline = PlaybackTimeline()
    count = jumps = largest = 0
    topics: set[str] = set()
    for _, message in played_part((message for _, message in bag.frames()), duration_s, timeline):
        count, jumps = count + 1, len(timeline.jumps)
        largest = max(largest, len(message.data))
        if message.topic not in topics:  # of an image that is a small JPEG, the mask is large
            topics.add(message.topic)
            largest = max(largest, _mask_bytes(message))
    absent = [camera for camera, topic in bag.cameras.items() if topic not in topics]
    return PlayedImages(count, timeline.jumps[:jumps], largest, absent)


def _mask_bytes(message: RawMessage) -> int:
    try:
        height, width = frame_from_message("", decode_message(message)).image_bgr.shape[:2]
    except BadFrame:
        return 0  # the node drops it and sends none
    return int(height * width)
