"""BagWriter: writes bags that appear under their final name only when they are complete."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from ros_kd_perception.bags.disk_reserve import DiskReserve
from ros_kd_perception.bags.errors import BagError
from ros_kd_perception.bags.mcap_storage import McapBagWriter
from ros_kd_perception.bags.message_types import typestore
from ros_kd_perception.structures import UInt8Array
from ros_kd_perception.system.interruption import begun_output
from ros_kd_perception.system.output_paths import OutputPathError, check_folder, make_folder, remove_if_empty


class BagWriter:
    """Writes a bag that appears under its final name only when it is complete.

    A name that ends in `.mcap` gives one file, a name without suffix a rosbag2 folder with metadata.yaml. Equal
    messages give equal bytes. An exception inside the `with` block leaves nothing behind, unless the bag is
    `irreplaceable`.

    Attributes:
        path: The path as given.
        messages: Number of messages written so far.
    """

    def __init__(
        self, path: str | Path, *, compress: bool = True, overwrite: bool = False, irreplaceable: bool = False
    ) -> None:
        """Start a bag.

        Args:
            path: An `.mcap` file or a folder. Missing parent folders are created, except directly in the root of the
                file system.
            compress: Compress each chunk with zstd. A class map shrinks to a hundredth, a noisy camera image hardly.
            overwrite: Replace an existing file when the new one is complete.
            irreplaceable: The messages cannot be recorded again. On an error after the first message, complete the bag
                with the messages so far. Disk space is reserved for that.

        Raises:
            BagError: The suffix is wrong, the name is taken, or the folder cannot be written to.
        """
        self.path = Path(path)
        if self.path.suffix not in (".mcap", ""):
            raise BagError(f"expected a bag to be written to a .mcap file or a folder without suffix, got {self.path}")
        self._is_file = self.path.suffix == ".mcap"
        if self.path.exists() and not (overwrite and self._is_file and self.path.is_file()):
            raise BagError(f"expected a free name for the new bag, {self.path} exists; choose another")
        self._connections: dict[str, Connection] = {}
        self._reserve: DiskReserve | None = None
        self.messages = 0
        self._is_finished = False
        self._file_bytes = 0  # size of the file after the last successful write
        self._written_bytes = self._largest_bytes = 0  # all messages together, and the largest one
        try:
            check_folder(self.path.parent if self._is_file else self.path)
            with begun_output() as undo:
                self._begin(undo, compress, irreplaceable)
        except OutputPathError as error:
            raise BagError(str(error)) from None
        except OSError as error:
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; choose another folder") from None

    def _begin(self, undo: ExitStack, compress: bool, irreplaceable: bool) -> None:
        self._new_parents = make_folder(self.path.parent)
        undo.callback(remove_if_empty, self._new_parents)
        self._partial = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".partial", dir=self.path.parent))
        undo.callback(shutil.rmtree, self._partial, ignore_errors=True)
        # Give a single file a fixed internal name, so that equal messages give equal bytes.
        folder = self._partial / ("bag" if self._is_file else self.path.name)
        # Version 9 writes QoS as words, which `ros2 bag` of Humble cannot read. Later distributions read both.
        self._writer = McapBagWriter(folder, version=8, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        if irreplaceable:
            self._reserve = DiskReserve(self._partial / "reserve")

    def add_topic(self, topic: str, message_type: str, *, latched: bool = False) -> None:
        """Declare a topic.

        Args:
            topic: Name of the topic.
            message_type: Type, such as `sensor_msgs/msg/Image`.
            latched: Record the QoS transient local, so that late subscribers to a bag player get the message too.
        """
        self._connections[topic] = self._writer.add_connection(
            topic, message_type, typestore=typestore(), offered_qos_profiles=[_qos(latched)]
        )

    def write(self, topic: str, log_time_ns: int, message: Any, *, latched: bool = False) -> None:
        """Write a message of a class from `message_class`. The first message declares its topic."""
        message_type = message.__msgtype__
        if topic not in self._connections:
            self.add_topic(topic, message_type, latched=latched)
        self.write_raw(topic, log_time_ns, typestore().serialize_cdr(message, message_type))

    def write_serialized(self, topic: str, message_type: str, log_time_ns: int, data: UInt8Array) -> None:
        """Write the bytes of a message, uint8 `[n]`, C-contiguous. The first message declares its topic."""
        if topic not in self._connections:
            self.add_topic(topic, message_type)
        self.write_raw(topic, log_time_ns, data.data)

    def write_raw(self, topic: str, log_time_ns: int, data: bytes | memoryview) -> None:
        """Write a serialised message to a declared topic.

        Raises:
            BagError: A bag cannot store the time, or the disk is full or fails. After that, do not write to an
                irreplaceable bag again.
        """
        if not 0 <= log_time_ns < 1 << 64:
            raise BagError(
                f"expected recording times from 1970 to 2554, got {log_time_ns} ns on {topic}; correct the times"
            )
        try:
            if self._reserve:
                self._hold_room(len(data))
            self.messages += 1  # count it even if writing fails: the message stays in the chunk in memory
            self._writer.write(self._connections[topic], log_time_ns, data)
            if self._reserve:
                self._file_bytes = self._file().tell()
        except OSError as error:
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; make room and try again") from None

    def complete(self) -> None:
        """Write everything that is missing, still under the temporary name. Write no message after that.

        After it, `close` has only to give the bag its name. A command with several outputs completes all of them before
        one gets its name.

        Raises:
            BagError: The bag cannot be completed.
        """
        try:
            self._finish()
        except OSError as error:
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; make room and try again") from None

    def close(self) -> None:
        """Complete the bag and give it its final name.

        Raises:
            BagError: The bag cannot be completed. Nothing is left behind, except the written part of an irreplaceable
                bag.
        """
        try:
            self._finish()
            folder = self._writer.path
            (folder / "bag.mcap" if self._is_file else folder).replace(self.path)
        except OSError as error:
            if self._reserve and self.messages:
                with suppress(OSError):
                    self._writer.abort()
                raise BagError(
                    f"expected to complete {self.path}, got: {error.strerror}; the written part is in {self._partial}, "
                    "repair it with `mcap recover`"
                ) from None
            self.abort()
            raise BagError(f"expected to write {self.path}, got: {error.strerror}; make room and try again") from None
        except KeyboardInterrupt:
            if not (self._reserve and self.messages):
                self.abort()
            raise
        shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        if self._is_finished:
            return
        if self._reserve:
            self._reserve.give_up()
            self._cut_torn_end()
        self._writer.close()
        self._is_finished = True

    def abort(self) -> None:
        """Stop writing and remove everything that was written."""
        if self._reserve:
            self._reserve.give_up()
        with suppress(OSError):  # the bag is removed anyway, so a failed write does not matter
            self._writer.abort()
        shutil.rmtree(self._partial, ignore_errors=True)
        remove_if_empty(self._new_parents)

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
        # rosbags' MCAP storage has no public access to its file. The version of rosbags is pinned.
        storage: Any = self._writer.storage
        return storage.bio

    def _hold_room(self, message_bytes: int) -> None:
        """Reserve space for the chunk in memory (a mebibyte plus one message) and for the summary.

        The summary has one entry for each chunk.
        """
        self._written_bytes += message_bytes + 64  # upper bound of what MCAP adds to a message
        self._largest_bytes = max(self._largest_bytes, message_bytes)
        assert self._reserve is not None
        topics = len(self._connections)
        summary_bytes = (self._written_bytes >> 20) * (256 + 16 * topics) + topics * (1 << 15)
        self._reserve.hold((1 << 21) + 2 * self._largest_bytes + summary_bytes)

    def _cut_torn_end(self) -> None:
        """Remove a partly written chunk from the end of the file. Its messages are still in memory."""
        if self._file_bytes:
            file = self._file()
            file.flush()
            file.seek(self._file_bytes)
            file.truncate()


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
