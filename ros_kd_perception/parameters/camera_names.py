"""Finds the camera topics of a bag and gives the cameras names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

UNNAMED_CAMERA = "camera"
"""Name of the camera if the topic is just `/image_raw`."""

# Topics with one of these words are not cameras, unless `--camera` names them.
_NOT_A_CAMERA = ("depth", "disparity", "segmentation", "overlay", "mask", "confidence", "free_space")
# The last part of a topic that begins with `image`. What an image transport appends is not part of it.
_IMAGE_PART = re.compile(r"(.*)/image(?!s)([^/]*)(?:/.*)?")
# Words in this part that describe the picture. The other words belong to the camera's name.
_KINDS = (
    "raw color colour mono gray grey rgb bgr rect rectified undistorted compressed resized throttle throttled".split()
)
CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""Pattern of camera names, which are used in topic and parameter names."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag: name, message type and number of messages."""

    name: str
    message_type: str
    count: int


def choose_cameras(topics: Sequence[BagTopic], wanted: Mapping[str, str]) -> dict[str, str]:
    """Find and name the cameras of a bag.

    The name of a camera is the part of its topic before the last `/image*`, with underscores for slashes:
    `/left/image_raw` is `left`, and so is `/image_left`. If no topic has such a part, the whole topic is the name. If a
    camera has several topics, prefer one with messages over an empty one, then raw images over compressed ones, then
    the shorter name. Depth images, class maps, overlays and other results are not cameras.

    Args:
        topics: All topics of the bag.
        wanted: Camera name -> topic, chosen by the user. If not empty, these are the only cameras.

    Returns:
        Camera name -> topic, sorted by name. Empty without cameras.

    Raises:
        ValueError: A wanted topic is not in the bag or has no images.
    """
    images = [topic for topic in topics if topic.message_type in (IMAGE, COMPRESSED_IMAGE)]
    if wanted:
        _check_wanted(wanted, topics, images)
        return dict(wanted)
    pictures = [t for t in images if not any(word in t.name.lower() for word in _NOT_A_CAMERA)]
    sources: dict[str, list[BagTopic]] = {}
    for topic in pictures:
        source = _before_image_part(topic.name)
        if source is not None:
            sources.setdefault(source, []).append(topic)
    if not sources:
        for topic in pictures:
            sources.setdefault(topic.name.removesuffix("/compressed"), []).append(topic)
    cameras: dict[str, str] = {}
    for source in sorted(sources):
        best = min(sources[source], key=lambda t: (t.count == 0, t.message_type != IMAGE, len(t.name), t.name))
        cameras[_free_name(source, cameras)] = best.name
    return dict(sorted(cameras.items()))


def name_cameras(topics: Sequence[str]) -> dict[str, str]:
    """Give each of some image topics a camera name by the rule of `choose_cameras`: camera name -> topic.

    Topics of one camera, such as its raw and its compressed images, get different names.
    """
    cameras: dict[str, str] = {}
    for topic in dict.fromkeys(topics):
        source = _before_image_part(topic)
        cameras[_free_name(topic.removesuffix("/compressed") if source is None else source, cameras)] = topic
    return cameras


def parse_camera_topics(arguments: Sequence[str]) -> dict[str, str]:
    """Read `--camera NAME=TOPIC` arguments into camera name -> topic.

    Raises:
        ValueError: An argument has another form, a name is not allowed in a topic, or a name is used twice.
    """
    cameras: dict[str, str] = {}
    for argument in arguments:
        name, equals, topic = argument.partition("=")
        if not equals or not CAMERA_NAME.fullmatch(name) or not topic.startswith("/"):
            raise ValueError(
                "expected --camera NAME=TOPIC, with a name that is a letter and then letters, digits and underscores, "
                f"and a topic that starts with a slash, such as front=/front/image_raw, got {argument!r}"
            )
        if name in cameras:
            raise ValueError(f"expected each camera name once, got {name!r} for {cameras[name]} and {topic}")
        cameras[name] = topic
    return cameras


def camera_info_topic(image_topic: str) -> str:
    """Return the topic that carries the calibration of an image topic by convention: its sibling `camera_info`."""
    match = _IMAGE_PART.fullmatch(image_topic)
    return f"{match[1] if match else image_topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"


def what_is_there(topics: Sequence[BagTopic]) -> str:
    """Return the topics of a bag without cameras and what to do, as the second half of an error sentence."""
    found = ", ".join(f"{topic.name} ({topic.message_type})" for topic in topics[:20])
    if any(topic.message_type.endswith(" in ros1") for topic in topics):
        return f"found: {found}; convert the .bag file of ROS 1 to a ROS 2 bag with `rosbags-convert`"
    return f"found: {found}; choose one with --camera NAME=TOPIC if it is among them"


def _before_image_part(topic: str) -> str | None:
    """Return the part of a topic that names the camera; None if the topic has no part that begins with `image`."""
    match = _IMAGE_PART.fullmatch(topic)
    if match is None:
        return None
    own = [word for word in match[2].split("_") if word and word not in _KINDS]
    return "/".join([match[1], "_".join(own)]) if own else match[1]


def _check_wanted(wanted: Mapping[str, str], topics: Sequence[BagTopic], images: Sequence[BagTopic]) -> None:
    names = [topic.name for topic in images]
    for camera, name in wanted.items():
        if name not in names:
            kinds = [topic.message_type for topic in topics if topic.name == name]
            of_type = f" (it holds {kinds[0]})" if kinds else ""
            raise ValueError(
                f"expected the topic {name} of camera {camera!r} to be one of the bag's image topics{of_type}, which "
                f"are: {', '.join(names) or 'none'}"
            )


def _free_name(source: str, taken: Mapping[str, str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", source.strip("/")) or UNNAMED_CAMERA
    if not name[0].isalpha():  # the node accepts only names that start with a letter
        name = f"{UNNAMED_CAMERA}_{name.lstrip('_')}".rstrip("_")
    # /a/b and /a_b are different cameras that would get the same name.
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
