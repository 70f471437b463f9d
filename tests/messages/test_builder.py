"""Tests the messages of a perception with the classes of rosbags and rclpy, by fields and by serialised bytes."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from tiny_student import CONTRACT

from ros_kd_perception.messages.builder import MessageBuilder, MessageTypes
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.structures import Detections, Perception, Timing

STORE = get_typestore(Stores.ROS2_KILTED)
for definition in Path(str(resources.files("ros_kd_perception") / "interfaces" / "vision_msgs")).glob("*.msg"):
    STORE.register(get_types_from_msg(definition.read_text(), f"vision_msgs/msg/{definition.stem}"))


def rosbags_types() -> MessageTypes:
    return MessageTypes.from_lookup(STORE.types.__getitem__, lambda pixels: pixels.reshape(-1), lambda ranges: ranges)


def make_perception(detections: int = 3, height: int = 48, width: int = 64) -> Perception:
    random = np.random.default_rng(detections)
    left_top = random.uniform(0, 30, (detections, 2))
    boxes = np.concatenate([left_top, left_top + random.uniform(1, 30, (detections, 2))], axis=1).astype(np.float32)
    scores = np.sort(random.uniform(0.3, 1, detections))[::-1].astype(np.float32)
    labels = random.integers(0, 4, detections).astype(np.int32)
    return Perception(
        camera="front",
        stamp_ns=1_700_000_000_123_456_789,
        frame_id="front_optical_frame",
        class_map=random.integers(0, 11, (height, width), dtype=np.uint8),
        detections=Detections(boxes, scores, labels),
        uncertainty=np.zeros((2, 2), np.float32),
        timing=Timing(1.0, 2.0, 3.0),
    )


@pytest.fixture(params=["rosbags", "rclpy"])
def builder(request: pytest.FixtureRequest) -> MessageBuilder:
    return MessageBuilder(rosbags_types() if request.param == "rosbags" else rclpy_message_types(), CONTRACT)


def assert_header(header: Any) -> None:
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (
        1_700_000_000,
        123_456_789,
        "front_optical_frame",
    )


def test_the_segmentation_is_a_valid_mono8_image(builder: MessageBuilder) -> None:
    perception = make_perception()
    message = builder.segmentation(perception)
    assert_header(message.header)
    assert (message.height, message.width, message.step, message.encoding) == (48, 64, 64, "mono8")
    assert message.is_bigendian == 0
    pixels = np.frombuffer(message.data, np.uint8).reshape(48, 64)
    np.testing.assert_array_equal(pixels, perception.class_map)


def test_the_mask_as_png_is_the_mask(builder: MessageBuilder) -> None:
    perception = make_perception()
    perception.class_map[10:20, 5:40] = 255
    message = builder.segmentation_png(perception)
    assert_header(message.header)
    assert message.format == "mono8; png compressed "  # image_transport writes the trailing blank too
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, perception.class_map)


def test_detections_keep_their_order_and_values(builder: MessageBuilder) -> None:
    perception = make_perception(detections=5)
    message = builder.detections(perception)
    assert_header(message.header)
    assert len(message.detections) == 5
    found = perception.detections
    for index, detection in enumerate(message.detections):
        assert_header(detection.header)
        assert detection.id == ""
        assert [r.hypothesis.class_id for r in detection.results] == [str(found.labels[index])]
        assert detection.results[0].hypothesis.score == pytest.approx(float(found.scores[index]))
        pose = detection.results[0].pose
        assert not np.any(pose.covariance)
        assert pose.pose.orientation.w == 1.0
        box, center = detection.bbox, detection.bbox.center.position
        corners = [
            center.x - box.size_x / 2,
            center.y - box.size_y / 2,
            center.x + box.size_x / 2,
            center.y + box.size_y / 2,
        ]
        np.testing.assert_allclose(corners, found.boxes_xyxy[index], atol=1e-4)
        assert box.center.theta == 0.0


def test_no_detections_are_an_empty_array_with_its_header(builder: MessageBuilder) -> None:
    message = builder.detections(make_perception(detections=0))
    assert_header(message.header)
    assert len(message.detections) == 0


def test_label_infos_name_every_class(builder: MessageBuilder) -> None:
    segmentation = builder.segmentation_labels()
    names = {c.class_id: c.class_name for c in segmentation.class_map}
    assert names == {c.id: c.name for c in CONTRACT.class_map.classes} | {255: "unlabeled"}
    detection = builder.detection_labels()
    assert {c.class_id: c.class_name for c in detection.class_map} == {
        c.id: c.name for c in CONTRACT.detections.classes
    }
    assert detection.threshold == pytest.approx(0.3)
    assert builder.detection_labels(0.75).threshold == pytest.approx(0.75)


def test_the_overlay_is_a_bgr8_image_even_of_a_strided_picture(builder: MessageBuilder) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    message = builder.picture(make_perception(), picture[:, ::2])
    assert_header(message.header)
    assert (message.height, message.width, message.step, message.encoding) == (10, 10, 30, "bgr8")
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(10, 10, 3), picture[:, ::2])


@pytest.mark.parametrize("stamp_ns", [0, 1, 999_999_999, 1_000_000_000, (2**31 - 1) * 10**9 + 999_999_999])
def test_stamps_are_copied_to_the_nanosecond(builder: MessageBuilder, stamp_ns: int) -> None:
    stamp = builder.segmentation(replace(make_perception(), stamp_ns=stamp_ns)).header.stamp
    assert stamp.sec * 10**9 + stamp.nanosec == stamp_ns
    assert 0 <= stamp.nanosec < 10**9


def test_rclpy_and_rosbags_messages_serialize_to_the_same_bytes() -> None:
    ros, bag = MessageBuilder(rclpy_message_types(), CONTRACT), MessageBuilder(rosbags_types(), CONTRACT)
    perception = make_perception(detections=7)
    builds: dict[str, Callable[[MessageBuilder], Any]] = {
        "sensor_msgs/msg/Image": lambda b: b.segmentation(perception),
        "vision_msgs/msg/Detection2DArray": lambda b: b.detections(perception),
        "vision_msgs/msg/LabelInfo": lambda b: b.detection_labels(),
    }
    for name, build in builds.items():
        # rclpy leaves the padding between aligned fields undefined, so deserialise its message first.
        read = STORE.deserialize_cdr(serialize_message(build(ros)), name)
        assert bytes(STORE.serialize_cdr(read, name)) == bytes(STORE.serialize_cdr(build(bag), name)), name


@pytest.mark.alone
def test_a_hundred_boxes_take_less_than_a_millisecond() -> None:
    builder = MessageBuilder(rclpy_message_types(), CONTRACT, reuse_parts=True)
    perception = make_perception(detections=100)
    times_ms = []
    for _ in range(50):
        started = time.perf_counter()
        builder.detections(perception)
        times_ms.append((time.perf_counter() - started) * 1e3)
    assert min(times_ms) < 1.0


def contents(message: Any) -> str:
    return str(message)


def test_reused_parts_keep_no_values_of_the_previous_message() -> None:
    fresh = MessageBuilder(rclpy_message_types(), CONTRACT)
    reusing = MessageBuilder(rclpy_message_types(), CONTRACT, reuse_parts=True)
    for count, height in ((5, 8), (2, 8), (0, 16), (7, 16)):
        perception = replace(make_perception(count, height, 10), stamp_ns=10**9 + count)
        assert contents(reusing.detections(perception)) == contents(fresh.detections(perception))
        assert contents(reusing.segmentation(perception)) == contents(fresh.segmentation(perception))


def test_messages_without_reused_parts_do_not_change_later(builder: MessageBuilder) -> None:
    perception = make_perception(3, 8, 10)
    messages = [builder.detections(perception), builder.segmentation(perception)]
    before = [contents(message) for message in messages]
    builder.detections(make_perception(4, 8, 10))
    builder.segmentation(replace(make_perception(4, 8, 10), stamp_ns=5))
    assert [contents(message) for message in messages] == before
