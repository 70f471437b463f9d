"""Topics that are not read have no effect: with any types and definitions, the cameras are read."""

from __future__ import annotations

import functools
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from mcap_builder import McapBuilder, channel, schema
from rosbags.rosbag2 import StoragePlugin, Writer
from small_bag import START_NS, image_message, moving_picture

from ros_kd_perception.bags.reader import BagError, BagReader, RawMessage, read_camera_frames, typestore
from ros_kd_perception.parameters.camera_names import CAMERA_INFO, BagTopic
from ros_kd_perception.structures import Frame

IMAGE, FEEDBACK = "sensor_msgs/msg/Image", "nav2_msgs/action/NavigateToPose_FeedbackMessage"
FRONT, FOREIGN = 1, 2
DEFINITIONS = {
    "empty": ("", ""),
    "unknown": ("unknown", ""),
    "json": ("jsonschema", '{"type": "object"}'),
    "protobuf": ("protobuf", b"\x0a\xff\x00\xfe"),
    "flatbuffer": ("flatbuffer", b"\x10\x00\xff"),
    "ros1msg": ("ros1msg", "Header header\ntime t\nduration d"),
    "idl": ("ros2idl", "module nav2_msgs { module action {"),
    "omg idl": ("omgidl", "struct {"),
    "own": ("Encoding of Ours", "?"),
    "not parsed": ("ros2msg", "this is } not a definition\n===\nMSG: \n"),
    "not text": ("ros2msg", b"\xff\xfe\xfd"),
    "redefined": ("ros2msg", f"{IMAGE} image\n{'=' * 80}\nMSG: {IMAGE}\nuint8 something_else"),
}


def image() -> bytes:
    picture = moving_picture((4, 6), 0)
    return bytes(typestore().serialize_cdr(image_message("front", START_NS, picture), IMAGE))


def write_mcap(
    path: Path,
    definition: tuple[str, str | bytes],
    kind: str = FEEDBACK,
    encoding: str = "cdr",
    qos: str = "",
    image_type: str = IMAGE,
    image_definition: tuple[str, str | bytes] = ("ros2msg", ""),
) -> Path:
    declarations = [
        schema(2, kind, *definition),
        channel(FOREIGN, 2, "/navigate/_action/feedback", encoding, qos.encode()),
        schema(1, image_type, *image_definition),
        channel(FRONT, 1, "/front/image_raw"),
    ]
    out = McapBuilder(declarations=declarations)
    out.chunk((FOREIGN, START_NS, b"{}"), (FRONT, START_NS, image()), first=declarations)
    return out.chunk((FRONT, START_NS + 1, image()), (FOREIGN, START_NS + 2, b"\xff")).write(path)


@functools.cache
def recorded_db3() -> tuple[bytes, str]:
    """Return a database with two images, and its metadata.yaml."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "drive"
        with Writer(folder, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
            other = "sensor_msgs/msg/BatteryState"
            foreign = writer.add_connection("/navigate/_action/feedback", other, typestore=typestore())
            front = writer.add_connection("/front/image_raw", IMAGE, typestore=typestore())
            writer.write(foreign, START_NS, b"?")
            for index in range(2):
                writer.write(front, START_NS + index, image())
        return (folder / "drive.db3").read_bytes(), (folder / "metadata.yaml").read_text()


def write_db3(
    folder: Path,
    definition: tuple[str, str | bytes],
    kind: str = FEEDBACK,
    encoding: str = "cdr",
    image_type: str = IMAGE,
) -> Path:
    database_file, metadata = recorded_db3()
    folder.mkdir()
    (folder / "drive.db3").write_bytes(database_file)
    with closing(sqlite3.connect(folder / "drive.db3")) as database:
        database.execute("PRAGMA synchronous = OFF")
        is_foreign = "LIKE '%BatteryState'"
        database.execute(
            f"UPDATE topics SET type = ?, serialization_format = ? WHERE type {is_foreign}", (kind, encoding)
        )
        database.execute(
            "UPDATE message_definitions SET topic_type = ?, encoding = ?, encoded_message_definition = ? "
            f"WHERE topic_type {is_foreign}",
            (kind, *definition),
        )
        database.execute("UPDATE topics SET type = ? WHERE name = '/front/image_raw'", (image_type,))
        database.commit()
    text = metadata.replace("sensor_msgs/msg/BatteryState", kind).replace(IMAGE, image_type)
    text = text.replace("serialization_format: cdr", f"serialization_format: {encoding}", 1)
    (folder / "metadata.yaml").write_text(text)
    return folder


def beside_metadata(file: Path) -> Path:
    """Return the folder of a file, with the metadata.yaml that rosbag2 would write."""
    folder = file.parent / "folder"
    write_db3(folder, ("", ""))
    (folder / "drive.db3").unlink()
    shutil.copy(file, folder / "drive.mcap")
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("drive.db3", "drive.mcap").replace("sqlite3", "mcap"))
    return folder


def read(path: Path) -> list[RawMessage]:
    with BagReader(path) as bag:
        assert bag.cameras == {"front": "/front/image_raw"}
        assert bag.camera_topics == {"/front/image_raw": IMAGE}
        found = list(read_camera_frames(bag))
    assert all(isinstance(image, Frame) for _, _, image in found)
    assert [message.message_type for _, message, _ in found] == [IMAGE] * len(found)
    return [message for _, message, _ in found]


@pytest.mark.parametrize("definition", list(DEFINITIONS))
@pytest.mark.parametrize("place", ["mcap", "mcap in a folder", "db3", "db3 in a folder"])
def test_the_definition_of_an_unread_topic_has_no_effect(definition: str, place: str, tmp_path: Path) -> None:
    if place.startswith("mcap"):
        path = write_mcap(tmp_path / "drive.mcap", DEFINITIONS[definition])
        if place == "mcap in a folder":
            path = beside_metadata(path)
    else:
        path = write_db3(tmp_path / "drive", DEFINITIONS[definition])
        if place == "db3":
            path /= "drive.db3"
    assert len(read(path)) == 2


@pytest.mark.parametrize("encoding", ["json", "protobuf", "ros1", "cbor", ""])
def test_the_encoding_of_an_unread_topic_has_no_effect(encoding: str, tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "drive.mcap", DEFINITIONS["json"], "foxglove.Grid", encoding)
    assert len(read(path)) == len(read(beside_metadata(path))) == 2
    folder = write_db3(tmp_path / "drive", DEFINITIONS["json"], "foxglove.Grid", encoding or "''")
    assert len(read(folder)) == len(read(folder / "drive.db3")) == 2


@pytest.mark.parametrize("qos", ["- history: [", "offered_qos_profiles", "\x05\x00\x00\x00abcde\x02\x00\x00\x00- "])
def test_the_metadata_of_an_unread_topic_has_no_effect(qos: str, tmp_path: Path) -> None:
    assert len(read(write_mcap(tmp_path / "drive.mcap", ("ros2msg", ""), qos=qos))) == 2


def test_a_topic_without_schema_and_names_that_are_not_text(tmp_path: Path) -> None:
    declarations = [schema(1, IMAGE), channel(FRONT, 1, "/front/image_raw"), channel(FOREIGN, 0, "/blob", "")]
    declarations += (
        [schema(7, "caf\u00e9"), channel(7, 99, "/no/such/schema"), channel(8, 7, "/\ud83d\ude97")] if False else []
    )
    out = McapBuilder(declarations=declarations).add(*declarations)
    out.chunk((FRONT, START_NS, image()), (FOREIGN, START_NS, b""), (FRONT, START_NS, image()))
    assert len(read(out.write(tmp_path / "drive.mcap"))) == 2


@pytest.mark.parametrize("definition", list(DEFINITIONS))
def test_images_are_read_by_our_own_definition(definition: str, tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "drive.mcap", ("", ""), image_definition=DEFINITIONS[definition])
    assert len(read(path)) == 2


def test_names_of_types_as_ros_1_writes_them(tmp_path: Path) -> None:
    assert len(read(write_mcap(tmp_path / "drive.mcap", ("", ""), image_type="sensor_msgs/Image"))) == 2
    folder = write_db3(tmp_path / "drive", ("", ""), image_type="sensor_msgs/Image")
    assert len(read(folder)) == len(read(folder / "drive.db3")) == 2


def test_cameras_with_another_serialisation_are_ignored(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "drive.mcap", ("ros1msg", ""), "sensor_msgs/Image", "ros1", image_type="std_msgs/msg/String"
    )
    for cameras in ({}, {"front": "/navigate/_action/feedback"}):
        with pytest.raises(BagError, match="sensor_msgs/Image in ros1"):
            BagReader(path, cameras)
    with pytest.raises(BagError, match="`rosbags-convert`"):
        BagReader(path)
    path = write_mcap(path, ("jsonschema", ""), IMAGE, "json")
    assert len(read(path)) == 2


@pytest.mark.parametrize("other", [("std_msgs/msg/String", "cdr"), ("sensor_msgs/Image", "ros1"), (CAMERA_INFO, "cdr")])
def test_messages_of_another_type_on_a_camera_topic_are_left_out_and_reported(
    other: tuple[str, str], tmp_path: Path
) -> None:
    kind, encoding = other
    declarations = [
        schema(1, IMAGE), schema(2, kind), channel(FRONT, 1, "/front/image_raw"),
        channel(FOREIGN, 2, "/front/image_raw", encoding),
    ]  # fmt: skip
    out = McapBuilder(declarations=declarations).add(*declarations)
    text = b"\0\1\0\0\3\0\0\0hi\0"
    out.chunk((FOREIGN, START_NS, text), (FRONT, START_NS + 1, image()), (FRONT, START_NS + 2, image()))
    with BagReader(out.write(tmp_path / "drive.mcap")) as bag:
        assert [isinstance(frame, Frame) for _, _, frame in read_camera_frames(bag)] == [True, True]
        assert bag.count(["/front/image_raw"]) == 2
        [note] = bag.notes
    assert note.startswith("1 messages of /front/image_raw are not read")
    assert kind in note


def test_a_channel_without_schema_gets_its_type_from_the_metadata(tmp_path: Path) -> None:
    declarations = [channel(FRONT, 0, "/front/image_raw"), channel(FOREIGN, 0, "/other")]
    out = McapBuilder(declarations=declarations).add(*declarations)
    out.chunk((FRONT, START_NS, image()), (FOREIGN, START_NS, b"?"))
    out.write(tmp_path / "drive.mcap")
    with pytest.raises(BagError, match=r"/front/image_raw \(no type\)"):
        BagReader(tmp_path)
    topic = {"name": "/front/image_raw", "type": IMAGE, "serialization_format": "cdr"}
    information = {
        "relative_file_paths": ["drive.mcap"],
        "topics_with_message_count": [{"topic_metadata": topic, "message_count": 1}],
    }
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    with BagReader(tmp_path) as bag:
        [(_, _, frame)] = read_camera_frames(bag)
        assert isinstance(frame, Frame)
        assert bag.topics == (BagTopic("/front/image_raw", IMAGE, 1), BagTopic("/other", "no type", 1))
