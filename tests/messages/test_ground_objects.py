"""Tests the messages of objects on the ground: their bytes are those of rclpy and rosbags, and say what is known."""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from tiny_student import CONTRACT
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from ros_kd_perception.bags.message_types import typestore
from ros_kd_perception.ground_positions.ground_camera import GroundPositions
from ros_kd_perception.messages.class_ids import class_names
from ros_kd_perception.messages.ground_objects import MARKER_LIFETIME_S, markers_as_bytes
from ros_kd_perception.messages.serialized_results import SerializedResults
from ros_kd_perception.structures import Detections, Perception, Timing

OBJECTS, MARKERS = "vision_msgs/msg/Detection3DArray", "visualization_msgs/msg/MarkerArray"
FRAME_IDS = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: text.replace("\0", "0"))
STAMPS = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)
TRACK_IDS = st.none() | st.lists(st.sampled_from([0, 1, 12, 123_456, 2**40 + 1, 2**63 - 1]), min_size=60, max_size=60)
NAMES = class_names(CONTRACT.detection_classes)
CLASSES = {info.id: info for info in CONTRACT.detection_classes}


def make_positions(count: int, seed: int = 0, track_ids: list[int] | None = None) -> GroundPositions:
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(0, 700, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    ids = None if track_ids is None else np.array(track_ids[:count], np.int64)
    labels = random.integers(0, 6, count, dtype=np.int32)  # two of them are not in the contract
    found = Detections(corners, random.uniform(0, 1, count).astype(np.float32), labels, ids)
    factors = random.normal(0, 1, (count, 2, 2))
    return GroundPositions(
        found,
        random.uniform(-40, 40, (count, 2)),
        factors @ factors.transpose(0, 2, 1),
        random.uniform(0, 4, (count, 2)),
        random.uniform(-math.pi, math.pi, count),
    )


def perception(positions: GroundPositions, stamp_ns: int = 3 * 10**9 + 7) -> Perception:
    return Perception("front", stamp_ns, "front_optical", None, positions.found, None, Timing(1.0, 2.0, 3.0))


def read(serialized: np.ndarray, name: str, kind: Any) -> Any:
    """Return the message of rclpy. Both libraries write it with the same bytes."""
    content, store = bytes(serialized), typestore()
    assert content == bytes(store.serialize_cdr(store.deserialize_cdr(content, name), name))
    message = deserialize_message(content, kind)
    original = serialize_message(message)
    assert len(original) == len(content)
    assert content == bytes(store.serialize_cdr(store.deserialize_cdr(original, name), name))
    return message


@given(st.integers(0, 60), FRAME_IDS, STAMPS, TRACK_IDS, st.booleans(), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_objects_are_the_bytes_of_the_libraries(
    count: int, frame_id: str, stamp_ns: int, track_ids: list[int] | None, with_names: bool, seed: int
) -> None:
    positions = make_positions(count, seed, track_ids)
    results = SerializedResults(NAMES if with_names else None)

    serialized = results.ground_detections(perception(positions, stamp_ns), frame_id, positions)

    message = read(serialized, OBJECTS, Detection3DArray)
    found = positions.found
    for header in (message.header, *(one.header for one in message.detections)):
        assert (header.stamp.sec, header.stamp.nanosec) == divmod(stamp_ns, 10**9)
        assert header.frame_id == frame_id
    ids = [""] * count if found.track_ids is None else [str(number) if number else "" for number in found.track_ids]
    assert [one.id for one in message.detections] == ids
    best = [one.results[0] for one in message.detections]
    labels = [NAMES.get(label, str(label)) if with_names else str(label) for label in found.labels.tolist()]
    assert [one.hypothesis.class_id for one in best] == labels
    assert [one.hypothesis.score for one in best] == found.scores.tolist()
    for index, one in enumerate(best):
        place, matrix = one.pose.pose.position, np.array(one.pose.covariance).reshape(6, 6)
        assert [place.x, place.y, place.z] == [*positions.points_m[index], 0.0]
        np.testing.assert_array_equal(matrix[:2, :2], positions.covariances_m2[index])
        assert matrix[5, 5] == pytest.approx(math.pi**2 / 3)
        assert np.count_nonzero(matrix) == 5
        box, size_m = message.detections[index].bbox, positions.sizes_m[index]
        assert [box.center.position.x, box.center.position.y] == [place.x, place.y]
        assert box.center.position.z == size_m[1] / 2
        assert [box.size.x, box.size.y, box.size.z] == [0.01, *size_m]
        yaw = 2 * math.atan2(box.center.orientation.z, box.center.orientation.w)
        assert math.cos(yaw - positions.bearings_rad[index]) == pytest.approx(1.0)


@given(st.integers(0, 60), FRAME_IDS, STAMPS, TRACK_IDS, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_markers_are_the_bytes_of_the_libraries_and_replace_those_before(
    count: int, frame_id: str, stamp_ns: int, track_ids: list[int] | None, seed: int
) -> None:
    positions = make_positions(count, seed, track_ids)

    message = read(markers_as_bytes(stamp_ns, frame_id, positions, CLASSES), MARKERS, MarkerArray)

    first, *others = message.markers
    assert first.action == Marker.DELETEALL
    assert len({(one.ns, one.id) for one in others}) == len(others) == 3 * count
    for marker in message.markers:
        assert (marker.header.stamp.sec, marker.header.stamp.nanosec) == divmod(stamp_ns, 10**9)
        assert marker.header.frame_id == frame_id
        assert marker.lifetime.sec == MARKER_LIFETIME_S
        assert not marker.frame_locked
    assert all(one.action == Marker.ADD for one in others)
    found = positions.found
    ids = [0] * count if found.track_ids is None else found.track_ids.tolist()
    for index in range(count):
        body, ellipse, name = others[3 * index : 3 * index + 3]
        assert (body.type, ellipse.type, name.type) == (Marker.CYLINDER, Marker.CYLINDER, Marker.TEXT_VIEW_FACING)
        for one in (body, ellipse, name):
            assert [one.pose.position.x, one.pose.position.y] == positions.points_m[index].tolist()
        assert min(body.scale.x, body.scale.y, body.scale.z, ellipse.scale.x, ellipse.scale.y) > 0, "RViz warns of 0"
        assert body.pose.position.z == body.scale.z / 2
        label = int(found.labels[index])
        assert name.text.split() == [NAMES.get(label, str(label)), *([str(ids[index])] if ids[index] else [])]
        if label in CLASSES:
            color = [body.color.r, body.color.g, body.color.b]
            assert color == pytest.approx([value / 255 for value in CLASSES[label].color_rgb], abs=1e-6)


def test_the_ellipse_holds_95_percent_of_the_places() -> None:
    positions = make_positions(1, 7)
    [_, _, ellipse, _] = read(markers_as_bytes(0, "map", positions, CLASSES), MARKERS, MarkerArray).markers
    random = np.random.default_rng(0)
    places = random.multivariate_normal(positions.points_m[0], positions.covariances_m2[0], 20_000)
    yaw = 2 * math.atan2(ellipse.pose.orientation.z, ellipse.pose.orientation.w)
    turn = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    along, across = ((places - positions.points_m[0]) @ turn.T / (ellipse.scale.x / 2, ellipse.scale.y / 2)).T
    assert np.mean(along**2 + across**2 < 1) == pytest.approx(0.95, abs=0.01)


def test_a_class_id_outside_of_the_contract_is_refused() -> None:
    positions = make_positions(1)
    positions = replace(positions, found=replace(positions.found, labels=np.array([256], np.int32)))
    with pytest.raises(ValueError, match=r"expected class ids 0\.\.255"):
        SerializedResults().ground_detections(perception(positions), "map", positions)


@pytest.mark.alone
def test_fifty_objects_take_less_than_a_millisecond() -> None:
    positions, results, times_ms = make_positions(50, 0, [*range(1, 61)]), SerializedResults(NAMES), []
    seen = perception(positions)
    for _ in range(30):
        started = time.perf_counter()
        results.ground_detections(seen, "base_link", positions)
        markers_as_bytes(0, "base_link", positions, CLASSES)
        times_ms.append((time.perf_counter() - started) * 1e3)
    assert min(times_ms) < 1.0
