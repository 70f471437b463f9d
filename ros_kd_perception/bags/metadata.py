"""Reads the metadata.yaml of a rosbag2 folder: its files, their compression, and the recorder's message counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from ros_kd_perception.bags.errors import BagError, one_line
from ros_kd_perception.bags.storage import ros2_type
from ros_kd_perception.parameters.camera_names import BagTopic

METADATA_FILE = "metadata.yaml"
MAX_METADATA_BYTES = 1 << 26
MAX_TEXT_CHARACTERS = 255
"""Limit on the name of a file, topic or type. File systems allow no longer names."""


@dataclass(frozen=True)
class BagMetadata:
    """The content of a metadata.yaml.

    Attributes:
        files: Names of the bag's files in order, without folders and duplicates.
        topics: Topics with the message counts of the recorder.
    """

    files: tuple[str, ...]
    topics: tuple[BagTopic, ...]


def read_metadata(path: Path) -> BagMetadata:
    """Read a metadata.yaml.

    Raises:
        BagError: The messages are compressed with an unknown format.
        ValueError: The file is not the metadata of a bag.
        OSError: The file cannot be read.
    """
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise ValueError(f"expected at most {MAX_METADATA_BYTES} bytes, got more")
    text = path.read_bytes()
    try:
        return _metadata(path, yaml.safe_load(text)["rosbag2_bagfile_information"])
    except BagError:
        raise
    except KeyError as error:
        raise ValueError(f"no {error}") from None
    except Exception as error:  # errors of the YAML parser, or fields of an unexpected type
        raise ValueError(one_line(error)) from None


def _metadata(path: Path, content: Mapping[str, Any]) -> BagMetadata:
    compression = _text(content.get("compression_format")).lower()
    if _text(content.get("compression_mode")).lower() == "message" and compression != "zstd":
        raise BagError(
            f"expected messages compressed with zstd, {path} says {compression!r}; convert the bag with "
            "`ros2 bag convert`"
        )
    # Up to version 3 the paths contain the folder's name at the time of recording, which may have changed. Dropping the
    # folders also keeps a path from leading outside the bag.
    files = tuple(dict.fromkeys(PurePath(_text(file)).name for file in content["relative_file_paths"]))
    if not files:
        raise ValueError("it names no files")
    return BagMetadata(files, tuple(_topic(entry) for entry in content["topics_with_message_count"]))


def _topic(entry: Mapping[str, Any]) -> BagTopic:
    topic = entry["topic_metadata"]
    kind = ros2_type(_text(topic["type"]), _text(topic["serialization_format"]))
    return BagTopic(_text(topic["name"]), kind, int(entry["message_count"]))


def _text(value: object) -> str:
    """Return a scalar as text, also one that YAML parsed as a number.

    Refuse lists and mappings, because the text of a few nested ones can take gigabytes.
    """
    if isinstance(value, (list, dict, set)) or (isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS):
        raise ValueError(f"expected texts of at most {MAX_TEXT_CHARACTERS} characters, got another value")
    return "" if value is None else str(value)
