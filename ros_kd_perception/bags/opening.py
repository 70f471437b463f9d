"""Opens one file of a bag according to its content, and turns failures into a BagError."""

from __future__ import annotations

from collections.abc import Mapping

from ros_kd_perception.bags.content import MCAP, SQLITE, content_of, head_of, what_it_is
from ros_kd_perception.bags.errors import BagError, CutOff, Damaged, being_written, one_line
from ros_kd_perception.bags.files import PlainFile
from ros_kd_perception.bags.mcap_file import McapFile
from ros_kd_perception.bags.sqlite_file import SqliteFile
from ros_kd_perception.bags.storage import StorageFile

_KINDS: Mapping[str, type[McapFile] | type[SqliteFile]] = {MCAP: McapFile, SQLITE: SqliteFile}
_BEGINNINGS = ((b"\x89MCAP0\r\n", McapFile), (b"SQLite format 3\x00", SqliteFile))


def open_storage(file: PlainFile) -> StorageFile:
    """Open an MCAP or SQLite file. Its name does not matter.

    Raises:
        BagError: The file has another format, is damaged or cut off, exceeds a limit, or cannot be read.
    """
    given = file.given
    try:
        head = head_of(file.path)
    except OSError as error:
        raise unreadable(file, error) from None
    kind = _KINDS.get(content_of(head))
    if kind is None:
        for beginning, cut_off in _BEGINNINGS:
            if head and beginning.startswith(head):
                raise unreadable(file, CutOff(f"it has {len(head)} bytes"), cut_off.repair)
        raise BagError(f"expected {given} to be an MCAP or SQLite file of ROS 2, {what_it_is(head)}")
    try:
        opened = kind(file.path)
    except Exception as error:  # a damaged file can raise any error
        raise unreadable(file, error, kind.repair) from None
    opened.path = given
    return opened


def unreadable(file: PlainFile, error: Exception, repair: str = "") -> BagError:
    """Return the error for a file of a bag that cannot be opened or read to its end.

    Args:
        file: The file.
        error: The error while opening or reading.
        repair: A command in backquotes that saves the intact part of the file.
    """
    path = file.given
    if isinstance(error, (CutOff, Damaged)) and file.has_changed():
        return being_written(path, "read")
    if isinstance(error, CutOff):
        return BagError(
            f"expected {path} to be a complete bag, {error}: it was cut off or is still being recorded; repair it with "
            f"{repair}"
        )
    if isinstance(error, Damaged):
        return BagError(f"expected {path} to be an undamaged bag, got: {one_line(error)}; repair it with {repair}")
    if isinstance(error, PermissionError):
        return BagError(f"expected to read {path}, got: {error.strerror}; check its permissions")
    if isinstance(error, OSError):
        return BagError(f"expected to read {path}, got: {error.strerror or one_line(error)}; check the disk it is on")
    return BagError(f"expected to read {path}, got: {one_line(error)}")
