"""From the path that a user gives to files that can be read as they are: unpacked, with their logs merged."""

from __future__ import annotations

import errno
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ros_kd_perception.bags.content import HEAD_BYTES, MCAP, SQLITE, content_of, head_of, what_it_is
from ros_kd_perception.bags.decompression import FILE_COMPRESSIONS, ExceedsLimit, unpack_file_within, unpacked_head
from ros_kd_perception.bags.discovery import find_bag_files
from ros_kd_perception.bags.errors import BagError, one_line
from ros_kd_perception.bags.sqlite_database import (
    check_not_in_transaction,
    copied_bytes,
    copy_with_logs,
    logs_of,
    state_of,
)

_COMMANDS = {"zstd": "zstd -d", "LZ4": "lz4 -d", "gzip": "gunzip -k"}


@dataclass(frozen=True)
class PlainFile:
    """A file of a bag that can be read as it is, if it is one.

    Attributes:
        given: the file that the user has.
        path: what to read, the same file or a copy that is gone when the bag is closed.
        state: of `path` when it was found, as `state_of` returns it.
    """

    given: Path
    path: Path
    state: tuple[int, int]

    def has_changed(self) -> bool:
        """Whether something wrote to it since it was found."""
        return not self.path.exists() or state_of(self.path) != self.state


class BagFiles:
    """The files of a bag in the order of recording, all readable until this is closed.

    Attributes:
        files: at least one.
        notes: sentences about what was left out or restored, for the user.
        topics: with the number of messages that metadata.yaml says the files have; empty without it.
    """

    def __init__(self, path: Path) -> None:
        """Find the files of a bag; unpack, and merge with its log, what cannot be read as it is.

        Args:
            path: a bag file, packed or not, or a folder of them, with or without metadata.yaml.

        Raises:
            BagError: no bag, a file that is missing or is something else, or no room for copies.
        """
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._room_bytes = 0
        try:
            found = find_bag_files(path)
            self.notes = list(found.notes)
            self.topics = found.topics
            self.files = [self._plain(file) for file in found.files]
        except OSError as error:
            self.close()
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = f"make room in {tempfile.gettempdir()}, or set TMPDIR" if full else "check its permissions"
            raise BagError(f"expected to read {error.filename or path}, got: {error.strerror}; {remedy}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the copies."""
        self._stack.close()

    def __enter__(self) -> BagFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _plain(self, file: Path) -> PlainFile:
        content, plain = content_of(head_of(file)), file
        if content in FILE_COMPRESSIONS:
            plain = self._unpack(file, content)
        elif content == SQLITE:
            plain = self._with_logs(file)
        return PlainFile(file, plain, state_of(plain))

    def _unpack(self, file: Path, compression: str) -> Path:
        target = self._new_copy()
        try:
            head = unpacked_head(compression, file, HEAD_BYTES)
            if content_of(head) not in (MCAP, SQLITE):
                raise BagError(
                    f"expected {file} to be an MCAP or SQLite file of ROS 2 in {compression}, {what_it_is(head)}"
                )
            size = unpack_file_within(compression, file, target, self._room_bytes)
        except ExceedsLimit:
            by_hand = f"unpack it elsewhere with `{_COMMANDS[compression]}`"
            raise self._no_room(f"{file} to unpack to", by_hand) from None
        except BagError:
            raise
        except ValueError as error:
            raise BagError(
                f"expected {file} to be a whole {compression} file, got: {one_line(error)}; copy or record it again"
            ) from None
        self._room_bytes -= size
        return target

    def _with_logs(self, database: Path) -> Path:
        check_not_in_transaction(database)
        if not logs_of(database):
            return database
        target = self._new_copy()
        size = copied_bytes(database)
        if size > self._room_bytes:
            raise self._no_room(
                f"a copy of {database} with {logs_of(database)[0].name}, {size} bytes, to be",
                f"merge the two yourself: `sqlite3 {database.name} 'PRAGMA wal_checkpoint(TRUNCATE)'`",
            )
        note = copy_with_logs(database, target)
        if note:
            self.notes.append(note)
        self._room_bytes -= size
        return target

    def _no_room(self, what: str, otherwise: str) -> BagError:
        return BagError(
            f"expected {what} at most {self._room_bytes} bytes, what is left of half of the room in "
            f"{tempfile.gettempdir()}, it is more; set TMPDIR to a larger disk, or {otherwise}"
        )

    def _new_copy(self) -> Path:
        """A new name in a folder that is removed with this; each in a folder of its own, for SQLite looks beside it."""
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bag-")))
            self._room_bytes = shutil.disk_usage(self._folder).free // 2
        return Path(tempfile.mkdtemp(dir=self._folder)) / "bag"
