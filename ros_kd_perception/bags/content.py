"""Recognises the format of a file by its first bytes, because its name may be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HEAD_BYTES = 512
"""Bytes of a file that `content_of` needs. The mark of a tar archive is at byte 257."""

MCAP, SQLITE = "MCAP", "SQLite"

_FIRST_BYTES: tuple[tuple[str, int, bytes], ...] = (
    (MCAP, 0, b"\x89MCAP0\r\n"),
    (SQLITE, 0, b"SQLite format 3\x00"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    *(("zstd", 0, bytes([number]) + b"\x2a\x4d\x18") for number in range(0x50, 0x60)),  # starts with a skippable frame
    ("LZ4", 0, b"\x04\x22\x4d\x18"),
    ("gzip", 0, b"\x1f\x8b"),
    ("bzip2", 0, b"BZh"),
    ("xz", 0, b"\xfd7zXZ\x00"),
    ("a ZIP archive", 0, b"PK\x03\x04"),
    ("a 7-Zip archive", 0, b"7z\xbc\xaf\x27\x1c"),
    ("a RAR archive", 0, b"Rar!\x1a\x07"),
    ("a tar archive", 257, b"ustar"),
    ("a ROS 1 bag", 0, b"#ROSBAG V"),
    ("the metadata of a bag", 0, b"rosbag2_bagfile_information:"),
    ("the log of an SQLite database", 0, b"\x37\x7f\x06\x82"),
    ("the log of an SQLite database", 0, b"\x37\x7f\x06\x83"),
    ("a pointer of Git LFS", 0, b"version https://git-lfs."),
    ("a web page", 0, b"<!DOCTYPE html"),
    ("a web page", 0, b"<html"),
)

_REMEDIES: Mapping[str, str] = {
    "bzip2": "unpack it with `bunzip2 -k`",
    "xz": "unpack it with `unxz -k`",
    "a ZIP archive": "unpack it with `unzip` and give the unpacked bag",
    "a 7-Zip archive": "unpack it with `7z x` and give the unpacked bag",
    "a RAR archive": "unpack it with `unrar x` and give the unpacked bag",
    "a tar archive": "unpack it with `tar -xf` and give the unpacked bag",
    "a ROS 1 bag": "convert it to a ROS 2 bag with `rosbags-convert`",
    "the metadata of a bag": "give the folder that contains it",
    "the log of an SQLite database": "give the .db3 file beside it",
    "a pointer of Git LFS": "fetch the file itself with `git lfs pull`",
    "a web page": "download the bag again, after signing in if its server requires it",
}


def head_of(file: Path) -> bytes:
    """Return the first `HEAD_BYTES` of a file, or the whole file if it is shorter.

    Raises:
        OSError: The file cannot be read.
    """
    with file.open("rb") as opened:
        return opened.read(HEAD_BYTES)


def content_of(head: bytes) -> str:
    """Return the format of a file that starts with these bytes.

    Args:
        head: The return value of `head_of`.

    Returns:
        `MCAP`, `SQLITE`, a compression such as `zstd`, or words such as `a tar archive`. Empty if the format is
        unknown.
    """
    for content, offset, first_bytes in _FIRST_BYTES:
        if head[offset : offset + len(first_bytes)] == first_bytes:
            return content
    return ""


def what_it_is(head: bytes) -> str:
    """Return what a file is instead of a bag and what to do, as the second half of an error sentence."""
    if not head:
        return "it is empty; record or copy it again"
    if content := content_of(head):
        return f"it is {content}; {_REMEDIES.get(content, 'unpack it and give the unpacked bag')}"
    return f"it begins with {head[:16]!r}; record or copy it again, or give another file"
