"""StorageFile: the interface of one file of a bag, with its topics, message counts and messages in time order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

NO_TYPE = "no type"
"""Message type of a topic if the file does not give it."""

_CDR_DEFINITIONS = ("ros2msg", "ros2idl", "omgidl")


class StoredMessage(NamedTuple):
    """A message as stored in a file.

    Attributes:
        topic_id: Number of its topic in this file.
        log_time_ns: Time of recording in nanoseconds.
        data: The stored bytes.
    """

    topic_id: int
    log_time_ns: int
    data: bytes | memoryview


@dataclass(frozen=True)
class StoredTopic:
    """A topic of a file.

    Attributes:
        topic_id: Number of the topic in this file.
        name: Name, such as `/front/image_raw`.
        message_type: Type, such as `sensor_msgs/msg/Image`, followed by the encoding if that is not CDR.
        count: Number of messages that were found in the file.
        stated: Number of messages according to the file. None if it does not state it.
    """

    topic_id: int
    name: str
    message_type: str
    count: int
    stated: int | None = None


class StorageFile(Protocol):
    """An open file of a bag.

    Attributes:
        repair: A command in backquotes that saves the intact part of a damaged file.
        path: The user's file. The file that is read may be a copy of it.
        topics: All topics that the file declares.
        undeclared: Number of messages that belong to no declared topic.
        start_ns: Log time of the first message of any topic. 0 without messages.
        end_ns: Log time of the last message of any topic. 0 without messages.
    """

    repair: ClassVar[str]
    path: Path
    topics: tuple[StoredTopic, ...]
    undeclared: int
    start_ns: int
    end_ns: int

    def messages(self, topic_ids: Collection[int], start_ns: int | None, end_ns: int | None) -> Iterator[StoredMessage]:
        """Yield the messages of some topics in the order of their log times.

        Args:
            topic_ids: Numbers of the topics in this file.
            start_ns: Earliest log time. None means from the beginning.
            end_ns: Log time at which to stop, exclusive. None means to the end.

        Raises:
            Damaged: The file has wrong bytes.
            ValueError: The file exceeds a limit.
            OSError: The file cannot be read.
        """

    def close(self) -> None:
        """Close the file."""


def ros2_type(name: str, encoding: str, definition_encoding: str = "") -> str:
    """Return the message type of a topic in the notation of ROS 2.

    Some writers use the notation of ROS 1, `sensor_msgs/Image`, for ROS 2 types. Known types are decoded with our own
    definitions, so the definition in the bag is not needed.

    Args:
        name: Name of the type in the file.
        encoding: Serialisation of the messages, `cdr` for ROS 2.
        definition_encoding: Language of the type's definition in the file.

    Returns:
        For example `sensor_msgs/msg/Image`. For another serialisation the text is not a ROS 2 type, for example
        `sensor_msgs/Image in ros1`.
    """
    if encoding != "cdr" and not (encoding == "" and definition_encoding in _CDR_DEFINITIONS):
        return f"{name or NO_TYPE} in {encoding or 'an unknown encoding'}"
    package, slash, kind = name.partition("/")
    return f"{package}/msg/{kind}" if slash and "/" not in kind else name or NO_TYPE
