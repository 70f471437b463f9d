"""Read camera frames from ROS 2 bags and write bags, without ROS. The only place that imports `rosbags`."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

try:
    from rosbags.interfaces import (
        Connection,
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer, storage_mcap
    from rosbags.rosbag2.reader import DirectoryReader
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.store import Typestore

    # What it decompresses with is what rosbags does it with.
    from ros_kd_perception.bounded_decompression import is_zstd_file_within, lz4_within, zstd_within
except ImportError as error:
    raise ImportError(
        "expected the Python package rosbags for reading and writing bags, found none; install the [bag] extra of "
        "ros_kd_perception"
    ) from error

from ros_kd_perception.camera_topics import CAMERA_INFO, BagTopic, camera_info_topic, choose_cameras
from ros_kd_perception.disk_reserve import DiskReserve
from ros_kd_perception.image_message import frame_from_message
from ros_kd_perception.message_builder import MessageTypes
from ros_kd_perception.structures import BadFrame, Frame

MAX_MESSAGE_BYTES = 1 << 29
MAX_CHUNK_BYTES = 1 << 30
"""Of an MCAP chunk, decompressed; rosbag2 makes them of 768 KiB or of one message."""

_FILES_ARE_COMPRESSED = re.compile(rb"compression_mode:[ \t]*['\"]?file", re.IGNORECASE)


class BagError(ValueError):
    """A bag that cannot be read or written; the text is one sentence with what to do."""


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


def _chunk_within(decompress: Callable[[bytes, int], bytes], data: bytes, size: int) -> bytes:
    if size > MAX_CHUNK_BYTES:
        raise ValueError(f"expected chunks of at most {MAX_CHUNK_BYTES} bytes, got one of {size}")
    return decompress(data, size)


# rosbags decompresses a chunk whole and compares its size afterwards.
if hasattr(storage_mcap, "DECOMPRESSORS"):
    storage_mcap.DECOMPRESSORS["zstd"] = functools.partial(_chunk_within, zstd_within)
    storage_mcap.DECOMPRESSORS["lz4"] = functools.partial(_chunk_within, lz4_within)


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
                f"expected {file} to be a whole ROS 2 bag, got: {_one_line(error)}; if its recording was cut off, "
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
                    f"expected to read {self.path} to its end, got: {_one_line(error)}; repair it with "
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
            "bad_data", f"expected {message.topic} to hold a {message.message_type}, got: {_one_line(error)}"
        ) from None


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


class BagWriter:
    """Writes a bag that appears under its name only when it is complete.

    A name that ends in `.mcap` becomes one file, a name without suffix a rosbag2 folder with its metadata.yaml. The
    same messages give the same bytes. Leaving the `with` block by an exception leaves nothing behind, unless what is
    written is `irreplaceable`.

    Attributes:
        path: as given.
        messages: how many were written.
    """

    def __init__(
        self, path: str | Path, *, compress: bool = True, overwrite: bool = False, irreplaceable: bool = False
    ) -> None:
        """Start a bag.

        Args:
            path: `.mcap` file or folder; missing parent folders are made.
            compress: zstd, chunk by chunk: a class map shrinks to a hundredth, a noisy camera image hardly.
            overwrite: replace an existing file when the new one is complete.
            irreplaceable: what is written cannot be had again, so whatever happens after the first message, the bag is
                completed with what there is; room on the disk is held for that.

        Raises:
            BagError: another suffix, a name that is taken, or a folder that cannot be written to.
        """
        self.path = Path(path)
        if self.path.suffix not in (".mcap", ""):
            raise BagError(f"expected a bag to be written to a .mcap file or a folder without suffix, got {self.path}")
        self._is_file = self.path.suffix == ".mcap"
        if self.path.exists() and not (overwrite and self._is_file and self.path.is_file()):
            raise BagError(f"expected a name for the new bag that is free, {self.path} exists; choose another")
        self._new_parents = [p for p in self.path.parents if not p.exists()]
        self._connections: dict[str, Connection] = {}
        self._reserve: DiskReserve | None = None
        self.messages = 0
        self._file_bytes = 0  # after the last write that succeeded
        self._written_bytes = self._largest_bytes = 0  # of messages
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = Path(
                tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".partial", dir=self.path.parent)
            )
            # The name of a single file must not reach its metadata: the same messages give the same bytes.
            folder = self._partial / ("bag" if self._is_file else self.path.name)
            # 9 has QoS in words, which ros2 bag of Humble cannot read; later ones read both.
            self._writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
            if compress:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
            if irreplaceable:
                self._reserve = DiskReserve(self._partial / "reserve")
        except OSError as error:
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; choose another folder") from None

    def add_topic(self, topic: str, message_type: str, *, latched: bool = False) -> None:
        """Declare a topic; a latched one is offered transient local, so that late subscribers of a player get it."""
        self._connections[topic] = self._writer.add_connection(
            topic, message_type, typestore=typestore(), offered_qos_profiles=[_qos(latched)]
        )

    def write(self, topic: str, log_time_ns: int, message: Any, *, latched: bool = False) -> None:
        """Write a message of `message_class`, declaring its topic with the first."""
        message_type = message.__msgtype__
        if topic not in self._connections:
            self.add_topic(topic, message_type, latched=latched)
        self.write_raw(topic, log_time_ns, typestore().serialize_cdr(message, message_type))

    def write_raw(self, topic: str, log_time_ns: int, data: bytes | memoryview) -> None:
        """Write a serialised message of a declared topic.

        Raises:
            BagError: the disk is full or fails; of an irreplaceable bag nothing may be written any more.
        """
        try:
            if self._reserve:
                self._hold_room(len(data))
            self.messages += 1  # it waits in memory even if the disk does not take what waited before it
            self._writer.write(self._connections[topic], log_time_ns, data)
            if self._reserve:
                self._file_bytes = self._file().tell()
        except OSError as error:
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; make room and try again") from None

    def close(self) -> None:
        """Complete the bag and give it its name.

        Raises:
            BagError: that is not possible. Nothing is left then; of an irreplaceable bag, what there is of it.
        """
        try:
            if self._reserve:
                self._reserve.give_up()
                self._cut_torn_end()
            self._writer.close()
            folder = self._writer.path
            (folder / "bag.mcap" if self._is_file else folder).replace(self.path)
        except OSError as error:
            if self._reserve and self.messages:
                with suppress(OSError):
                    self._writer.abort()
                raise BagError(
                    f"expected to complete {self.path}, got: {error.strerror}; what could be written is in "
                    f"{self._partial}, from where `mcap recover` may get it"
                ) from None
            self.abort()
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; make room and try again") from None
        shutil.rmtree(self._partial, ignore_errors=True)

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._reserve:
            self._reserve.give_up()
        with suppress(OSError):  # what it cannot write while it closes is not wanted
            self._writer.abort()
        shutil.rmtree(self._partial, ignore_errors=True)
        for folder in self._new_parents:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (self._reserve and self.messages):
            self.close()
        else:
            self.abort()

    def _file(self) -> Any:
        # Of rosbags' MCAP storage, which has no public name for it; the version is pinned.
        storage: Any = self._writer.storage
        return storage.bio

    def _hold_room(self, message_bytes: int) -> None:
        """For the chunk in memory, of a mebibyte and one message more, and the summary: an entry for each chunk."""
        self._written_bytes += message_bytes + 64  # what MCAP adds to it
        self._largest_bytes = max(self._largest_bytes, message_bytes)
        assert self._reserve is not None
        topics = len(self._connections)
        summary_bytes = (self._written_bytes >> 20) * (256 + 16 * topics) + topics * (1 << 15)
        self._reserve.hold((1 << 21) + 2 * self._largest_bytes + summary_bytes)

    def _cut_torn_end(self) -> None:
        """Take back what was written of a chunk that did not fit; it is still in memory."""
        if self._file_bytes:
            file = self._file()
            file.flush()
            file.seek(self._file_bytes)
            file.truncate()


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
        raise BagError(f"expected {path} to hold whole zstd files, got: {_one_line(error)}; record it again") from None


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


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(".")


def _qos(latched: bool) -> Qos:
    forever = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
