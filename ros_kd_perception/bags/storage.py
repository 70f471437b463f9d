"""One file of a bag: its topics, how many messages each has, and the messages in the order of their log times."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

NO_TYPE = "no type"
"""Message type of a topic of which the file does not say it."""

_CDR_DEFINITIONS = ("ros2msg", "ros2idl", "omgidl")


class StoredMessage(NamedTuple):
    """A message as it lies in a file: the number of its topic there, log time in nanoseconds, content."""

    topic_id: int
    log_time_ns: int
    data: bytes | memoryview


@dataclass(frozen=True)
class StoredTopic:
    """A topic of a file.

    Attributes:
        topic_id: its number in the file.
        name: such as `/front/image_raw`.
        message_type: such as `sensor_msgs/msg/Image`; with its encoding where that is not CDR.
        count: messages that are in the file.
        stated: messages that the file says are in it, or None if it says nothing.
    """

    topic_id: int
    name: str
    message_type: str
    count: int
    stated: int | None = None


class StorageFile(Protocol):
    """An open file of a bag.

    Attributes:
        repair: the command that saves what is whole of a damaged one.
        path: of the file that the user has; what is read may be a copy of it.
        topics: all that it declares.
        undeclared: how many messages belong to none of them.
        start_ns: log time of the first message, of any topic; 0 without messages.
        end_ns: log time of the last.
    """

    repair: ClassVar[str]
    path: Path
    topics: tuple[StoredTopic, ...]
    undeclared: int
    start_ns: int
    end_ns: int

    def messages(self, topic_ids: Collection[int], start_ns: int | None, end_ns: int | None) -> Iterator[StoredMessage]:
        """Messages of some topics in the order of their log times, from `start_ns` to before `end_ns`.

        Raises:
            Damaged: the file has wrong bytes.
            ValueError, OSError: it is beyond the limits, or cannot be read.
        """

    def close(self) -> None:
        """Close the file."""


def ros2_type(name: str, encoding: str, definition_encoding: str = "") -> str:
    """The message type of a topic as ROS 2 writes it.

    A type that we know is read by our own definition, so that of the bag is not looked at. Some writers name types as
    ROS 1 does, `sensor_msgs/Image`, and mean those of ROS 2.

    Args:
        name: as the file has it.
        encoding: how messages are serialised, `cdr` for ROS 2.
        definition_encoding: language of the file's definition of the type.

    Returns:
        Such as `sensor_msgs/msg/Image`; for another serialisation such as `sensor_msgs/Image in ros1`, which is no
        type of ROS 2.
    """
    if encoding != "cdr" and not (encoding == "" and definition_encoding in _CDR_DEFINITIONS):
        return f"{name or NO_TYPE} in {encoding or 'an unknown encoding'}"
    package, slash, kind = name.partition("/")
    return f"{package}/msg/{kind}" if slash and "/" not in kind else name or NO_TYPE
