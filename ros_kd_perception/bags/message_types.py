"""Provides message types and their serialisation through rosbags, without ROS."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ros_kd_perception.bags.decompression import ExceedsLimit, zstd_within
from ros_kd_perception.bags.errors import one_line
from ros_kd_perception.messages.builder import MessageTypes
from ros_kd_perception.structures import BadFrame

MAX_MESSAGE_BYTES = 1 << 29
_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class RawMessage:
    """One serialised message of a bag.

    Attributes:
        topic: Name of the topic.
        message_type: Type, such as `sensor_msgs/msg/Image`.
        log_time_ns: Time of recording in nanoseconds.
        data: CDR with its four bytes of encapsulation, or the stored bytes if `damage` is set.
        damage: Why the stored bytes could not be decompressed. None if `data` is CDR.
    """

    topic: str
    message_type: str
    log_time_ns: int
    data: bytes | memoryview
    damage: BadFrame | None = None


@functools.cache
def typestore() -> Typestore:
    """Return the message types of ROS 2 Kilted and our vision_msgs.

    The types of images are the same in every ROS 2 distribution.
    """
    store = get_typestore(Stores.ROS2_KILTED)
    folder = resources.files("ros_kd_perception") / "interfaces" / "vision_msgs"
    for definition in sorted(folder.iterdir(), key=lambda file: file.name):
        if definition.name.endswith(".msg"):
            name = f"vision_msgs/msg/{definition.name.removesuffix('.msg')}"
            store.register(get_types_from_msg(definition.read_text(encoding="utf-8"), name))
    return store


def rosbags_message_types() -> MessageTypes:
    """Return the message classes of `rosbags` for MessageBuilder and BagWriter."""
    return MessageTypes.from_lookup(message_class, lambda pixels: pixels.reshape(-1), lambda ranges: ranges)


def message_class(name: str) -> Any:
    """Return the class of a message type such as `sensor_msgs/msg/Image`. Construct it with all fields as keywords."""
    return typestore().types[name]


def unpacked_message(message: RawMessage) -> RawMessage:
    """Decompress a message that was recorded with `--compression-mode message`. Return other messages unchanged.

    The first byte decides: CDR starts with a zero, zstd does not. The mode itself is only in metadata.yaml, which is
    often missing.
    """
    if bytes(message.data[: len(_ZSTD)]) != _ZSTD:
        return message
    try:
        return replace(message, data=zstd_within(bytes(message.data), MAX_MESSAGE_BYTES))
    except ValueError as error:
        reason = "too_large" if isinstance(error, ExceedsLimit) else "bad_data"
        sentence = f"expected a zstd-compressed message on {message.topic}, got: {one_line(error)}"
        return replace(message, damage=BadFrame(reason, sentence))


def decode_message(message: RawMessage) -> Any:
    """Deserialise a message into its `rosbags` class.

    Raises:
        BadFrame: `too_large` if the message exceeds `MAX_MESSAGE_BYTES`, `bad_data` if it cannot be deserialised.
    """
    if message.damage:
        raise message.damage
    if len(message.data) > MAX_MESSAGE_BYTES:
        raise BadFrame(
            "too_large",
            f"expected a message of at most {MAX_MESSAGE_BYTES} bytes on {message.topic}, got {len(message.data)}",
        )
    try:
        return typestore().deserialize_cdr(message.data, message.message_type)
    except Exception as error:
        # The generated decoders trust the lengths in the data, so damaged data can raise any error.
        raise BadFrame(
            "bad_data", f"expected {message.topic} to hold a {message.message_type}, got: {one_line(error)}"
        ) from None
