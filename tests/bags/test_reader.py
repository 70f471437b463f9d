"""Tests writing and reading bags in every container format, and the error sentences for faulty bags."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from small_bag import camera_info, write_small_bag

from ros_kd_perception.bags.reader import (
    BagError,
    BagReader,
    BagWriter,
    RawMessage,
    decode_message,
    message_class,
    read_camera_frames,
    rosbags_message_types,
    typestore,
)
from ros_kd_perception.parameters.camera_names import (
    CAMERA_NAME,
    BagTopic,
    camera_info_topic,
    choose_cameras,
    parse_camera_topics,
)
from ros_kd_perception.structures import BadFrame, Frame

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
START_NS = 1_700_000_000_000_000_000


def header(stamp_ns: int) -> Any:
    stamp = message_class("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id="optical")


def image(index: int, height: int = 12, width: int = 16, encoding: str = "bgr8") -> Any:
    pixels = np.random.default_rng(index).integers(0, 256, height * width * 3, dtype=np.uint8)
    return message_class(IMAGE)(
        header=header(START_NS + index), height=height, width=width, encoding=encoding, is_bigendian=0, step=width * 3,
        data=pixels,
    )  # fmt: skip


def write_drive(path: Path, topics: tuple[str, ...] = ("/front/image_raw", "/left/image_raw"), count: int = 5) -> Path:
    with BagWriter(path) as bag:
        for index in range(count):
            for topic in topics:
                bag.write(topic, START_NS + index, image(index))
    return path


def write_with_rosbags(path: Path, plugin: StoragePlugin, compression: CompressionMode, count: int = 5) -> Path:
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression != CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/front/image_raw", IMAGE, typestore=typestore())
        for index in range(count):
            writer.write(connection, START_NS + index, typestore().serialize_cdr(image(index), IMAGE))
    return path


def stamps_of(bag: BagReader) -> list[int]:
    return [frame.stamp_ns for _, _, frame in read_camera_frames(bag) if isinstance(frame, Frame)]


@pytest.mark.parametrize("name", ["drive.mcap", "drive"])
@pytest.mark.parametrize("compress", [True, False])
def test_written_messages_are_read_back(tmp_path: Path, name: str, compress: bool) -> None:
    path = tmp_path / "new" / "folders" / name
    with BagWriter(path, compress=compress) as out:
        for index in range(40):  # more than one chunk
            out.write("/front/image_raw", START_NS + index, image(index, 120, 160))
    with BagReader(path) as bag:
        assert bag.cameras == {"front": "/front/image_raw"}
        assert (bag.first_image_ns, bag.last_image_ns) == (START_NS, START_NS + 39)
        assert bag.count(["/front/image_raw"]) == 40
        messages = list(read_camera_frames(bag))
    assert [message.log_time_ns for _, message, _ in messages] == [START_NS + index for index in range(40)]
    for index, (camera, _, frame) in enumerate(messages):
        assert isinstance(frame, Frame)
        assert (camera, frame.camera, frame.stamp_ns, frame.frame_id) == ("front", "front", START_NS + index, "optical")
        np.testing.assert_array_equal(frame.image_bgr.reshape(-1), image(index, 120, 160).data)
    leftovers = {p.name for p in path.parent.iterdir()} - {name}
    assert not leftovers


def test_the_same_messages_give_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    first, second = write_drive(tmp_path / "first.mcap"), write_drive(tmp_path / "second.mcap")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != write_drive(tmp_path / "third.mcap", count=4).read_bytes()


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.MESSAGE, CompressionMode.FILE])
@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_folders_and_single_files_of_both_storages_are_read(
    tmp_path: Path, plugin: StoragePlugin, compression: CompressionMode
) -> None:
    folder = write_with_rosbags(tmp_path / "drive", plugin, compression)
    expected = [START_NS + index for index in range(5)]
    with BagReader(folder) as bag:
        assert stamps_of(bag) == expected
    if compression == CompressionMode.NONE:
        [file] = [p for p in folder.iterdir() if p.suffix in (".mcap", ".db3")]
        with BagReader(file) as bag:
            assert stamps_of(bag) == expected
        (folder / "metadata.yaml").unlink()
        with BagReader(folder) as bag:
            assert stamps_of(bag) == expected


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_folder_whose_metadata_and_file_differ_in_qos_is_read(tmp_path: Path, plugin: StoragePlugin) -> None:
    # rosbag2 writes these differences itself: its own test bags have them.
    folder = write_with_rosbags(tmp_path / "drive", plugin, CompressionMode.NONE)
    metadata = (folder / "metadata.yaml").read_text()
    offered = "offered_qos_profiles: []"
    assert offered in metadata
    profile = (
        "{history: 3, depth: 0, reliability: 1, durability: 2, deadline: {sec: 2147483647, nsec: 4294967295}, "
        "lifespan: {sec: 2147483647, nsec: 4294967295}, liveliness: 1, liveliness_lease_duration: {sec: 2147483647, "
        "nsec: 4294967295}, avoid_ros_namespace_conventions: false}"
    )
    (folder / "metadata.yaml").write_text(metadata.replace(offered, f"offered_qos_profiles: [{profile}]"))
    with BagReader(folder) as bag:
        assert stamps_of(bag) == [START_NS + index for index in range(5)]


def test_a_split_recording_without_metadata_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for part in (0, 1, 2, 10):
        with BagWriter(folder / f"drive_{part}.mcap") as out:
            out.write("/front/image_raw", START_NS + part, image(part))
    with BagReader(folder) as bag:
        assert stamps_of(bag) == [START_NS + part for part in (0, 1, 2, 10)]
        assert (bag.first_image_ns, bag.last_image_ns) == (START_NS, START_NS + 10)


def test_a_time_range_and_other_topics_can_be_read(tmp_path: Path) -> None:
    info = message_class("sensor_msgs/msg/CameraInfo")
    region = message_class("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
    with BagWriter(tmp_path / "drive.mcap") as out:
        for index in range(10):
            out.write("/front/image_raw", START_NS + index, image(index))
            calibration = info(
                header(START_NS), 12, 16, "plumb_bob", np.zeros(5), np.eye(3).ravel(), np.eye(3).ravel(), np.zeros(12),
                0, 0, region,
            )  # fmt: skip
            out.write("/front/camera_info", START_NS + index, calibration)
            out.write("/left/camera_info", START_NS + index, calibration)
    with BagReader(tmp_path / "drive.mcap") as bag:
        assert bag.camera_topics == {
            "/front/camera_info": "sensor_msgs/msg/CameraInfo",
            "/front/image_raw": IMAGE,
        }
        part = list(bag.raw_messages({"/front/image_raw"}, START_NS + 3, START_NS + 6))
        assert [message.log_time_ns - START_NS for message in part] == [3, 4, 5]
        assert {message.message_type for message in part} == {IMAGE}
        again = list(bag.raw_messages({"/front/image_raw"}, START_NS + 3, START_NS + 6))
        assert again == part


def test_an_undecodable_message_is_a_bad_frame_and_reading_continues(tmp_path: Path) -> None:
    good = bytes(typestore().serialize_cdr(image(0), IMAGE))
    broken = [b"", b"\x00", good[:30], good[:-200], good + bytes(50), b"\xff" * len(good), good[:4] + b"\xff" * 60]
    with BagWriter(tmp_path / "drive.mcap") as out:
        out.add_topic("/front/image_raw", IMAGE)
        for index, data in enumerate([good, *broken, good]):
            out.write_raw("/front/image_raw", START_NS + index, data)
    with BagReader(tmp_path / "drive.mcap") as bag:
        frames = [frame for _, _, frame in read_camera_frames(bag)]
    assert isinstance(frames[0], Frame)
    assert isinstance(frames[-1], Frame)
    reasons = [frame.reason for frame in frames[1:-1] if isinstance(frame, BadFrame)]
    assert reasons == ["bad_data"] * len(broken)


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=5), length=st.integers(0, 700))
def test_any_damaged_message_raises_bad_frame_or_decodes(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(typestore().serialize_cdr(image(0), IMAGE))
    for position, value in changes:
        data[position] = value
    with suppress(BadFrame):
        decode_message(RawMessage("/front/image_raw", IMAGE, 0, bytes(data[:length])))


def test_latched_topics_are_offered_transient_local(tmp_path: Path) -> None:
    types = rosbags_message_types()
    labels = types.label_info(
        header=header(0), class_map=[types.vision_class(class_id=0, class_name="car")], threshold=0.5
    )
    with BagWriter(tmp_path / "out.mcap") as out:
        out.write("/perception/front/detections/label_info", START_NS, labels, latched=True)
        out.write("/front/image_raw", START_NS, image(0))
    with Reader(tmp_path / "out.mcap") as written:
        offered = {c.topic: c.ext.offered_qos_profiles for c in written.connections}  # type: ignore[union-attr]
    with BagReader(tmp_path / "out.mcap") as bag:
        [message] = bag.raw_messages({"/perception/front/detections/label_info"})
    assert [q.durability.name for q in offered["/perception/front/detections/label_info"]] == ["TRANSIENT_LOCAL"]
    assert [q.durability.name for q in offered["/front/image_raw"]] == ["VOLATILE"]
    assert decode_message(message).class_map[0].class_name == "car"


# --- faulty bags ---


def error_of(path: Path, **cameras: str) -> str:
    with pytest.raises(BagError) as caught:
        BagReader(path, cameras)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def test_a_missing_bag_and_other_files_are_refused(tmp_path: Path) -> None:
    assert "found nothing" in error_of(tmp_path / "none.mcap")
    assert "metadata.yaml" in error_of(tmp_path)
    for suffix in (".mcap", ".db3", ".bag"):
        path = tmp_path / f"drive{suffix}"
        for content, said in (
            (b"", "it is empty"),
            (b"hello", "begins with b'hello'"),
            (bytes(5000), "begins with"),
            (b"#ROSBAG V2.0\n", "rosbags-convert"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
        ):
            path.write_bytes(content)
            sentence = error_of(path)
            assert said in sentence
            assert "cut off" not in sentence
            assert "repair" not in sentence


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_cut_off_bag_is_refused(tmp_path: Path, plugin: StoragePlugin) -> None:
    folder = write_with_rosbags(tmp_path / "drive", plugin, CompressionMode.NONE, count=30)
    [file] = [p for p in folder.iterdir() if p.suffix in (".mcap", ".db3")]
    whole = file.read_bytes()
    command = {".mcap": "`mcap recover`", ".db3": "`sqlite3 FILE .recover | sqlite3 NEW.db3`"}[file.suffix]
    for length in (7, 100, len(whole) // 2, len(whole) - 4097, len(whole) - 1):
        file.write_bytes(whole[:length])
        for path in (folder, file):
            sentence = error_of(path)
            assert "it was cut off" in sentence
            assert f"repair it with {command}" in sentence


def test_a_bag_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = write_drive(tmp_path / "drive")
    (folder / "drive.mcap").unlink()
    assert "missing" in error_of(folder)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_bag_raises_bag_error_or_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    whole = folder / "whole.mcap"
    if not whole.exists():
        write_drive(whole)
    content = bytearray(whole.read_bytes())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)
    ):
        content[position] = value
    damaged = folder / "damaged.mcap"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with suppress(BagError), BagReader(damaged) as bag:
        assert all(isinstance(frame, Frame | BadFrame) for _, _, frame in read_camera_frames(bag))


def test_a_bag_without_messages_or_cameras_is_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "empty.mcap") as out:
        out.add_topic("/front/image_raw", IMAGE)
    assert "holds none" in error_of(tmp_path / "empty.mcap")
    with BagWriter(tmp_path / "other.mcap") as out:
        out.write("/clock", 1, message_class("rosgraph_msgs/msg/Clock")(header(5).stamp))
    assert "/clock (rosgraph_msgs/msg/Clock)" in error_of(tmp_path / "other.mcap")
    with BagWriter(tmp_path / "blind.mcap") as out:
        out.add_topic("/front/image_raw", IMAGE)
        out.write("/clock", 1, message_class("rosgraph_msgs/msg/Clock")(header(5).stamp))
    with BagReader(tmp_path / "blind.mcap") as bag, pytest.raises(BagError, match="expected images on /front/image_"):
        bag.check_has_images()
    write_drive(tmp_path / "drive.mcap")
    assert "/front/image_raw, /left/image_raw" in error_of(tmp_path / "drive.mcap", rear="/rear/image_raw")


# --- failures of writing ---


@pytest.mark.parametrize("name", ["new/deep/out.mcap", "new/deep/out", "out.mcap"])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    def interrupted() -> None:
        with BagWriter(tmp_path / name) as out:
            out.write("/front/image_raw", START_NS, image(0))
            assert not (tmp_path / name).exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bag_is_replaced_only_on_request_and_by_a_complete_bag(tmp_path: Path) -> None:
    path = write_drive(tmp_path / "out.mcap")
    before = path.read_bytes()
    with pytest.raises(BagError, match="exists"):
        BagWriter(path)
    with pytest.raises(KeyboardInterrupt), BagWriter(path, overwrite=True):
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    with BagWriter(path, overwrite=True) as out:
        out.write("/front/image_raw", START_NS, image(0))
    assert path.read_bytes() != before
    folder = write_drive(tmp_path / "folder")
    with pytest.raises(BagError, match="exists"):
        BagWriter(folder, overwrite=True)


def test_names_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="without suffix"):
        BagWriter(tmp_path / "out.db3")
    (tmp_path / "file").touch()
    with pytest.raises(BagError, match="choose another folder"):
        BagWriter(tmp_path / "file" / "out.mcap")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("needs /dev/full, a disk that is always full")

    def write_to_full_disk() -> None:
        with BagWriter(tmp_path / "out.mcap", compress=False) as out:
            storage: Any = out._writer.storage
            storage.bio.close()
            storage.bio = device.open("wb", buffering=0)
            for index in range(40):
                out.write("/front/image_raw", START_NS + index, image(index, 120, 160))

    with pytest.raises(BagError, match="No space left"):
        write_to_full_disk()
    assert list(tmp_path.iterdir()) == []


# --- names of cameras ---


@pytest.mark.parametrize(
    ("topic", "camera"),
    [
        ("/front/image_raw", "front"),
        ("/front/image", "front"),
        ("/front/image_raw/compressed", "front"),
        ("/front/image_rect_color", "front"),
        ("/sensing/camera/left/image_raw", "sensing_camera_left"),
        ("/image_raw", "camera"),
        ("/image_processing/front/image_raw", "image_processing_front"),
        ("/9/image", "camera_9"),
        ("/zed-2/image", "zed_2"),
        ("/usb_cam/compressed", "usb_cam"),
        ("/video", "video"),
        ("/image_front_left", "front_left"),
        ("/cameras/image_left/compressed", "cameras_left"),
        ("/image0/compressed", "camera_0"),
        ("/images/front/compressed", "images_front"),
    ],
)
def test_the_camera_name_is_the_part_before_image(topic: str, camera: str) -> None:
    kind = COMPRESSED if topic.endswith("compressed") else IMAGE
    assert choose_cameras([BagTopic(topic, kind, 1)], {}) == {camera: topic}


def test_one_topic_is_chosen_for_each_camera() -> None:
    topics = [
        BagTopic("/front/image_raw/compressed", COMPRESSED, 9),
        BagTopic("/front/image_raw", IMAGE, 9),
        BagTopic("/front/image_rect", IMAGE, 9),
        BagTopic("/left/image_raw", IMAGE, 0),
        BagTopic("/left/image_raw/compressed", COMPRESSED, 9),
        BagTopic("/rear/image_raw", "std_msgs/msg/String", 9),
        BagTopic("/front/depth/image_raw", IMAGE, 9),
        BagTopic("/front/image_raw/compressedDepth", COMPRESSED, 9),
        BagTopic("/perception/front/segmentation", IMAGE, 9),
        BagTopic("/lidar/picture", IMAGE, 9),
    ]
    assert choose_cameras(topics, {}) == {"front": "/front/image_raw", "left": "/left/image_raw/compressed"}
    wanted = {"pick": "/front/depth/image_raw"}
    assert choose_cameras(topics, wanted) == wanted


def test_cameras_named_after_the_word_image_stay_separate() -> None:
    names = ["/image_front", "/image_rear", "/image_rear/compressed", "/pair/image_left", "/pair/image_rect_right"]
    topics = [BagTopic(name, COMPRESSED if name.endswith("compressed") else IMAGE, 3) for name in names]
    expected = {"front": names[0], "rear": names[1], "pair_left": names[3], "pair_right": names[4]}
    assert choose_cameras(topics, {}) == expected


def test_two_cameras_with_one_name_get_different_names() -> None:
    topics = [BagTopic("/a/b/image", IMAGE, 1), BagTopic("/a_b/image", IMAGE, 1)]
    assert choose_cameras(topics, {}) == {"a_b": "/a/b/image", "a_b_2": "/a_b/image"}


@given(st.lists(st.text("abZ019_-/", min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
def test_any_topic_gives_a_camera_name_that_the_node_accepts(parts: list[str]) -> None:
    topics = [BagTopic(f"/{part}/image_raw", IMAGE, 1) for part in parts]
    cameras = choose_cameras(topics, {})
    assert sorted(cameras.values()) == sorted(topic.name for topic in topics)
    assert all(CAMERA_NAME.fullmatch(name) for name in cameras), cameras


def test_camera_arguments() -> None:
    assert parse_camera_topics(["front=/a/image", "left=/b=c"]) == {"front": "/a/image", "left": "/b=c"}
    for wrong in (["front"], ["=/a"], ["a b=/a"], ["1a=/a"], ["_a=/a"], ["front=a"], ["front=/a", "front=/b"]):
        with pytest.raises(ValueError, match="expected"):
            parse_camera_topics(wrong)


def test_camera_info_is_the_sibling_of_the_image() -> None:
    assert camera_info_topic("/front/image_raw/compressed") == "/front/camera_info"
    assert camera_info_topic("/front/color") == "/front/camera_info"
    assert camera_info_topic("/front/picture/compressed") == "/front/camera_info"
    assert camera_info_topic("/images/front/compressed") == "/images/camera_info"
    assert camera_info_topic("/pair/image_left") == "/pair/camera_info"


def test_ros2_bag_of_humble_can_read_our_qos(tmp_path: Path) -> None:
    """Humble expects `offered_qos_profiles` to be a text with numbers in it. Later distributions can read that too."""
    write_small_bag(tmp_path / "folder")
    metadata = yaml.safe_load((tmp_path / "folder" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] <= 8
    for topic in metadata["topics_with_message_count"]:
        profiles = topic["topic_metadata"]["offered_qos_profiles"]
        assert isinstance(profiles, str)
        assert all(isinstance(profile["history"], int) for profile in yaml.safe_load(profiles) or [])


def test_our_types_are_registered_from_the_restated_definitions() -> None:
    assert "vision_msgs/msg/Detection2DArray" in typestore().types


def test_cameras_with_one_camera_info_are_all_calibrated(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "pair.mcap") as bag:
        for index in range(3):
            bag.write("/pair/camera_info", START_NS + 10 * index, camera_info("pair", (12, 16)))
            for number, topic in enumerate(("/pair/image_left", "/pair/image_right")):
                bag.write(topic, START_NS + 10 * index + number + 1, image(index))
    calibrated: list[str] = []
    with BagReader(tmp_path / "pair.mcap") as pair:
        frames = [camera for camera, *_ in read_camera_frames(pair, lambda camera, *_: calibrated.append(camera))]
        assert frames == ["pair_left", "pair_right"] * 3
        assert calibrated == ["pair_left", "pair_right"] * 4  # the first one comes before all frames, too
    calibrated.clear()
    chosen = {"near": "/pair/image_left", "far": "/pair/image_left"}
    with BagReader(tmp_path / "pair.mcap", chosen) as pair:
        frames = [camera for camera, *_ in read_camera_frames(pair, lambda camera, *_: calibrated.append(camera))]
        assert [camera for camera, _ in pair.frames()] == frames == ["near", "far"] * 3
        assert calibrated == ["near", "far"] * 4
        assert pair.count_frames() == 6
