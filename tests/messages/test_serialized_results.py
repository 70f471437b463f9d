"""Tests the serialised masks and boxes: the bytes are those of rclpy and rosbags, and memory in use is not reused."""

import gc
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from tiny_student import CONTRACT, write_tiny_student
from vision_msgs.msg import Detection2DArray

from ros_kd_perception.bags.message_types import rosbags_message_types, typestore
from ros_kd_perception.free_space.camera_info import CameraInfoFields
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.serialized_results import SerializedResults
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.structures import Detections, Frame, Perception, Timing

RCLPY = MessageBuilder(rclpy_message_types(), CONTRACT)
ROSBAGS = MessageBuilder(rosbags_message_types(), CONTRACT)
IMAGE, BOXES = "sensor_msgs/msg/Image", "vision_msgs/msg/Detection2DArray"
POINTS, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
FRAME_IDS = st.text(st.characters(codec="utf-8"), max_size=12) | st.text("aé猫🚗", min_size=250, max_size=255)
STAMPS = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)


def make_perception(boxes: int = 3, frame_id: str = "front_optical", seed: int = 0, **changes: Any) -> Perception:
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(0, 2000, (boxes, 2, 2)), axis=1).reshape(boxes, 4).astype(np.float32)
    scores, labels = random.uniform(0, 1, boxes).astype(np.float32), random.integers(0, 256, boxes, dtype=np.int32)
    fields = {
        "camera": "front", "stamp_ns": 3 * 10**9 + 7, "frame_id": frame_id,
        "class_map": random.integers(0, 256, random.integers(1, 9, 2), dtype=np.uint8),
        "detections": Detections(corners, scores, labels),
        "uncertainty": None, "timing": Timing(1.0, 2.0, 3.0),
    }  # fmt: skip
    return Perception(**(fields | changes))


def in_own_memory(results: SerializedResults, perception: Perception) -> Perception:
    """Return the perception with its class map in the memory of a serialised message."""
    class_map = results.new_class_map(*perception.class_map.shape)
    class_map[:] = perception.class_map
    return replace(perception, class_map=class_map)


def check_bytes(serialized: np.ndarray, name: str, from_rclpy: Any, from_rosbags: Any) -> None:
    """Compare with both libraries. rosbags fills padding with zeros. rclpy leaves it undefined."""
    content, store = bytes(serialized), typestore()
    assert content == bytes(store.serialize_cdr(from_rosbags, name))
    original = serialize_message(from_rclpy)
    assert content == bytes(store.serialize_cdr(store.deserialize_cdr(original, name), name))
    assert len(content) == len(original)
    assert deserialize_message(content, type(from_rclpy)) == from_rclpy


@given(st.integers(0, 100), FRAME_IDS, STAMPS, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_boxes_are_the_bytes_of_the_libraries(boxes: int, frame_id: str, stamp_ns: int, seed: int) -> None:
    perception = make_perception(boxes, frame_id.replace("\0", "0"), seed, stamp_ns=stamp_ns)

    serialized = SerializedResults().detections(perception)

    check_bytes(serialized, BOXES, RCLPY.detections(perception), ROSBAGS.detections(perception))


TRACK_IDS = st.sampled_from([0, 1, 9, 10, 123, 99_999]) | st.integers(0, 2**63 - 1)


@given(st.lists(TRACK_IDS, max_size=20), FRAME_IDS, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_tracked_boxes_are_the_bytes_of_the_libraries(ids: list[int], frame_id: str, seed: int) -> None:
    perception = make_perception(len(ids), frame_id.replace("\0", "0"), seed)
    tracked = replace(perception.require_detections(), track_ids=np.array(ids, np.int64))
    perception = replace(perception, detections=tracked)

    serialized = SerializedResults().detections(perception)

    from_rclpy = RCLPY.detections(perception)
    check_bytes(serialized, BOXES, from_rclpy, ROSBAGS.detections(perception))
    assert [detection.id for detection in from_rclpy.detections] == [str(number) if number else "" for number in ids]


@given(st.lists(TRACK_IDS, max_size=20), st.booleans(), FRAME_IDS, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_boxes_with_names_are_the_bytes_of_the_libraries(
    ids: list[int], is_tracked: bool, frame_id: str, seed: int
) -> None:
    perception = make_perception(len(ids), frame_id.replace("\0", "0"), seed)
    found = perception.require_detections()
    labels = found.labels % 6  # two of them have no name
    track_ids = np.array(ids, np.int64) if is_tracked else None
    perception = replace(perception, detections=replace(found, labels=labels, track_ids=track_ids))
    names = {info.id: info.name for info in CONTRACT.detection_classes}

    serialized = SerializedResults(names).detections(perception)

    from_rclpy, from_rosbags = (
        MessageBuilder(types, CONTRACT, with_names=True).detections(perception)
        for types in (rclpy_message_types(), rosbags_message_types())
    )
    check_bytes(serialized, BOXES, from_rclpy, from_rosbags)
    written = [box.results[0].hypothesis.class_id for box in from_rclpy.detections]
    assert written == [names.get(label, str(label)) for label in labels.tolist()]


def test_ids_of_earlier_boxes_are_not_left_in_messages_that_are_filled_again() -> None:
    builder = MessageBuilder(rclpy_message_types(), CONTRACT, reuse_parts=True)
    plain = make_perception(2)
    tracked = replace(plain.require_detections(), track_ids=np.array([7, 0], np.int64))

    assert [box.id for box in builder.detections(replace(plain, detections=tracked)).detections] == ["7", ""]
    assert [box.id for box in builder.detections(plain).detections] == ["", ""]


@given(FRAME_IDS, STAMPS, st.integers(0, 99), st.booleans())
@settings(max_examples=100, deadline=None)
def test_masks_are_the_bytes_of_the_libraries(frame_id: str, stamp_ns: int, seed: int, own_memory: bool) -> None:
    results = SerializedResults()
    perception = make_perception(0, frame_id.replace("\0", "0"), seed, stamp_ns=stamp_ns)
    if own_memory:
        perception = in_own_memory(results, perception)

    serialized = results.segmentation(perception)

    check_bytes(serialized, IMAGE, RCLPY.segmentation(perception), ROSBAGS.segmentation(perception))
    assert np.shares_memory(serialized, perception.class_map) == own_memory


def test_a_frame_id_ends_at_its_first_zero_character_as_in_rclpy() -> None:
    results, perception = SerializedResults(), make_perception(2, "front\0optical")

    for serialized, expected in (
        (results.segmentation(perception), RCLPY.segmentation(perception)),
        (results.detections(perception), RCLPY.detections(perception)),
    ):
        read = deserialize_message(bytes(serialized), type(expected))
        assert read == deserialize_message(serialize_message(expected), type(expected))
        assert read.header.frame_id == "front"


def test_a_frame_id_that_does_not_fit_before_the_pixels_is_copied_with_them() -> None:
    results = SerializedResults()
    for characters, fits in ((255, True), (2000, False)):
        perception = in_own_memory(results, make_perception(0, "🚗" * characters))
        serialized = results.segmentation(perception)
        check_bytes(serialized, IMAGE, RCLPY.segmentation(perception), ROSBAGS.segmentation(perception))
        assert np.shares_memory(serialized, perception.class_map) == fits


def test_parts_and_views_of_class_maps_are_written_as_they_are_seen() -> None:
    results = SerializedResults()
    class_map = results.new_class_map(6, 4)
    class_map[:] = np.arange(24).reshape(6, 4)
    for seen in (class_map[1:], class_map[:, ::2], class_map.T, class_map[::-1]):
        perception = make_perception(class_map=seen)
        serialized = results.segmentation(perception)
        check_bytes(serialized, IMAGE, RCLPY.segmentation(perception), ROSBAGS.segmentation(perception))


@pytest.mark.parametrize("label", [-1, 256, 2**31 - 1])
def test_a_class_id_outside_of_the_contract_is_refused(label: int) -> None:
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([label], np.int32))
    with pytest.raises(ValueError, match=rf"expected class ids 0\.\.255, as a contract has, got \[{label}\]"):
        SerializedResults().detections(make_perception(detections=found))


def test_a_task_that_the_model_does_not_do_has_no_message() -> None:
    results = SerializedResults()
    with pytest.raises(ValueError, match="a model that does segmentation"):
        results.segmentation(make_perception(class_map=None))
    with pytest.raises(ValueError, match="a model that does detection"):
        results.detections(make_perception(detections=None))


def test_memory_is_reused_when_class_map_and_message_are_gone() -> None:
    results = SerializedResults()
    perception = in_own_memory(results, make_perception(0, "a"))
    height, width = perception.class_map.shape
    address = perception.class_map.ctypes.data
    message, expected = results.segmentation(perception), bytes(results.segmentation(perception))
    del perception
    gc.collect()
    other = results.new_class_map(height, width)
    other[:] = 9
    results.segmentation(make_perception(0, "longer than before", class_map=other))
    assert bytes(message) == expected
    part = memoryview(message)[-3:]
    del message
    gc.collect()
    assert results.new_class_map(height, width).ctypes.data != address
    del part
    gc.collect()
    assert results.new_class_map(height, width).ctypes.data == address


def test_a_reused_message_has_nothing_of_the_previous_frame_id() -> None:
    results, addresses = SerializedResults(), set()
    for frame_id in ("a", "front_optical_frame", "", "abcd", "🚗" * 255, "rear"):
        perception = in_own_memory(results, make_perception(0, frame_id))
        addresses.add(perception.class_map.ctypes.data)
        serialized = results.segmentation(perception)
        check_bytes(serialized, IMAGE, RCLPY.segmentation(perception), ROSBAGS.segmentation(perception))
        del perception, serialized
    assert len(addresses) == 1


def test_the_perceiver_computes_class_maps_in_serialised_messages(tmp_path) -> None:
    model = OnnxModel.open(write_tiny_student(tmp_path / "tiny.onnx"), device="cpu")
    results = SerializedResults()
    perceiver, apart = Perceiver(model, new_class_map=results.new_class_map), Perceiver(model)
    for seed, size in enumerate([(100, 192), (64, 96), (100, 192)]):
        frame = Frame("front", seed, "", np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
        [perception], [expected] = perceiver.perceive([frame]), apart.perceive([frame])
        mask, boxes = results.segmentation(perception), results.detections(perception)
        assert np.shares_memory(mask, perception.class_map)
        assert deserialize_message(bytes(mask), Image) == RCLPY.segmentation(expected)
        assert deserialize_message(bytes(boxes), Detection2DArray) == RCLPY.detections(expected)


@pytest.mark.alone
def test_a_hundred_boxes_take_less_than_a_third_of_a_millisecond() -> None:
    results, perception, times_ms = SerializedResults(), make_perception(100), []
    for _ in range(50):
        started = time.perf_counter()
        results.detections(perception)
        times_ms.append((time.perf_counter() - started) * 1e3)
    assert min(times_ms) < 0.3


@given(st.integers(1, 9), st.integers(1, 9), FRAME_IDS, STAMPS)
@settings(max_examples=60, deadline=None)
def test_points_are_the_bytes_of_the_libraries(height: int, width: int, frame_id: str, stamp_ns: int) -> None:
    perception = make_perception(0, frame_id.replace("\0", "0"), stamp_ns=stamp_ns)
    points = np.random.default_rng(height).normal(size=(height, width, 3)).astype(np.float32)
    points[0, 0] = np.nan

    serialized = SerializedResults().ground_points(perception, points)

    check_bytes(serialized, POINTS, RCLPY.ground_points(perception, points), ROSBAGS.ground_points(perception, points))
    message = deserialize_message(bytes(serialized), PointCloud2)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, PointField.FLOAT32, 1), ("y", 4, PointField.FLOAT32, 1), ("z", 8, PointField.FLOAT32, 1)
    ]  # fmt: skip
    assert (message.height, message.width, message.point_step, message.row_step) == (height, width, 12, 12 * width)
    assert not message.is_dense
    assert not message.is_bigendian
    np.testing.assert_array_equal(np.frombuffer(message.data, "<f4").reshape(points.shape), points)


@given(st.integers(1, 9), st.integers(1, 9), FRAME_IDS, STAMPS)
@settings(max_examples=60, deadline=None)
def test_grey_images_are_the_bytes_of_the_libraries(height: int, width: int, frame_id: str, stamp_ns: int) -> None:
    perception = make_perception(0, frame_id.replace("\0", "0"), stamp_ns=stamp_ns)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width), np.uint8)

    serialized = SerializedResults().gray_image(perception, pixels)

    check_bytes(serialized, IMAGE, RCLPY.gray_image(perception, pixels), ROSBAGS.gray_image(perception, pixels))
    assert deserialize_message(bytes(serialized), Image).encoding == "mono8"


def test_a_camera_info_has_the_same_bytes_in_both_libraries() -> None:
    perception = make_perception(0)
    numbers = {"k": tuple(range(1, 10)), "r": tuple(range(9)), "p": tuple(range(12))}
    numbers = {name: tuple(map(float, values)) for name, values in numbers.items()}
    fields = CameraInfoFields(
        360, 640, "plumb_bob", (0.5, -0.25, 0.0, 0.125, 1.0), **numbers, binning_x=2, binning_y=3, region=(1, 2, 3, 4),
        do_rectify=True,
    )  # fmt: skip
    message = RCLPY.camera_info(perception, fields)
    content = serialize_message(message)
    other = bytes(typestore().serialize_cdr(ROSBAGS.camera_info(perception, fields), INFO))
    assert bytes(typestore().serialize_cdr(typestore().deserialize_cdr(content, INFO), INFO)) == other
    assert deserialize_message(other, CameraInfo) == message
    assert CameraInfoFields.from_message(message) == fields
    assert (message.header.frame_id, message.header.stamp.sec) == ("front_optical", 3)
