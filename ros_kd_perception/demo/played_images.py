"""Find out what the demo will play of a bag: number and size of the images, and gaps that are skipped."""

from __future__ import annotations

from dataclasses import dataclass

from ros_kd_perception.bags.reader import BagReader, RawMessage, decode_message
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.playback_timeline import Jump, PlaybackTimeline, played_part
from ros_kd_perception.structures import BadFrame


@dataclass(frozen=True)
class PlayedImages:
    """The images that will be played.

    Attributes:
        count: Number of images.
        jumps: Gaps between them that are skipped.
        largest_message_bytes: Size of the largest message that is sent, including masks of the images.
        absent: Cameras without an image among them.
    """

    count: int
    jumps: list[Jump]
    largest_message_bytes: int
    absent: list[str]


def look_at_images(bag: BagReader, duration_s: float) -> PlayedImages:
    """Read the images that will be played. Decode only the first one of each camera.

    Args:
        bag: An open bag.
        duration_s: Seconds of playing; 0 means all.

    Raises:
        BagError: The bag cannot be read to its end.
    """
    timeline = PlaybackTimeline()
    count = jumps = largest = 0
    topics: set[str] = set()
    for _, message in played_part(bag.raw_messages(bag.cameras.values()), duration_s, timeline):
        count, jumps = count + 1, len(timeline.jumps)
        largest = max(largest, len(message.data))
        if message.topic not in topics:  # a small JPEG may have a large mask
            topics.add(message.topic)
            largest = max(largest, _mask_bytes(message))
    absent = [camera for camera, topic in bag.cameras.items() if topic not in topics]
    return PlayedImages(count, timeline.jumps[:jumps], largest, absent)


def _mask_bytes(message: RawMessage) -> int:
    try:
        height, width = frame_from_message("", decode_message(message)).image_bgr.shape[:2]
    except BadFrame:
        return 0  # the node drops such a frame and sends no mask
    return int(height * width)
