"""Open one file of a bag by what is in it, and say what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from ros_kd_perception.bag_errors import BagError, CutOff, Damaged, one_line
from ros_kd_perception.bag_mcap import McapFile
from ros_kd_perception.bag_sqlite import SqliteFile
from ros_kd_perception.bag_storage import StorageFile

_KINDS: tuple[tuple[bytes, type[McapFile] | type[SqliteFile]], ...] = (
    (b"\x89MCAP0\r\n", McapFile),
    (b"SQLite format 3\x00", SqliteFile),
)
_OTHERS = (
    (b"#ROSBAG V", "a ROS 1 bag", "turn it into a ROS 2 bag with `rosbags-convert`"),
    (b"version https://git-lfs.", "a pointer of Git LFS", "fetch the file itself with `git lfs pull`"),
)


def open_storage(path: Path) -> StorageFile:
    """Open a .mcap or .db3 file, whatever its name.

    Raises:
        BagError: it is neither, damaged, cut off, beyond the limits, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise unreadable(path, error) from None
    for magic, kind in _KINDS:
        if head and magic.startswith(head):
            raise unreadable(path, CutOff(f"it has {len(head)} bytes"), kind.repair)
        if head.startswith(magic):
            try:
                return kind(path)
            except Exception as error:  # whatever the damage makes of it
                raise unreadable(path, error, kind.repair) from None
    raise BagError(f"expected {path} to be an MCAP or SQLite file of ROS 2, {_found(head)}")


def unreadable(path: Path, error: Exception, repair: str = "") -> BagError:
    """Say what is wrong with a file of a bag, and how to save what is whole of it.

    Args:
        path: of the file.
        error: what came up while it was opened or read.
        repair: a command in backquotes.
    """
    if isinstance(error, CutOff):
        return BagError(f"expected {path} to be a whole bag, {error}: it was cut off; repair it with {repair}")
    if isinstance(error, Damaged):
        return BagError(f"expected {path} to be a sound bag, got: {one_line(error)}; repair it with {repair}")
    if isinstance(error, PermissionError):
        return BagError(f"expected to read {path}, got: {error.strerror}; check its permissions")
    if isinstance(error, OSError):
        return BagError(f"expected to read {path}, got: {error.strerror or one_line(error)}; check the disk it is on")
    return BagError(f"expected to read {path}, got: {one_line(error)}")


def _found(head: bytes) -> str:
    if not head:
        return "it is empty; record or copy it again"
    for magic, content, remedy in _OTHERS:
        if head.startswith(magic):
            return f"it is {content}; {remedy}"
    return f"it begins with {head[:16]!r}; record or copy it again, or give another file"
