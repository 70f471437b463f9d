"""Read camera frames from ROS 2 bags, without ROS.

Callers import everything about bags from here; what leads to the library `rosbags` stays behind this module.
"""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

try:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader, storage_mcap
    from rosbags.rosbag2.reader import DirectoryReader

    from ros_kd_perception.bag_message_types import (
        MAX_MESSAGE_BYTES,
        RawMessage,
        decode_message,
        message_class,
        rosbags_message_types,
        typestore,
    )
    from ros_kd_perception.bag_writer import BagWriter

    # What it decompresses with is what rosbags does it with.
    from ros_kd_perception.bounded_decompression import is_zstd_file_within, lz4_within, zstd_within
except ImportError as error:
    raise ImportError(
        "expected the Python package rosbags for reading and writing bags, found none; install the [bag] extra of "
        "ros_kd_perception"
    ) from error

from ros_kd_perception.bag_errors import BagError, one_line
from ros_kd_perception.camera_topics import CAMERA_INFO, BagTopic, camera_info_topic, choose_cameras
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

MAX_CHUNK_BYTES = 1 << 30
"""Of an MCAP chunk, decompressed; rosbag2 makes them of 768 KiB or of one message."""

_FILES_ARE_COMPRESSED = re.compile(rb"compression_mode:[ \t]*['\"]?file", re.IGNORECASE)


def _chunk_within(decompress: Callable[[bytes, int], bytes], data: bytes, size: int) -> bytes:
    if size > MAX_CHUNK_BYTES:
        raise ValueError(f"expected chunks of at most {MAX_CHUNK_BYTES} bytes, got one of {size}")
    return decompress(data, size)


# rosbags decompresses a chunk whole and compares its size afterwards.
if hasattr(storage_mcap, "DECOMPRESSORS"):
    storage_mcap.DECOMPRESSORS["zstd"] = functools.partial(_chunk_within, zstd_within)
    storage_mcap.DECOMPRESSORS["lz4"] = functools.partial(_chunk_within, lz4_within)


class BagReader:
    """An open bag: a .mcap or .db3 file, or a rosbag2 folder of either, with or without its metadata.yaml.

    Attributes:
        path: as given.
        topics: every topic of the bag.
        cameras: camera name -> image topic.
        camera_topics: topic -> message type, of the cameras' images and of their camera_info.
        start_ns: log time of the first message of the bag.
        end_ns: log time of the last.
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
        self._compressed: list[Reader] = []  # message by message
        try:
            self._readers = [self._open(file) for file in _files_of(self.path)]
            self._find_topics(cameras or {})
        except BaseException:
            self.close()
            raise

    def _open(self, file: Path) -> Reader:
        _check_room_for(file)
        try:
            reader = Reader(file)
            reader.open()
        except Exception as error:
            # Whatever the damage makes of it: ReaderError, struct.error, KeyError, apsw's and more.
            raise BagError(
                f"expected {file} to be a whole ROS 2 bag, got: {one_line(error)}; if its recording was cut off, "
                "repair it with `mcap recover` or `ros2 bag reindex`"
            ) from None
        self._stack.callback(reader.close)
        storage = reader.storage
        if isinstance(storage, DirectoryReader) and storage.metadata.compression_mode == "message":
            # rosbags would decompress messages to whatever size they become.
            storage.metadata = storage.metadata._replace(compression_mode=None)
            self._compressed.append(reader)
        return reader

    def _find_topics(self, cameras: Mapping[str, str]) -> None:
        counts: dict[tuple[str, str], int] = {}
        for reader in self._readers:
            for connection in reader.connections:
                key = (connection.topic, connection.msgtype)
                counts[key] = counts.get(key, 0) + connection.msgcount
        self.topics = tuple(BagTopic(topic, kind, count) for (topic, kind), count in sorted(counts.items()))
        filled = [reader for reader in self._readers if reader.message_count]
        if not filled:
            raise BagError(f"expected messages in {self.path}, it holds none; record the bag again")
        self.start_ns = min(reader.start_time for reader in filled)
        self.end_ns = max(reader.end_time for reader in filled) - 1  # rosbags counts to just after the last
        try:
            self.cameras = choose_cameras(self.topics, cameras)
        except ValueError as error:
            raise BagError(f"{self.path}: {error}") from None
        if not self.cameras:
            found = ", ".join(f"{topic.name} ({topic.message_type})" for topic in self.topics[:20])
            raise BagError(
                f"expected a topic of Image or CompressedImage in {self.path}, found: {found}; "
                "choose one with --camera NAME=TOPIC if it is among them"
            )
        calibrations = {camera_info_topic(topic) for topic in self.cameras.values()}
        self.camera_topics = {
            topic.name: topic.message_type
            for topic in self.topics
            if topic.name in self.cameras.values() or (topic.name in calibrations and topic.message_type == CAMERA_INFO)
        }

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
        for reader in self._readers:
            connections = [c for c in _stored_connections(reader) if c.topic in topics]
            if connections:
                yield from self._read(reader, connections, start_ns, end_ns)

    def _read(
        self, reader: Reader, connections: list[Connection], start_ns: int | None, end_ns: int | None
    ) -> Iterator[RawMessage]:
        messages = reader.messages(connections, start_ns, end_ns)
        while True:
            try:
                connection, log_time_ns, data = next(messages)
                if reader in self._compressed:
                    data = zstd_within(data, MAX_MESSAGE_BYTES)
            except StopIteration:
                return
            except Exception as error:
                raise BagError(
                    f"expected to read {self.path} to its end, got: {one_line(error)}; repair it with "
                    "`mcap recover` or `ros2 bag reindex`"
                ) from None
            yield RawMessage(connection.topic, connection.msgtype, log_time_ns, data)

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


def _check_room_for(path: Path) -> None:
    """Refuse a folder of compressed files that would not fit where rosbags unpacks them."""
    metadata = path / "metadata.yaml"
    try:
        if not path.is_dir() or not _FILES_ARE_COMPRESSED.search(metadata.read_bytes()):
            return
        room_bytes = shutil.disk_usage(tempfile.gettempdir()).free // 2
        for file in sorted(path.glob("*.zst*")):
            if not is_zstd_file_within(file, room_bytes):
                raise BagError(
                    f"expected {file} to unpack to at most {room_bytes} bytes, half of what is free in "
                    f"{tempfile.gettempdir()}, it is more; set TMPDIR to a larger disk, or unpack it with `zstd -d`"
                )
    except OSError as error:
        raise BagError(f"expected to read {path}, got: {error.strerror}; check its permissions") from None
    except BagError:
        raise
    except ValueError as error:
        raise BagError(f"expected {path} to hold whole zstd files, got: {one_line(error)}; record it again") from None


def _stored_connections(reader: Reader) -> list[Connection]:
    """The connections as the files of a bag have them.

    For a folder, those of its metadata.yaml would do but for their QoS: rosbag2 writes it in another version or with
    other values there than into the files, and rosbags then finds no message that belongs to the connection.
    """
    if isinstance(reader.storage, DirectoryReader):
        return [connection for file in reader.storage.storages for connection in file.connections]
    return reader.connections


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise BagError(f"expected a bag at {path}, found nothing; give a .mcap or .db3 file, or a rosbag2 folder")
    if path.is_dir():
        if (path / "metadata.yaml").exists():
            return [path]
        files = [file for pattern in ("*.mcap", "*.db3") for file in path.glob(pattern)]
        if not files:
            raise BagError(f"expected a metadata.yaml, .mcap or .db3 in {path}, found none; give the folder of a bag")
        # A split recording numbers its files: bag_10 comes after bag_9.
        return sorted(files, key=lambda f: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", f.name)])
    if path.suffix not in (".mcap", ".db3"):
        raise BagError(
            f"expected a .mcap or .db3 file or a rosbag2 folder, got {path}; "
            "turn a ROS 1 bag into one with `rosbags-convert`"
        )
    return [path]
