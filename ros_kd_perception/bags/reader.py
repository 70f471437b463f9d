"""BagReader: reads camera frames from ROS 2 bags, without ROS.

Other packages import everything about bags from here. The library `rosbags` is not visible outside of `bags/`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ros_kd_perception.system.missing_package import MissingPackage

try:
    from ros_kd_perception.bags.files import BagFiles
    from ros_kd_perception.bags.message_types import (
        RawMessage,
        decode_message,
        message_class,
        rosbags_message_types,
        typestore,
        unpacked_message,
    )
    from ros_kd_perception.bags.opening import open_storage, unreadable
    from ros_kd_perception.bags.writer import BagWriter
except ModuleNotFoundError as error:
    raise MissingPackage(
        f"expected the Python package {str(error.name).partition('.')[0]} for reading and writing bags, found none; "
        "install the [bag] extra of ros_kd_perception"
    ) from error

from ros_kd_perception.bags.errors import BagError, being_written, lost
from ros_kd_perception.bags.metadata import METADATA_FILE
from ros_kd_perception.bags.order import Part, in_time_order, simultaneous
from ros_kd_perception.bags.sqlite_database import logs_of
from ros_kd_perception.bags.storage import NO_TYPE, StorageFile, StoredTopic
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.parameters.camera_names import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    BagTopic,
    camera_info_topic,
    choose_cameras,
    what_is_there,
)
from ros_kd_perception.structures import BadFrame, Frame

_LAST_IMAGES_NS = 1_000_000_000
"""Length of the bag's end that is first searched for the last image. It is doubled until an image is found."""

__all__ = [
    "BagError",
    "BagReader",
    "BagWriter",
    "RawMessage",
    "decode_message",
    "logs_of",
    "message_class",
    "read_camera_frames",
    "rosbags_message_types",
    "typestore",
]


class BagReader:
    """An open bag: an MCAP or SQLite file, compressed or not, or a rosbag2 folder, with or without metadata.yaml.

    Attributes:
        path: The path as given.
        notes: Sentences for the user about what is not read or was restored.
        topics: All topics of the bag.
        cameras: Camera name -> image topic.
        camera_topics: Topic -> message type, for the images and the CameraInfo of the cameras. Messages of another type
            on these topics are not read.
    """

    def __init__(
        self, path: str | Path, cameras: Mapping[str, str] | None = None, *, without_cameras: bool = False
    ) -> None:
        """Open a bag and find its cameras.

        Args:
            path: A file or a folder.
            cameras: Camera name -> topic. None or empty selects every camera that `choose_cameras` finds.
            without_cameras: Look for no camera, so that a bag without images can be read, too.

        Raises:
            BagError: The bag does not exist, is unreadable, cut off or incomplete, or has no messages or no camera
                topics.
        """
        self.path = Path(path)
        self._stack = ExitStack()
        self._files: list[StorageFile] = []
        try:
            found = self._stack.enter_context(BagFiles(self.path))
            self.notes, self._stated = tuple(found.notes), found.topics
            self._found = {file.given: file for file in found.files}
            for file in found.files:
                self._files.append(open_storage(file))
                self._stack.callback(self._files[-1].close)
            self.notes += tuple(
                f"{file.path}: {file.undeclared} messages cannot be read, because the file does not name their topic"
                for file in self._files
                if file.undeclared
            )
            self._simultaneous = simultaneous(self._files)
            self._take_types_from_metadata()
            self._find_topics()
            self.cameras = {} if without_cameras else self._find_cameras(cameras or {})
            self._find_camera_topics()
            self._check_complete(self.cameras.values())
        except BaseException:
            self.close()
            raise

    def _take_types_from_metadata(self) -> None:
        """Take the types of MCAP channels without a schema from metadata.yaml."""
        kinds = {topic.name: topic.message_type for topic in self._stated}
        for file in self._files:
            file.topics = tuple(
                replace(topic, message_type=kinds.get(topic.name, NO_TYPE)) if topic.message_type == NO_TYPE else topic
                for topic in file.topics
            )

    def _find_topics(self) -> None:
        counts = {(topic.name, topic.message_type): 0 for topic in self._stated}
        for file in self._files:
            for topic in file.topics:
                key = (topic.name, topic.message_type)
                counts[key] = counts.get(key, 0) + topic.count
        self.topics = tuple(BagTopic(topic, kind, count) for (topic, kind), count in sorted(counts.items()))
        if not self._simultaneous:
            raise BagError(f"expected messages in {self.path}, it holds none; record the bag again")

    def _find_cameras(self, wanted: Mapping[str, str]) -> dict[str, str]:
        try:
            cameras = choose_cameras(self.topics, wanted)
        except ValueError as error:
            raise BagError(f"{self.path}: {error}") from None
        if not cameras:
            raise BagError(f"expected a topic of Image or CompressedImage in {self.path}, {what_is_there(self.topics)}")
        return cameras

    def _find_camera_topics(self) -> None:
        self.camera_topics = self._types_of(self.cameras.values(), (IMAGE, COMPRESSED_IMAGE))
        self.camera_topics |= self._types_of(map(camera_info_topic, self.cameras.values()), (CAMERA_INFO,))
        self.notes += tuple(
            f"{topic.count} messages of {topic.name} are not read: expected {self.camera_topics[topic.name]}, got "
            f"{topic.message_type}"
            for topic in self.topics
            if topic.count and topic.name in self.camera_topics and not self._is_wanted(topic, [topic.name])
        )

    def _types_of(self, topics: Iterable[str], kinds: Collection[str]) -> dict[str, str]:
        """Return topic -> type for topics with one of these types. If both occur, take the one with more messages."""
        names = set(topics)
        found = [topic for topic in self.topics if topic.name in names and topic.message_type in kinds]
        return {topic.name: topic.message_type for topic in sorted(found, key=lambda topic: topic.count)}

    def _is_wanted(self, topic: BagTopic | StoredTopic, topics: Collection[str]) -> bool:
        """Return whether to read a topic: it is one of `topics` and, for a camera's topic, has the camera's type."""
        return topic.name in topics and topic.message_type == self.camera_topics.get(topic.name, topic.message_type)

    def check_has_images(self) -> None:
        """Refuse a bag without camera images.

        Raises:
            BagError: No camera has an image.
        """
        if not self.count(self.cameras.values()):
            topics = ", ".join(self.cameras.values())
            raise BagError(f"expected images on {topics} of {self.path}, found none; choose other topics by --camera")

    @functools.cached_property
    def first_image_ns(self) -> int:
        """Log time of the first image of any camera. Cameras may start long after the recorder.

        Raises:
            BagError: No camera has an image, or the bag cannot be read.
        """
        self.check_has_images()
        return next(self.frames())[1].log_time_ns

    @functools.cached_property
    def last_image_ns(self) -> int:
        """Latest log time of an image of any camera. Cameras may end long before the recorder.

        Raises:
            BagError: No camera has an image, or the bag cannot be read.
        """
        self.check_has_images()
        end_ns, length_ns = max(file.end_ns for file in self._files), _LAST_IMAGES_NS
        while True:  # search backwards from the end, because reading all images may take minutes
            images = self.raw_messages(self.cameras.values(), end_ns - length_ns)
            if times_ns := [image.log_time_ns for image in images]:
                return max(times_ns)
            length_ns *= 2

    def count(self, topics: Collection[str]) -> int:
        """Return the total number of messages on these topics."""
        return sum(topic.count for topic in self.topics if self._is_wanted(topic, topics))

    def raw_messages(
        self, topics: Collection[str], start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Yield the messages of some topics in the order of their log times.

        Files with overlapping times are merged. Other files are read one after the other in the order of recording, so
        log times go back if the clock was set back between two files.

        Args:
            topics: Names of the topics.
            start_ns: Earliest log time. It applies only until the first message, so that files after a clock that was
                set back are read completely. None means from the beginning.
            end_ns: Log time at which to stop, exclusive. None means to the end.

        Raises:
            BagError: The bag is damaged or incomplete.
        """
        self._check_complete(topics)
        for files in self._simultaneous:
            for message in in_time_order([self._part(file, topics, start_ns, end_ns) for file in files]):
                yield message
                start_ns = None

    def _part(
        self, file: StorageFile, topics: Collection[str], start_ns: int | None, end_ns: int | None
    ) -> Part[RawMessage]:
        return Part(file.start_ns, lambda: (self._read(file, topics, start_ns, end_ns), 0))

    def _read(
        self, file: StorageFile, topics: Collection[str], start_ns: int | None, end_ns: int | None
    ) -> Iterator[RawMessage]:
        wanted = {topic.topic_id: topic for topic in file.topics if self._is_wanted(topic, topics)}
        read = 0
        if not wanted:
            return
        try:
            for topic_id, log_time_ns, data in file.messages(wanted, start_ns, end_ns):
                topic, read = wanted[topic_id], read + 1
                yield unpacked_message(RawMessage(topic.name, topic.message_type, log_time_ns, data))
        except Exception as error:  # a damaged file can raise any error
            raise unreadable(self._found[file.path], error, file.repair) from None
        there = sum(topic.count for topic in wanted.values())
        if start_ns is None and end_ns is None and read < there:
            if self._found[file.path].has_changed():
                raise being_written(file.path, "read")
            raise lost(file.path, ", ".join(sorted(topic.name for topic in wanted.values())), there, read, file.repair)

    def _check_complete(self, topics: Collection[str]) -> None:
        """Refuse a bag that has fewer messages of these topics than it states."""
        for file in self._files:
            for topic in file.topics:
                if self._is_wanted(topic, topics) and topic.stated is not None and topic.count < topic.stated:
                    raise lost(file.path, topic.name, topic.stated, topic.count, file.repair)
        for stated in self._stated:
            if self._is_wanted(stated, topics) and (found := self.count([stated.name])) < stated.count:
                repair = f"`ros2 bag reindex {self.path}`"
                raise lost(self.path / METADATA_FILE, stated.name, stated.count, found, repair)

    def count_frames(self) -> int:
        """Return the number of frames: the images of all cameras, those of a shared topic once for each."""
        return sum(self.count([topic]) for topic in self.cameras.values())

    def frames(self) -> Iterator[tuple[str, RawMessage]]:
        """Yield camera name and undecoded message of each image, in the order of log times.

        Cameras may share a topic, for example with a region of interest each. Its images are then yielded for each.
        """
        cameras_of = _keys_by_value(self.cameras)
        for message in self.raw_messages(cameras_of):
            for camera in cameras_of[message.topic]:
                yield camera, message

    def frames_and_camera_infos(self) -> Iterator[tuple[str, RawMessage]]:
        """Yield like `frames`, with the CameraInfo messages between the images.

        The first CameraInfo of each camera that can be read is also yielded before all frames. Cameras may share a
        CameraInfo, as `/front/image_raw` and `/front/image_rect` do. It is then yielded for each.
        """
        of_cameras = {camera: camera_info_topic(topic) for camera, topic in self.cameras.items()}
        infos = _keys_by_value({camera: topic for camera, topic in of_cameras.items() if topic in self.camera_topics})
        for topic, cameras in infos.items():
            first = next(filter(_is_readable, self.raw_messages([topic])), None)
            if first is not None:
                for camera in cameras:
                    yield camera, first
        cameras_of = _keys_by_value(self.cameras) | infos
        for message in self.raw_messages(cameras_of):
            for camera in cameras_of[message.topic]:
                yield camera, message

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_readable(message: RawMessage) -> bool:
    try:
        decode_message(message)
    except BadFrame:
        return False
    return True


def _keys_by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in values.items():
        found.setdefault(value, []).append(key)
    return found


def read_camera_frames(
    bag: BagReader, take_camera_info: Callable[[str, RawMessage, Any], None] | None = None
) -> Iterator[tuple[str, RawMessage, Frame | BadFrame]]:
    """Decode every image of the bag's cameras.

    Args:
        bag: An open bag.
        take_camera_info: Called with camera name, message and decoded message for each CameraInfo that can be read. The
            first one of each camera comes before all frames, and again in its place.

    Yields:
        Camera name, message, and the frame or the reason why it cannot be decoded.
    """
    for camera, message in bag.frames_and_camera_infos() if take_camera_info else bag.frames():
        if take_camera_info and message.message_type == CAMERA_INFO:
            with suppress(BadFrame):  # the middleware drops undecodable messages, so a node never sees them either
                take_camera_info(camera, message, decode_message(message))
            continue
        try:
            frame: Frame | BadFrame = frame_from_message(camera, decode_message(message))
        except BadFrame as reason:
            frame = reason
        yield camera, message, frame
