"""Read the metadata.yaml of a rosbag2 folder: its files, how they are compressed, what the recorder counted."""

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
"""Of a name of a file, topic or type; file systems have none that are longer."""


@dataclass(frozen=True)
class BagMetadata:
    """What metadata.yaml says.

    Attributes:
        files: names of the bag's files in order, without folders, each once.
        topics: with the number of messages that the recorder counted.
    """

    files: tuple[str, ...]
    topics: tuple[BagTopic, ...]


def read_metadata(path: Path) -> BagMetadata:
    """Read a metadata.yaml.

    Raises:
        BagError: it says that messages are compressed in a way that we cannot undo.
        ValueError: it is not the metadata of a bag.
        OSError: it cannot be read.
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
    except Exception as error:  # of the YAML reader and of fields of another kind than expected
        raise ValueError(one_line(error)) from None


def _metadata(path: Path, content: Mapping[str, Any]) -> BagMetadata:
    compression = _text(content.get("compression_format")).lower()
    if _text(content.get("compression_mode")).lower() == "message" and compression != "zstd":
        raise BagError(
            f"expected messages that are compressed with zstd, {path} says {compression!r}; `ros2 bag convert` the bag"
        )
    # A bag keeps the name that its folder had when it was recorded; up to version 3 it stood in the paths. Without
    # folders, a path leads nowhere else either.
    files = tuple(dict.fromkeys(PurePath(_text(file)).name for file in content["relative_file_paths"]))
    if not files:
        raise ValueError("it names no files")
    return BagMetadata(files, tuple(_topic(entry) for entry in content["topics_with_message_count"]))


def _topic(entry: Mapping[str, Any]) -> BagTopic:
    topic = entry["topic_metadata"]
    kind = ros2_type(_text(topic["type"]), _text(topic["serialization_format"]))
    return BagTopic(_text(topic["name"]), kind, int(entry["message_count"]))


def _text(value: object) -> str:
    """A text, or what YAML makes of one without quotes, such as a number. A few nested lists can be gigabytes."""
    if isinstance(value, (list, dict, set)) or (isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS):
        raise ValueError(f"expected texts of at most {MAX_TEXT_CHARACTERS} characters, got another value")
    return "" if value is None else str(value)
