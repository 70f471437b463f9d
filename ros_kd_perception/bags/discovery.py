"""Finds the files of a bag and their order.

A metadata.yaml gives the names and the order of the files. The format of a file comes from its content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ros_kd_perception.bags.errors import BagError, one_line
from ros_kd_perception.bags.metadata import METADATA_FILE, BagMetadata, read_metadata
from ros_kd_perception.parameters.camera_names import BagTopic

_PACKED_SUFFIXES = (".zstd", ".zst", ".lz4", ".gz")
_BAG_NAME = re.compile(r"(?P<plain>[^.].*\.(mcap|db3))(\.(zstd|zst|lz4|gz))?", re.IGNORECASE)
_MAX_NAMES = 5


@dataclass(frozen=True)
class FoundFiles:
    """The files of a bag.

    Attributes:
        files: At least one file, in the order of recording.
        notes: Sentences for the user about what is not read.
        topics: Topics with the message counts from metadata.yaml. Empty without it.
    """

    files: Sequence[Path]
    notes: Sequence[str] = ()
    topics: Sequence[BagTopic] = ()


def find_bag_files(path: Path) -> FoundFiles:
    """Find the files of a bag.

    Args:
        path: A file, or a folder of files with or without metadata.yaml.

    Raises:
        BagError: The path does not exist, there is no bag, or a file of the bag is missing.
        OSError: The folder or its metadata.yaml cannot be read.
    """
    if not path.exists():
        raise BagError(f"expected a bag at {path}, found nothing; give a .mcap or .db3 file, or a rosbag2 folder")
    if path.is_file():
        return FoundFiles([path])
    if not path.is_dir():
        raise BagError(f"expected a file or a folder at {path}, got a device or a pipe; give a bag on a disk")
    metadata = path / METADATA_FILE
    if not metadata.is_file():
        return _all_in(path)
    try:
        stated = read_metadata(metadata)
    except ValueError as error:
        found = _all_in(path)
        note = f"{metadata} cannot be used ({one_line(error)}); all bag files beside it are read"
        return replace(found, notes=[note, *found.notes])
    return _named_in(path, stated)


def _named_in(folder: Path, stated: BagMetadata) -> FoundFiles:
    found = {name: _present(folder, name) for name in stated.files}
    files = [file for file in found.values() if file is not None]
    there = _bag_files_in(folder)
    if len(files) < len(found):
        missing = [name for name, file in found.items() if file is None]
        raise BagError(
            f"expected the files that {folder / METADATA_FILE} names, missing: {_some(missing)}; put them beside it, "
            f"or move {METADATA_FILE} elsewhere to read the bag files in the folder: {_some([f.name for f in there])}"
        )
    named = {_plain_name(file) for file in files}
    foreign = [file.name for file in there if _plain_name(file) not in named]
    notes = [f"not read, because {METADATA_FILE} of {folder} does not name it: {_some(foreign)}"] if foreign else []
    return FoundFiles(files, notes, stated.topics)


def _all_in(folder: Path) -> FoundFiles:
    files = _bag_files_in(folder)
    if not files:
        others = sorted(file.name + "/" * file.is_dir() for file in folder.iterdir())
        raise BagError(
            f"expected a {METADATA_FILE}, .mcap or .db3 in {folder}, found {_some(others)}; give the folder of a bag"
        )
    # A recorder that is killed when it starts a file leaves it empty. If all files are empty, keep one, so that the
    # check of its content refuses the bag.
    filled = [file for file in files if file.stat().st_size] or files[:1]
    empty = [file.name for file in files if file not in filled]
    notes = [f"not read, because it is empty: {_some(empty)} of {folder}"] if empty else []
    return FoundFiles(filled, notes)


def _present(folder: Path, name: str) -> Path | None:
    """Return the named file, or else the same file decompressed or compressed. Return None if none of these exists."""
    plain = _plain_name(folder / name)
    candidates = [name, plain, *(plain + suffix for suffix in _PACKED_SUFFIXES)]
    return next((folder / candidate for candidate in candidates if (folder / candidate).is_file()), None)


def _plain_name(file: Path) -> str:
    return file.stem if file.suffix.lower() in _PACKED_SUFFIXES else file.name


def _bag_files_in(folder: Path) -> list[Path]:
    """Return the bag files of a folder, ordered by the numbers in their names.

    If a file is there both compressed and decompressed, return the decompressed one.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):  # a plain name sorts before the same name with a suffix
        if (match := _BAG_NAME.fullmatch(file.name)) and file.is_file():
            files.setdefault(match["plain"], file)
    # A split recording numbers its files: bag_10 comes after bag_9.
    return sorted(files.values(), key=lambda f: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", f.name)])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more if names else "nothing"
