"""Positions on the ground on a real graph: messages of the node and of a replay, markers, names, diagnostics."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_graph import TIMEOUT_S, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tiny_student import CONTRACT, contract_with, write_tiny_model
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from ros_kd_perception.bags.message_types import typestore
from ros_kd_perception.bags.reader import BagReader
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import FREE_SPACE_PARAMETERS
from ros_kd_perception.ground_positions.ground_camera import GroundPositions
from ros_kd_perception.ground_positions.parameters import GROUND_PARAMETERS
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.model.letterbox import letterbox_geometry
from ros_kd_perception.replay import main as replay
from ros_kd_perception.ros.topics import camera_calibrations
from ros_kd_perception.ros.topics.ground_positions import GroundTopics
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.sample_drive import default_cameras
from ros_kd_perception.sample_drive.drive_bag import DrivePlan, write_drive
from ros_kd_perception.structures import Detections, Perception, Timing

STATUS = "front ground positions"
T0 = 1_700_000_000_000_000_000
PARAMETERS = """
/**:
  ros__parameters:
    detection_class_id: name
    track_objects: true
    front.score_threshold: 0.1
    ground_detections:
      enabled: true
      pitch_error_deg: 0.3
    scan.frame_id: base_footprint
    front:
      mounting: {x_m: 1.6, height_m: 1.45, pitch_deg: 1.72}
      ground_detections.range_max_m: 70
"""
ENABLED = ("-p", "ground_detections.enabled:=true")
MOUNTING = ("-p", "front.mounting.height_m:=1.45", "-p", "front.mounting.pitch_deg:=20.0")
KINDS = {"detections": Detection2DArray, "ground_detections": Detection3DArray, "markers": MarkerArray}


def camera_info(width: int = 160, height: int = 96, focal_px: float = 120.0) -> CameraInfo:
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.k = [focal_px, 0.0, width / 2, 0.0, focal_px, height / 2, 0.0, 0.0, 1.0]
    return message


def canonical(message: Any, kind: str) -> bytes:
    """Return the serialised bytes with zeros between the fields, where rclpy leaves what was there."""
    package, name = kind.split("/")
    store = typestore()
    full = f"{package}/msg/{name}"
    return bytes(store.serialize_cdr(store.deserialize_cdr(serialize_message(message), full), full))


def stamp_of(message: Any) -> int:
    return stamp_ns(message.markers[0] if isinstance(message, MarkerArray) else message)


def test_live_and_replayed_positions_are_equal_to_the_bit(
    peer: Peer, start_node: Any, student: Path, tmp_path: Path
) -> None:
    drive, parameters, replayed = tmp_path / "drive.mcap", tmp_path / "vehicle.yaml", tmp_path / "replayed.mcap"
    parameters.write_text(PARAMETERS)
    write_drive(drive, DrivePlan(2, "day", 3.0, 1.0, default_cameras(640, 360)[:1]), processes=1)
    for name, kind in KINDS.items():
        peer.listen(kind, f"/perception/front/{name}")
    start_node("--params-file", str(parameters), model=student)
    publishers = {
        f"/front/{name}": peer.matched_publisher(kind, f"/front/{name}")
        for name, kind in (("camera_info", CameraInfo), ("image_raw", Image))
    }
    with BagReader(drive) as bag:
        types = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CameraInfo": CameraInfo}
        recorded = [(raw.topic, deserialize_message(bytes(raw.data), types[raw.message_type]))
                    for raw in bag.raw_messages(bag.camera_topics)]  # fmt: skip
    infos, images = ([m for topic, m in recorded if topic.endswith(end)] for end in ("camera_info", "image_raw"))
    infos_of, age = publishers["/front/camera_info"], "camera_info_age_s"
    peer.send_until(infos_of, infos[0], lambda: peer.value(STATUS, age), "the camera is calibrated")
    for image in images:
        counts = {name: len(peer.results("front", name)) for name in KINDS}
        publishers["/front/image_raw"].publish(image)
        peer.until(
            lambda counts=counts: all(len(peer.results("front", name)) > count for name, count in counts.items()),
            "positions and markers come",
        )
    peer.until(lambda: peer.status(STATUS).message == "gives positions", "the status says so")

    assert replay([str(drive), "-o", str(replayed), "--model", str(student), "--threads", "1", "--device", "cpu",
                   "--params-file", str(parameters), "--quiet"]) == 0  # fmt: skip
    written: dict[str, list[Any]] = {name: [] for name in KINDS}
    with BagReader(replayed, {"front": "/perception/front/segmentation"}) as bag:
        for raw in bag.raw_messages([f"/perception/front/{name}" for name in KINDS]):
            name = raw.topic.rpartition("/")[2]
            written[name].append((bytes(raw.data), deserialize_message(bytes(raw.data), KINDS[name])))
    for name, kind in KINDS.items():
        type_name = f"{kind.__module__.split('.')[0]}/{kind.__name__}"
        live = {stamp_of(message): message for message in peer.results("front", name)}
        again = {stamp_of(message): content for content, message in written[name]}
        assert set(live) == set(again) == {stamp_ns(image) for image in images}
        for stamp, message in live.items():
            assert canonical(message, type_name) == again[stamp]
    check_positions(peer, {info.name for info in CONTRACT.detection_classes})


def check_positions(peer: Peer, names: set[str]) -> None:
    boxes, objects, markers = ([*peer.results("front", name)] for name in KINDS)
    assert sum(len(message.detections) for message in objects) >= 3
    for boxes_2d, objects_3d, shown in zip(boxes, objects, markers, strict=True):
        assert objects_3d.header.frame_id == shown.markers[0].header.frame_id == "base_footprint"
        assert boxes_2d.header.frame_id == "front_optical_frame"
        # The same objects in the same order, without those that have no position.
        key = [(box.id, box.results[0].hypothesis) for box in boxes_2d.detections]
        kept = [(box.id, box.results[0].hypothesis) for box in objects_3d.detections]
        rest = iter(key)
        assert all(one in rest for one in kept)
        for one in objects_3d.detections:
            assert one.results[0].hypothesis.class_id in names
            place = one.results[0].pose.pose.position
            assert 1.6 < np.hypot(place.x, place.y) < 70.0
            assert np.linalg.eigvalsh(np.array(one.results[0].pose.covariance).reshape(6, 6)[:2, :2]).min() > 0
        assert len(shown.markers) == 1 + 3 * len(objects_3d.detections)
        assert shown.markers[0].action == Marker.DELETEALL
    assert any(box.id for message in objects for box in message.detections)


def test_class_ids_are_numbers_unless_names_are_asked_for(peer: Peer, start_node: Any, tmp_path: Path) -> None:
    peer.listen_to_results("front")
    names = {str(info.id): info.name for info in CONTRACT.detection_classes}
    renamed = contract_with(name="renamed")
    model = write_tiny_model(tmp_path / "renamed.onnx", renamed)
    found = []
    for more, processes in ((), 0), (("-p", "detection_class_id:=name"), 0), (("-p", "detection_class_id:=name"), 1):
        with start_node(*more, preparation_processes=processes) as node:
            peer.until_active()
            images, numbers = peer.matched_publisher(Image, "/front/image_raw"), itertools.count(1)

            def one_more(images: Any = images, numbers: Any = numbers) -> list[str]:
                before = len(peer.results("front", "detections"))

                def send_and_look() -> bool:
                    images.publish(image_message(camera_picture(), T0 + next(numbers) * 10**8))
                    peer.spin_for(0.1)
                    return len(peer.results("front", "detections")) > before

                peer.until(send_and_look, "boxes come")
                latest = peer.results("front", "detections")[-1]
                return [box.results[0].hypothesis.class_id for box in latest.detections]

            ids = one_more()
            assert peer.set_parameter("model", str(model)).successful
            assert peer.call(Trigger, "/perception/reload_model", Trigger.Request()).success
            assert one_more() == ids
            found.append(ids)
            peer.node.destroy_publisher(images)
            assert node.end() == 0
        peer.forget_statuses()
    numbers_alone, by_name, by_worker = found
    assert numbers_alone
    assert set(numbers_alone) <= set(names)
    assert by_name == by_worker == [names[number] for number in numbers_alone]


def test_diagnostics_say_why_there_are_no_positions_and_they_recover(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    start_node(*ENABLED, *MOUNTING)
    images = peer.matched_publisher(Image, "/front/image_raw")
    infos = peer.matched_publisher(CameraInfo, "/front/camera_info")
    numbers = itertools.count(1)

    def until_status(text: str, make_info: Any = None, size: tuple[int, int] = (96, 160)) -> None:
        def send_and_look() -> bool:
            if make_info:
                infos.publish(make_info())
            images.publish(image_message(camera_picture(*size), T0 + next(numbers)))
            peer.spin_for(0.1)
            return text in peer.status(STATUS).message

        peer.until(send_and_look, f"the status is {text!r}", timeout_s=2 * TIMEOUT_S)

    until_status("no message on /front/camera_info yet")
    until_status("calibrate the camera", lambda: camera_info(focal_px=0.0))
    assert peer.status(STATUS).level == b"\x02"
    until_status("calibrate the camera", lambda: camera_info(focal_px=float("nan")))
    until_status("expected images of 80x48", lambda: camera_info(80, 48))
    assert peer.status(STATUS).level == b"\x02"
    until_status("without a subscriber", camera_info)
    assert 0 <= float(peer.value(STATUS, "camera_info_age_s")) < TIMEOUT_S
    subscription = peer.listen(Detection3DArray, "/perception/front/ground_detections")
    until_status("gives positions")
    counts = [int(peer.value(STATUS, f"boxes_{why}")) for why in ("cut", "above_horizon", "too_far", "off_ground")]
    latest = peer.results("front", "ground_detections")[-1]
    assert sum(counts) + len(latest.detections) == len(peer.results("front", "detections")[-1].detections)
    until_status("expected images of 160x96", size=(48, 80))
    until_status("got 'homemade'", lambda: CameraInfo(width=160, height=96, distortion_model="homemade"))
    until_status("gives positions", camera_info)
    peer.node.destroy_subscription(subscription)
    until_status("without a subscriber")
    # Every image gave a mask throughout the test.
    assert not {r for r in peer.drops("front") if r not in ("replaced", "lost", "too_old")}


def test_every_fault_of_a_calibration_is_reported_and_ends_the_positions() -> None:
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    warnings: list[str] = []
    values = {name: row.default for name, row in (FREE_SPACE_PARAMETERS | GROUND_PARAMETERS).items()} | {
        "ground_detections.enabled": True, "front.enabled": True, "front.mounting.height_m": 1.45
    }  # fmt: skip
    topics = GroundTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), warnings.append))
    calibrations, locator = topics._calibrations, topics._locator
    calibrations.take("front", camera_info())
    assert topics.statuses()[0].message == "calibrated, without a subscriber"
    calibrations.take("front", SimpleNamespace())  # AttributeError
    assert "no attribute" in topics.statuses()[0].message
    assert locator.camera("front") is None
    assert len(warnings) == 1
    assert warnings[0].startswith("no positions on the ground of front: expected a CameraInfo that gives positions")
    calibrations.take("front", camera_info())
    assert locator.camera("front") is not None
    topics.change({"front.enabled": False})
    assert topics.statuses() == [Status(Level.OK, STATUS, "disabled with front")]


def test_a_mounting_from_tf_that_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """tf2_ros is not on PyPI: a stand-in for the listener, whose own errors test_node_free_space.py tests."""
    known: list[CameraPose] = []

    class Mounting:
        def __init__(self, node: Any) -> None:
            pass

        def pose(self, frame_id: str, optical_frame_id: str) -> CameraPose:
            if not known:
                raise ValueError(f"expected a transform from {optical_frame_id!r} to {frame_id}, got: none")
            return known[-1]

    monkeypatch.setattr(camera_calibrations, "TfMounting", Mounting)
    monkeypatch.setattr(camera_calibrations, "_TF_PERIOD_S", 0.0)
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    values = {name: row.default for name, row in (FREE_SPACE_PARAMETERS | GROUND_PARAMETERS).items()} | {
        "ground_detections.enabled": True, "front.enabled": True, "scan.mounting": "tf", "scan.frame_id": "ground"
    }  # fmt: skip
    topics = GroundTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), lambda sentence: None))
    found = Detections(np.array([[70.0, 20.0, 90.0, 70.0]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    seen = Perception("front", 1, "optical", None, found, None, Timing(1.0, 2.0, 3.0))
    geometry = letterbox_geometry(96, 160, 96, 160)
    info = camera_info()
    info.header.frame_id = "front_optical"

    def take() -> GroundPositions | None:
        topics._calibrations.take("front", info)
        return topics._locator.positions(seen, geometry)

    assert take() is None
    assert topics.statuses()[0].message.startswith("expected a transform from 'front_optical' to ground")
    known.append(CameraPose.from_mounting(0.0, 0.0, 1.5, 0.0, 0.0, 0.0))
    low = take()
    known.append(CameraPose.from_mounting(0.0, 0.0, 3.0, 0.0, 0.0, 0.0))
    high = take()
    assert topics.statuses()[0].level == Level.OK
    assert low is not None
    assert high is not None
    np.testing.assert_allclose(high.points_m, 2 * low.points_m)
    known.clear()
    assert take() is None, "an old mounting is worse than none"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (ENABLED, "front.mounting.height_m"),
        ((*ENABLED, *MOUNTING, "-p", "scan.mounting:=tf"), "tf2_ros"),
        ((*ENABLED, *MOUNTING, "-p", "ground_detections.pitch_error_deg:=-1.0"), "from 0 to 20"),
        (("-p", "detection_class_id:=nam"), "did you mean name?"),
    ],
)
def test_refusals_to_configure(peer: Peer, start_node: Any, more: tuple[str, ...], sentence: str) -> None:
    if sentence == "tf2_ros" and importlib.util.find_spec("tf2_ros"):
        pytest.skip("tf2_ros is installed here")
    node = start_node(*more)
    peer.until(lambda: peer.status("model").message.startswith("not configured"), "it refuses")
    assert sentence in peer.status("model").message
    assert node.alive


def test_a_model_without_detection_is_refused_where_positions_are_asked_for(
    peer: Peer, start_node: Any, tmp_path: Path
) -> None:
    masks_alone = write_tiny_model(tmp_path / "masks.onnx", contract_with(name="masks", detections=None))
    start_node(*ENABLED, *MOUNTING)
    peer.until_active()
    assert peer.set_parameter("model", str(masks_alone)).successful
    answer = peer.call(Trigger, "/perception/reload_model", Trigger.Request())
    assert not answer.success
    assert "expected a model that does detection for ground_detections.enabled" in answer.message
