"""Tests bags that hold fewer messages than they state, and read errors: the sentence has both numbers and a remedy."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from small_bag import START_NS, image_message, moving_picture

from ros_kd_perception.bags.reader import BagError, BagReader, read_camera_frames, typestore

IMAGE = "sensor_msgs/msg/Image"


def record(folder: Path, plugin: StoragePlugin, frames: int = 5) -> Path:
    data = typestore().serialize_cdr(image_message("front", START_NS, moving_picture((4, 6), 0)), IMAGE)
    with Writer(folder, version=8, storage_plugin=plugin) as writer:
        front = writer.add_connection("/front/image_raw", IMAGE, typestore=typestore())
        depth = writer.add_connection("/front/depth", IMAGE, typestore=typestore())
        for index in range(frames):
            writer.write(front, START_NS + index, data)
            writer.write(depth, START_NS + index, data)
    return folder


def file_of(folder: Path) -> Path:
    [file] = [path for path in folder.iterdir() if path.suffix in (".mcap", ".db3")]
    return file


def error_of(path: Path) -> str:
    with pytest.raises(BagError) as caught, BagReader(path) as bag:
        list(read_camera_frames(bag))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def set_counts(folder: Path, front: int, depth: int) -> None:
    """Write these message counts into metadata.yaml."""
    metadata = folder / "metadata.yaml"
    counts = iter([front, depth])
    before, topics = metadata.read_text().split("topics_with_message_count")
    topics = re.sub(r"message_count: \d+", lambda _: f"message_count: {next(counts)}", topics)
    metadata.write_text(f"{before}topics_with_message_count{topics}")


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_fewer_frames_than_metadata_states_are_refused_with_both_numbers(plugin: StoragePlugin, tmp_path: Path) -> None:
    folder = record(tmp_path / "drive", plugin)
    set_counts(folder, 8, 5)
    sentence = error_of(folder)
    assert f"expected 8 messages of /front/image_raw, as {folder / 'metadata.yaml'} says, found 5" in sentence
    assert f"`ros2 bag reindex {folder}`" in sentence


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("counts", [(3, 5), (0, 0), (5, 99)])
def test_lower_counts_in_metadata_and_losses_on_other_topics_are_accepted(
    plugin: StoragePlugin, counts: tuple[int, int], tmp_path: Path
) -> None:
    folder = record(tmp_path / "drive", plugin)
    set_counts(folder, *counts)
    with BagReader(folder) as bag:
        assert len(list(read_camera_frames(bag))) == bag.count(["/front/image_raw"]) == 5


def test_rows_deleted_from_a_database_are_refused(tmp_path: Path) -> None:
    folder = record(tmp_path / "drive", StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(file_of(folder))) as database:
        database.execute("DELETE FROM messages WHERE timestamp > ?", (START_NS + 2,))
        database.commit()
    assert "expected 5 messages of /front/image_raw" in error_of(folder)
    with BagReader(file_of(folder)) as bag:
        assert len(list(read_camera_frames(bag))) == 3


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement)
        database.commit()


def test_rows_of_an_undeclared_topic_are_noted(tmp_path: Path) -> None:
    file = file_of(record(tmp_path / "drive", StoragePlugin.SQLITE3))
    change(file, "DELETE FROM topics WHERE name = '/front/depth'")
    with BagReader(file) as bag:
        assert len(list(read_camera_frames(bag))) == 5
        [note] = bag.notes
    assert "5 messages cannot be read" in note


def test_a_database_that_is_not_a_bag_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "history.db3"
    change(file, "CREATE TABLE visits (url TEXT)")
    sentence = error_of(file)
    assert "expected the tables topics and messages, found visits" in sentence
    assert "repair" not in sentence
    file = file_of(record(tmp_path / "drive", StoragePlugin.SQLITE3))
    change(file, "ALTER TABLE messages RENAME COLUMN data TO content")
    assert "no such column: data" in error_of(file)


def test_rows_with_values_of_another_type_are_handled(tmp_path: Path) -> None:
    file = file_of(record(tmp_path / "drive", StoragePlugin.SQLITE3))
    change(file, "UPDATE topics SET name = CAST(x'ff2f' AS TEXT), type = x'00' WHERE name = '/front/depth'")
    change(file, f"UPDATE messages SET data = 'text' WHERE topic_id = 1 AND timestamp = {START_NS}")
    with BagReader(file) as bag:
        found = [frame for _, _, frame in read_camera_frames(bag)]
    assert [getattr(frame, "reason", None) for frame in found] == ["bad_data", None, None, None, None]
    change(file, f"UPDATE messages SET timestamp = 'noon' WHERE topic_id = 1 AND timestamp = {START_NS}")
    assert "expected integers as times, got 'noon'" in error_of(file)


def test_a_database_with_wrong_bytes_is_refused_with_a_remedy(tmp_path: Path) -> None:
    file = file_of(record(tmp_path / "drive", StoragePlugin.SQLITE3, frames=200))
    content = file.read_bytes()
    refused = 0
    for begin in range(4096, len(content), 4096):
        file.write_bytes(content[:begin] + b"\xff" * 4096 + content[begin + 4096 :])
        try:
            with BagReader(file) as bag:
                assert len(list(bag.raw_messages(["/front/image_raw", "/front/depth"]))) == 400
        except BagError as error:
            refused += 1
            assert "repair it with `sqlite3 FILE .recover | sqlite3 NEW.db3`" in str(error)  # noqa: PT017
    assert refused > 10


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_file_without_read_permission_is_refused(plugin: StoragePlugin, tmp_path: Path) -> None:
    folder = record(tmp_path / "drive", plugin)
    file_of(folder).chmod(0)
    if os.access(file_of(folder), os.R_OK):
        pytest.skip("needs a user who may not read everything")
    for path in (folder, file_of(folder)):
        sentence = error_of(path)
        assert "Permission denied; check its permissions" in sentence
        assert "repair" not in sentence
