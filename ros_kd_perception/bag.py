"""Read camera frames from ROS 2 bags, without ROS.

Callers import everything about bags from here; what leads to the library `rosbags` stays behind this module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

try:
    from ros_kd_perception.bag_files import BagFiles
    from ros_kd_perception.bag_message_types import (
        RawMessage,
        decode_message,
        message_class,
        rosbags_message_types,
        typestore,
        unpacked_message,
    )
    from ros_kd_perception.bag_opening import open_storage, unreadable
    from ros_kd_perception.bag_writer import BagWriter
except ImportError as error:
    raise ImportError(
        "expected the Python package rosbags for reading and writing bags, found none; install the [bag] extra of "
        "ros_kd_perception"
    ) from error

from ros_kd_perception.bag_errors import BagError, lost
from ros_kd_perception.bag_metadata import METADATA_FILE
from ros_kd_perception.bag_storage import StorageFile, StoredTopic
from ros_kd_perception.camera_topics import CAMERA_INFO, BagTopic, camera_info_topic, choose_cameras, what_is_there
from ros_kd_perception.image_message import frame_from_message
from ros_kd_perception.structures import BadFrame, Frame

__all__ = [
    "BagError",
    "BagReader",
    "BagWriter",
    "RawMessage",
    "decode_message",
    "message_class",
    "read_camera_frames",
    "rosbags_message_types",
    "typestore",
]


class BagReader:
    """An open bag: an MCAP or SQLite file, packed or not, or a rosbag2 folder, with or without its metadata.yaml.

    Attributes:
        path: as given.
        notes: sentences for the user about what was left out or restored.
        topics: every topic of the bag.
        cameras: camera name -> image topic.
        camera_topics: topic -> message type, of the cameras' images and of their camera_info.
        end_ns: log time of the last message of the bag, whatever its topic.
    """

    def __init__(self, path: str | Path, cameras: Mapping[str, str] | None = None) -> None:
        """Open a bag and find its cameras.

        Args:
            path: file or folder.
            cameras: camera name -> topic; without any, every camera that `choose_cameras` finds.

        Raises:
            BagError: no such bag, unreadable or cut off, without messages, or without camera topics.
        """
        self.path = Path(path)
        self._stack = ExitStack()
        self._files: list[StorageFile] = []
        try:
            found = self._stack.enter_context(BagFiles(self.path))
            self.notes, self._stated = tuple(found.notes), found.topics
            for file in found.files:
                self._files.append(open_storage(file))
                self._stack.callback(self._files[-1].close)
            self.notes += tuple(
                f"{file.path}: {file.undeclared} messages cannot be read, for it does not say of which topic they are"
                for file in self._files
                if file.undeclared
            )
            self._find_topics(cameras or {})
            self._check_complete(self.cameras.values())
        except BaseException:
            self.close()
            raise

    def _find_topics(self, cameras: Mapping[str, str]) -> None:
        counts = {(topic.name, topic.message_type): 0 for topic in self._stated}
        for file in self._files:
            for topic in file.topics:
                key = (topic.name, topic.message_type)
                counts[key] = counts.get(key, 0) + topic.count
        self.topics = tuple(BagTopic(topic, kind, count) for (topic, kind), count in sorted(counts.items()))
        filled = [file for file in self._files if any(topic.count for topic in file.topics)]
        if not filled:
            raise BagError(f"expected messages in {self.path}, it holds none; record the bag again")
        self.end_ns = max(file.end_ns for file in filled)
        try:
            self.cameras = choose_cameras(self.topics, cameras)
        except ValueError as error:
            raise BagError(f"{self.path}: {error}") from None
        if not self.cameras:
            raise BagError(f"expected a topic of Image or CompressedImage in {self.path}, {what_is_there(self.topics)}")
        calibrations = {camera_info_topic(topic) for topic in self.cameras.values()}
        self.camera_topics = {
            topic.name: topic.message_type
            for topic in self.topics
            if topic.name in self.cameras.values() or (topic.name in calibrations and topic.message_type == CAMERA_INFO)
        }

    @functools.cached_property
    def first_image_ns(self) -> int:
        """Log time of the first image of any camera; cameras may start long after the recorder.

        Raises:
            BagError: no camera has an image.
        """
        for _, message in self.frames():
            return message.log_time_ns
        topics = ", ".join(self.cameras.values())
        raise BagError(f"expected images on {topics} of {self.path}, found none; choose other topics by --camera")

    def count(self, topics: Collection[str]) -> int:
        """How many messages the bag says these topics have together."""
        return sum(topic.count for topic in self.topics if topic.name in topics)

    def raw_messages(
        self, topics: Collection[str], start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Messages of some topics in the order of their log times, from `start_ns` to before `end_ns`.

        Raises:
            BagError: the bag cannot be read on.
        """
        self._check_complete(topics)
        for file in self._files:
            wanted = {topic.topic_id: topic for topic in file.topics if topic.name in topics}
            if wanted:
                yield from self._read(file, wanted, start_ns, end_ns)

    def _read(
        self, file: StorageFile, wanted: Mapping[int, StoredTopic], start_ns: int | None, end_ns: int | None
    ) -> Iterator[RawMessage]:
        read = 0
        try:
            for topic_id, log_time_ns, data in file.messages(wanted, start_ns, end_ns):
                topic, read = wanted[topic_id], read + 1
                yield unpacked_message(RawMessage(topic.name, topic.message_type, log_time_ns, data))
        except Exception as error:  # whatever the damage makes of it
            raise unreadable(file.path, error, file.repair) from None
        there = sum(topic.count for topic in wanted.values())
        if start_ns is None and end_ns is None and read < there:
            raise lost(file.path, ", ".join(sorted(topic.name for topic in wanted.values())), there, read, file.repair)

    def _check_complete(self, topics: Collection[str]) -> None:
        """Refuse to go on without messages of these topics that the bag says it has."""
        for file in self._files:
            for topic in file.topics:
                if topic.name in topics and topic.stated is not None and topic.count < topic.stated:
                    raise lost(file.path, topic.name, topic.stated, topic.count, file.repair)
        for stated in self._stated:
            if stated.name in topics and (found := self.count([stated.name])) < stated.count:
                repair = f"`ros2 bag reindex {self.path}`"
                raise lost(self.path / METADATA_FILE, stated.name, stated.count, found, repair)

    def frames(self) -> Iterator[tuple[str, RawMessage]]:
        """The cameras' images, undecoded, each with its camera's name, in the order of their log times."""
        camera_of = {topic: camera for camera, topic in self.cameras.items()}
        for message in self.raw_messages(camera_of):
            yield camera_of[message.topic], message

    def frames_and_camera_infos(self) -> Iterator[tuple[str, RawMessage]]:
        """As `frames`, with each camera's CameraInfo among them; the first one comes before all frames."""
        camera_of = {topic: camera for camera, topic in self.cameras.items()}
        info_of = {camera_info_topic(topic): camera for camera, topic in self.cameras.items()}
        infos = {topic: camera for topic, camera in info_of.items() if topic in self.camera_topics}
        for topic, camera in infos.items():
            for first in self.raw_messages([topic]):
                yield camera, first
                break
        for message in self.raw_messages({**camera_of, **infos}):
            yield camera_of.get(message.topic) or infos[message.topic], message

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_camera_frames(
    bag: BagReader, take_camera_info: Callable[[str, Any], None] | None = None
) -> Iterator[tuple[str, RawMessage, Frame | BadFrame]]:
    """Every image of the bag's cameras: camera name, the message, and its frame or why it is none.

    Args:
        bag: open.
        take_camera_info: gets the camera's name and each CameraInfo as it comes, the first before all frames.
    """
    for camera, message in bag.frames_and_camera_infos() if take_camera_info else bag.frames():
        if take_camera_info and message.message_type == CAMERA_INFO:
            with suppress(BadFrame):  # as the node never sees what the middleware cannot deserialise
                take_camera_info(camera, decode_message(message))
            continue
        try:
            frame: Frame | BadFrame = frame_from_message(camera, decode_message(message))
        except BadFrame as reason:
            frame = reason
        yield camera, message, frame
