"""Read the metadata.yaml of a rosbag2 folder: its files, how they are compressed, what the recorder counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from ros_kd_perception.bag_errors import BagError, one_line
from ros_kd_perception.bag_storage import ros2_type
from ros_kd_perception.camera_topics import BagTopic

METADATA_FILE = "metadata.yaml"
MAX_METADATA_BYTES = 1 << 26


@dataclass(frozen=True)
class BagMetadata:
    """What metadata.yaml says.

    Attributes:
        files: of the bag, in order, all of them beside metadata.yaml.
        compression_mode: `file`, `message`, or empty without compression.
        topics: with the number of messages that the recorder counted.
    """

    files: tuple[Path, ...]
    compression_mode: str
    topics: tuple[BagTopic, ...]


def read_metadata(folder: Path) -> BagMetadata:
    """Read the metadata.yaml of a folder.

    Raises:
        BagError: it cannot be read, is not of a bag, or names files that are not there.
    """
    path = folder / METADATA_FILE
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise BagError(f"expected {path} to have at most {MAX_METADATA_BYTES} bytes; look at what it is")
        text = path.read_bytes()
    except OSError as error:
        raise BagError(f"expected to read {path}, got: {error.strerror}; check its permissions") from None
    try:
        return _metadata(folder, yaml.safe_load(text)["rosbag2_bagfile_information"])
    except BagError:
        raise
    except KeyError as error:
        problem = f"no {error}"
    except Exception as error:  # of the YAML reader and of fields of another kind than expected
        problem = one_line(error)
    raise BagError(
        f"expected {path} to be the metadata of a bag, got: {problem}; write it anew with `ros2 bag reindex {folder}`"
    )


def _metadata(folder: Path, content: Mapping[str, Any]) -> BagMetadata:
    mode = str(content.get("compression_mode") or "").lower().replace("none", "")
    compression = str(content.get("compression_format") or "")
    if mode and compression != "zstd":
        raise BagError(f"expected {folder} to be compressed with zstd, got {compression!r}; `ros2 bag convert` it")
    # Only beside metadata.yaml: a path in it must not lead anywhere else.
    files = tuple(folder / PurePath(str(path)).name for path in content["relative_file_paths"])
    if missing := [file.name for file in files if not file.is_file()]:
        raise BagError(
            f"expected the files that {folder / METADATA_FILE} names, {', '.join(missing[:5])} missing; copy them to "
            f"the folder, or leave them out with `ros2 bag reindex {folder}`"
        )
    return BagMetadata(files, mode, tuple(_topic(entry) for entry in content["topics_with_message_count"]))


def _topic(entry: Mapping[str, Any]) -> BagTopic:
    topic = entry["topic_metadata"]
    kind = ros2_type(str(topic["type"]), str(topic["serialization_format"]))
    return BagTopic(str(topic["name"]), kind, int(entry["message_count"]))
