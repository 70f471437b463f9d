"""Write bags that appear under their names only when they are complete."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from ros_kd_perception.bags.disk_reserve import DiskReserve
from ros_kd_perception.bags.errors import BagError
from ros_kd_perception.bags.message_types import typestore
from ros_kd_perception.system.output_paths import OutputPathError, check_folder, make_folder, remove_if_empty


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
            path: `.mcap` file or folder; missing parent folders are made, but none in the root of the file system.
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
        self._connections: dict[str, Connection] = {}
        self._reserve: DiskReserve | None = None
        self.messages = 0
        self._file_bytes = 0  # after the last write that succeeded
        self._written_bytes = self._largest_bytes = 0  # of messages
        try:
            check_folder(self.path.parent if self._is_file else self.path)
            self._new_parents = make_folder(self.path.parent)
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
        except OutputPathError as error:
            raise BagError(str(error)) from None
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
            BagError: a time that no bag can hold, or the disk is full or fails; of an irreplaceable bag nothing may be
                written any more.
        """
        if not 0 <= log_time_ns < 1 << 64:
            raise BagError(
                f"expected times of recording from 1970 to 2554, got one of {log_time_ns} ns on {topic}; correct the "
                "times of the bag"
            )
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
