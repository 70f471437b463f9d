"""Message types of bags and their serialisation, as rosbags has them, without ROS."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ros_kd_perception.bag_errors import one_line
from ros_kd_perception.message_builder import MessageTypes
from ros_kd_perception.structures import BadFrame

MAX_MESSAGE_BYTES = 1 << 29


@dataclass(frozen=True)
class RawMessage:
    """One message as it lies in the bag.

    Attributes:
        topic: its topic.
        message_type: such as `sensor_msgs/msg/Image`.
        log_time_ns: when it was recorded, nanoseconds.
        data: CDR, with its four bytes of encapsulation.
    """

    topic: str
    message_type: str
    log_time_ns: int
    data: bytes | memoryview


@functools.cache
def typestore() -> Typestore:
    """Message types of ROS 2 Kilted and our vision_msgs; those of images are the same in every distribution."""
    store = get_typestore(Stores.ROS2_KILTED)
    folder = resources.files("ros_kd_perception") / "interfaces" / "vision_msgs"
    for definition in sorted(folder.iterdir(), key=lambda file: file.name):
        if definition.name.endswith(".msg"):
            name = f"vision_msgs/msg/{definition.name.removesuffix('.msg')}"
            store.register(get_types_from_msg(definition.read_text(encoding="utf-8"), name))
    return store


def rosbags_message_types() -> MessageTypes:
    """The message classes of `rosbags`, for MessageBuilder and for BagWriter."""
    return MessageTypes.from_lookup(message_class, lambda pixels: pixels.reshape(-1), lambda ranges: ranges)


def message_class(name: str) -> Any:
    """The class of a message type, such as `sensor_msgs/msg/Image`, made with all fields as keywords."""
    return typestore().types[name]


def decode_message(message: RawMessage) -> Any:
    """Deserialise a message into its `rosbags` class.

    Raises:
        BadFrame: `bad_data` or `too_large`.
    """
    if len(message.data) > MAX_MESSAGE_BYTES:
        raise BadFrame(
            "too_large",
            f"expected a message of at most {MAX_MESSAGE_BYTES} bytes on {message.topic}, got {len(message.data)}",
        )
    try:
        return typestore().deserialize_cdr(message.data, message.message_type)
    except Exception as error:
        # The generated decoders trust lengths in the data and fail as those make them.
        raise BadFrame(
            "bad_data", f"expected {message.topic} to hold a {message.message_type}, got: {one_line(error)}"
        ) from None
