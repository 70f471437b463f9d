"""BagFiles: turns a path into files that can be read directly. Decompresses them and merges logs into a copy."""

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
    """A file of a bag that can be read directly. Its format has not been checked yet.

    Attributes:
        given: The user's file.
        path: The file to read: the same file, or a copy that is removed when the bag is closed.
        state: Return value of `state_of` for `path` when it was found.
    """

    given: Path
    path: Path
    state: tuple[int, int]

    def has_changed(self) -> bool:
        """Return whether something has written to the file since it was found."""
        return not self.path.exists() or state_of(self.path) != self.state


class BagFiles:
    """The files of a bag in the order of recording. They are readable until this object is closed.

    Attributes:
        files: At least one file.
        notes: Sentences for the user about what is not read or was restored.
        topics: Topics with the message counts from metadata.yaml. Empty without it.
    """

    def __init__(self, path: Path) -> None:
        """Find the files of a bag. Decompress them or merge their logs in a temporary copy if necessary.

        Args:
            path: A bag file, compressed or not, or a folder of bag files, with or without metadata.yaml.

        Raises:
            BagError: There is no bag, a file is missing or has another format, or there is no room for copies.
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
                    f"expected {file} to contain an MCAP or SQLite file of ROS 2 in {compression}, {what_it_is(head)}"
                )
            size = unpack_file_within(compression, file, target, self._room_bytes)
        except ExceedsLimit:
            by_hand = f"unpack the file elsewhere with `{_COMMANDS[compression]}`"
            raise self._no_room(f"{file} to unpack to", by_hand) from None
        except BagError:
            raise
        except ValueError as error:
            raise BagError(
                f"expected {file} to be a complete {compression} file, got: {one_line(error)}; copy or record it again"
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
            f"expected {what} at most {self._room_bytes} bytes, the rest of half of the free space in "
            f"{tempfile.gettempdir()}, it is more; set TMPDIR to a larger disk, or {otherwise}"
        )

    def _new_copy(self) -> Path:
        """Return a new path in the temporary folder, which is removed on `close`.

        Each copy gets its own folder, because SQLite looks for logs beside a database.
        """
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bag-")))
            self._room_bytes = shutil.disk_usage(self._folder).free // 2
        return Path(tempfile.mkdtemp(dir=self._folder)) / "bag"
