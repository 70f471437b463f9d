"""Outputs for planners on a real graph: points on the ground, confidence, CameraInfo; live, replayed and by workers."""

from __future__ import annotations

import array
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from ros_graph import TIMEOUT_S, NodeProcess, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tiny_student import CONTRACT, contract_with

from ros_kd_perception.bags.reader import BagReader, decode_message
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import FREE_SPACE_PARAMETERS
from ros_kd_perception.health.status import Level
from ros_kd_perception.replay import main as replay
from ros_kd_perception.ros.topics import camera_calibrations
from ros_kd_perception.ros.topics.camera_info import CameraInfoTopics
from ros_kd_perception.ros.topics.free_space import FreeSpaceTopics
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.sample_drive import default_cameras
from ros_kd_perception.sample_drive.drive_bag import DrivePlan, write_drive

POINTS = "front ground points"
T0 = 1_700_000_000_000_000_000
KINDS = {
    "segmentation": Image, "confidence": Image, "camera_info": CameraInfo, "ground/points": PointCloud2,
    "ground/segmentation": Image, "ground/confidence": Image, "ground/camera_info": CameraInfo,
}  # fmt: skip
PARAMETERS = """
/**:
  ros__parameters:
    drivable_classes: [road]
    publish_confidence: true
    publish_camera_info: true
    ground_points.enabled: true
    scan.range_max_m: 40
    front:
      mounting: {x_m: 1.6, height_m: 1.45, pitch_deg: 1.72}
"""
EVERYTHING = {
    "ground_points.enabled": True, "publish_confidence": True, "publish_camera_info": True,
    "front.mounting.height_m": 1.45, "front.mounting.pitch_deg": 5.0,
}  # fmt: skip


def camera_info(width: int = 160, height: int = 96, **changes: Any) -> CameraInfo:
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.k = [120.0, 0.0, width / 2, 0.0, 120.0, height / 2, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [120.0, 0.0, width / 2, 0.0, 0.0, 120.0, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    message.header.frame_id = "another"
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def fields_of(value: Any) -> Any:
    """Return the fields of a message of either library in a form in which NaN equals NaN."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: fields_of(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if hasattr(value, "__msgtype__"):
        return {name: fields_of(getattr(value, name)) for name in vars(value) if name.islower() and name[0] != "_"}
    if isinstance(value, (np.ndarray, array.array)):
        return np.asarray(value).tobytes()
    return [fields_of(entry) for entry in value] if isinstance(value, list) else value


def points_of(message: Any) -> np.ndarray:
    return np.frombuffer(message.data, "<f4").reshape(message.height, message.width, 3)


def pixels_of(message: Any) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_live_and_replayed_outputs_are_equal_to_the_bit(
    peer: Peer, start_node: Any, student: Path, tmp_path: Path
) -> None:
    drive, parameters, replayed = tmp_path / "drive.mcap", tmp_path / "vehicle.yaml", tmp_path / "replayed.mcap"
    parameters.write_text(PARAMETERS)
    write_drive(drive, DrivePlan(2, "day", 2.0, 1.0, default_cameras(640, 360)[:1]), processes=1)
    for kind, message_type in KINDS.items():
        peer.listen(message_type, f"/perception/front/{kind}")
    start_node("--params-file", str(parameters), model=student)
    with BagReader(drive) as bag:
        types = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CameraInfo": CameraInfo}
        recorded = [(raw.topic, deserialize_message(bytes(raw.data), types[raw.message_type]))
                    for raw in bag.raw_messages(bag.camera_topics)]  # fmt: skip
    infos, images = ([m for topic, m in recorded if topic.endswith(end)] for end in ("camera_info", "image_raw"))
    info_publisher = peer.matched_publisher(CameraInfo, "/front/camera_info")
    peer.until(lambda: info_publisher.get_subscription_count() == 2, "both outputs that need it listen")
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    peer.send_until(info_publisher, infos[0], lambda: peer.value(POINTS, "points"), "the camera is calibrated")
    for count, image in enumerate(images, start=1):
        publisher.publish(image)
        peer.until(lambda count=count: all(len(peer.results("front", k)) == count for k in KINDS), "every output comes")

    assert replay([str(drive), "-o", str(replayed), "--model", str(student), "--threads", "1", "--device", "cpu",
                   "--params-file", str(parameters), "--quiet"]) == 0  # fmt: skip
    with BagReader(replayed, {"front": "/perception/front/segmentation"}) as bag:
        written = [(raw.topic.removeprefix("/perception/front/"), decode_message(raw))
                   for raw in bag.raw_messages([f"/perception/front/{kind}" for kind in KINDS])]  # fmt: skip
    for kind in KINDS:
        live = peer.results("front", kind)
        again = [message for other, message in written if other == kind]
        assert [stamp_ns(message) for message in live] == [stamp_ns(image) for image in images]
        assert [fields_of(message) for message in live] == [fields_of(message) for message in again]
        assert {message.header.frame_id for message in live} == {"front_optical_frame"}
    check_contents(peer, infos[0])


def check_contents(peer: Peer, info: CameraInfo) -> None:
    newest = {kind: peer.results("front", kind)[-1] for kind in KINDS}
    mask, points = pixels_of(newest["segmentation"]), points_of(newest["ground/points"])
    assert (mask.shape, points.shape) == ((360, 640), (90, 160, 3))
    for kind in ("ground/segmentation", "ground/confidence", "ground/camera_info"):
        assert (newest[kind].height, newest[kind].width) == points.shape[:2]
    assert 1000 < np.isfinite(points[..., 2]).sum() < 90 * 160 / 2
    own = newest["camera_info"]
    assert (list(own.k), list(own.p), own.width, own.height) == (list(info.k), list(info.p), 640, 360)
    small = newest["ground/camera_info"]
    assert small.k[0] == pytest.approx(info.k[0] / 4)
    # The points project to the pixels that they stand for, by the CameraInfo beside them.
    rows, columns = np.nonzero(np.isfinite(points[..., 2]))
    seen = points[rows, columns]
    np.testing.assert_allclose(seen[:, 0] / seen[:, 2] * small.k[0] + small.k[2], columns, atol=1e-3)
    np.testing.assert_allclose(seen[:, 1] / seen[:, 2] * small.k[4] + small.k[5], rows, atol=1e-3)
    confidence = pixels_of(newest["confidence"])
    assert confidence.shape == mask.shape
    assert len(np.unique(confidence)) > 10
    np.testing.assert_array_equal(pixels_of(newest["ground/confidence"]), confidence[2::4, 2::4])
    # Most cells have the class of their middle; a cell at the end of the free space has the class that ends it.
    assert (pixels_of(newest["ground/segmentation"]) == mask[2::4, 2::4]).mean() > 0.98


def test_worker_processes_give_the_same_bytes(peer: Peer, start_node: Callable[..., NodeProcess]) -> None:
    pictures = {"front": camera_picture(240, 320), "rear": camera_picture(seed=1)}
    numbers = itertools.count(1)
    for camera in pictures:
        for kind, message_type in KINDS.items():
            peer.listen(message_type, f"/perception/{camera}/{kind}")

    def results() -> dict[tuple[str, str], Any]:
        found = {}
        for camera, picture in pictures.items():
            info = camera_info(picture.shape[1], picture.shape[0])
            infos = peer.matched_publisher(CameraInfo, f"/{camera}/camera_info")
            images = peer.matched_publisher(Image, f"/{camera}/image_raw")
            first_ns = T0 + next(numbers)

            def newer(camera: str = camera, first_ns: int = first_ns) -> dict[str, Any]:
                return {k: m for k in KINDS for m in peer.results(camera, k) if stamp_ns(m) >= first_ns}

            def send_and_look(camera=camera, picture=picture, info=info, infos=infos, images=images) -> bool:
                infos.publish(info)
                images.publish(image_message(picture, T0 + next(numbers), f"{camera}_optical"))
                peer.spin_for(0.1)
                return bool(newer().keys() >= KINDS.keys())

            peer.until(send_and_look, f"{camera} gives every kind of output")
            for kind, message in newer().items():
                assert message.header.frame_id == f"{camera}_optical"
                message.header.stamp = Image().header.stamp
                found[camera, kind] = fields_of(message)
            peer.node.destroy_publisher(infos)
            peer.node.destroy_publisher(images)
        return found

    runs = []
    more = ["-p", "front.region_of_interest:=[32, 16, 256, 200]", "-p", "rear.mounting.height_m:=1.2",
            "-p", "front.free_space.ignore_bottom_px:=24"]  # fmt: skip
    for processes in (0, 2):
        with start_node(*more, cameras=[*pictures], preparation_processes=processes, **EVERYTHING) as node:
            runs.append(results())
            assert (peer.value("workers", "processes") or "0") == str(processes)
            assert node.end() == 0
            assert "Traceback" not in node.log
        peer.forget_statuses()
    assert runs[0] == runs[1]
    outside = np.frombuffer(runs[0]["front", "confidence"]["data"], np.uint8).reshape(240, 320)
    assert not outside[:16].any()
    assert outside[16:216, 32:288].any()


def test_bad_calibrations_are_told_once_and_stop_nothing_else(peer: Peer, start_node: Any) -> None:
    for kind, message_type in KINDS.items():
        peer.listen(message_type, f"/perception/front/{kind}")
    node = start_node(**EVERYTHING)
    images = peer.matched_publisher(Image, "/front/image_raw")
    infos = peer.matched_publisher(CameraInfo, "/front/camera_info")
    numbers = itertools.count(1)
    silent = ("camera_info", "ground/points", "ground/camera_info")

    def until(text: str, about: str, make_info: Callable[[], CameraInfo] | None) -> None:
        def send_and_look() -> bool:
            if make_info:
                infos.publish(make_info())
            images.publish(image_message(camera_picture(), T0 + next(numbers)))
            peer.spin_for(0.1)
            return text in peer.status(about).message

        peer.until(send_and_look, f"the status of {about} is {text!r}", timeout_s=2 * TIMEOUT_S)

    def counts() -> list[int]:
        return [len(peer.results("front", kind)) for kind in silent]

    def not_a_number() -> CameraInfo:
        return camera_info(k=[math.nan, 0.0, 80.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0])

    until("no message on /front/camera_info yet", POINTS, None)
    peer.until(
        lambda: (until("no message", POINTS, None), peer.results("front", "confidence"))[1],
        "confidence comes",
    )
    assert counts() == [0, 0, 0]
    for make, sentences in (
        (lambda: camera_info(k=[0.0] * 9), ("an uncalibrated one sends zeros", "an uncalibrated one sends zeros")),
        (not_a_number, ("calibrate the camera", "K with NaN or infinity")),
        (lambda: camera_info(80, 48), ("expected class maps of 80x48", "expected images of 80x48")),
    ):
        until(sentences[0], POINTS, make)
        assert peer.status(POINTS).level == b"\x02"
        until(sentences[1], "front camera_info", make)
        assert peer.status("front camera_info").level == b"\x01"
        until("can see the ground", POINTS, camera_info)
        before = counts()
        peer.until(lambda before=before: (until("can see", POINTS, camera_info), counts() > before)[1], "more")
    assert not {reason for reason in peer.drops("front") if reason not in ("replaced", "lost", "too_old")}
    assert "Traceback" not in node.log


def test_the_status_of_the_camera_info_is_there_and_true_while_subscribers_and_messages_come_and_go() -> None:
    subscribers, published = [0], []
    publisher = SimpleNamespace(get_subscription_count=lambda: subscribers[0], publish=published.append)
    callbacks: list[Any] = []
    node: Any = SimpleNamespace(
        create_lifecycle_publisher=lambda *_: publisher,
        create_subscription=lambda kind, topic, callback, qos: callbacks.append(callback),
        destroy_subscription=lambda subscription: None,
        resolve_topic_name=lambda topic: f"/{topic}",
    )
    builder: Any = SimpleNamespace(camera_info=lambda perception, fields: fields)
    values = {"publish_camera_info": True, "front.enabled": True}
    topics = CameraInfoTopics(SinkContext(node, ["front"], values, CONTRACT, builder, print))
    perception = SimpleNamespace(camera="front", class_map=np.zeros((96, 160), np.uint8))
    frame: Any = SimpleNamespace(perception=perception)

    def status() -> tuple[Level, str]:
        [found] = topics.statuses()
        assert found.name == "front camera_info"
        return found.level, found.message

    assert status()[0] == Level.OK
    topics.start()
    topics.publish(frame)
    assert status() == (Level.OK, "without a subscriber")
    subscribers[0] = 1
    topics.publish(frame)
    assert status() == (Level.WARN, "no message on /front/camera_info yet")
    callbacks[0](camera_info(80, 48))
    topics.publish(frame)
    assert status()[0] == Level.WARN
    assert "expected images of 80x48" in status()[1]
    subscribers[0] = 0  # the next message is not read
    assert status() == (Level.OK, "without a subscriber")
    subscribers[0] = 1
    callbacks[0](camera_info())
    topics.publish(frame)
    assert status() == (Level.OK, "passed on")
    assert len(published) == 1
    callbacks[0](camera_info(k=[0.0] * 9))
    topics.publish(frame)
    assert status()[0] == Level.WARN
    topics.change({"front.enabled": False})
    assert status() == (Level.OK, "disabled with front")
    topics.change({"front.enabled": True})
    topics.stop(1.0)
    assert status()[0] == Level.OK
    topics.start()
    topics.change_model(contract_with(class_map=None), builder)
    assert status() == (Level.OK, "the model makes no masks")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"ground_points.enabled": True}, "height above the ground, to be above 0 for points on the ground"),
        ({**EVERYTHING, "ground_points.stride_px": 0}, "from 1 to 64"),
        ({"publish_confidence": "yes please"}, "publish_confidence to be true or false"),
    ],
)  # fmt: skip
def test_refusals_to_configure(peer: Peer, start_node: Any, parameters: dict[str, Any], sentence: str) -> None:
    node = start_node(**parameters)
    peer.until(lambda: peer.status("model").message.startswith("not configured"), "it refuses")
    assert sentence in peer.status("model").message
    assert node.alive


def test_a_mounting_from_tf_may_come_late_and_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for TF: there are no points until it knows the camera, and other ones when the camera moves."""
    poses: list[CameraPose] = []

    def newest(frame_id: str, optical_frame_id: str) -> CameraPose:
        if not poses:
            raise ValueError(f"expected a transform from {optical_frame_id!r} to {frame_id}, got: nothing; publish it")
        return poses[-1]

    monkeypatch.setattr(
        camera_calibrations, "TfMounting", lambda node: SimpleNamespace(pose=newest, close=lambda: None)
    )
    monkeypatch.setattr(camera_calibrations, "_TF_PERIOD_S", 0.0)
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    warnings: list[str] = []
    values = {name: row.default for name, row in FREE_SPACE_PARAMETERS.items()} | {
        "scan.mounting": "tf", "front.ground_points.enabled": True, "front.enabled": True,
    }  # fmt: skip
    topics = FreeSpaceTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), warnings.append))
    info = camera_info()
    info.header.frame_id = "front_optical"

    topics._calibrations.take("front", info)

    assert topics.statuses()[0].message == (
        "expected a transform from 'front_optical' to base_link, got: nothing; publish it"
    )
    assert warnings == [f"no points on the ground of front: {topics.statuses()[0].message}"]
    assert topics._finder.ground("front") is None
    poses.append(CameraPose.from_mounting(0.0, 0.0, 1.0, 0.0, 10.0, 0.0))
    topics._calibrations.take("front", info)
    assert "points can see the ground" in topics.statuses()[0].message
    first = topics._finder.ground("front")
    topics._calibrations.take("front", info)
    assert topics._finder.ground("front") is first
    poses.append(CameraPose.from_mounting(0.0, 0.0, 2.0, 0.0, 10.0, 0.0))
    topics._calibrations.take("front", info)
    second = topics._finder.ground("front")
    assert second.cells is first.cells  # the rays are those of the calibration
    np.testing.assert_allclose(second.points[-1], 2 * first.points[-1], rtol=1e-5)
    poses.clear()
    topics._calibrations.take("front", info)
    assert topics._finder.ground("front") is None
    topics.change({"front.enabled": False})
    assert topics.statuses()[0].message == "disabled with front"


def test_a_doubtful_calibration_of_points_on_the_ground_is_a_warning() -> None:
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    values = {name: row.default for name, row in FREE_SPACE_PARAMETERS.items()} | {
        "front.ground_points.enabled": True, "front.enabled": True, "front.mounting.height_m": 1.4,
        "front.mounting.pitch_deg": 20.0,
    }  # fmt: skip
    topics = FreeSpaceTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), print))
    topics._calibrations.take("front", camera_info(k=[120.0, 0.0, 40.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0]))
    [status] = topics.statuses()
    assert status.level == Level.WARN
    assert "the principal point of the CameraInfo is at x = 40 px of 160" in status.message
    assert dict(status.values)["points"] != "0"


@pytest.mark.parametrize(
    ("more", "changes", "sentence"),
    [
        ({}, {"p": [math.nan] * 12}, "P with NaN"),
        ({"ground_points.stride_px": 1}, {"width": 1600, "height": 960}, "raise ground_points.stride_px"),
    ],
)
def test_points_that_cannot_be_made_end_no_scan(more: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    warnings: list[str] = []
    values = {name: row.default for name, row in FREE_SPACE_PARAMETERS.items()} | {
        "front.ground_points.enabled": True, "front.scan.enabled": True, "front.enabled": True,
        "front.mounting.height_m": 1.4, "front.mounting.pitch_deg": 20.0, **more,
    }  # fmt: skip
    topics = FreeSpaceTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), warnings.append))
    center = {
        "k": [1000.0, 0.0, changes.get("width", 160) / 2, 0.0, 1000.0, changes.get("height", 96) / 2, 0.0, 0.0, 1.0]
    }

    for _ in range(2):  # the second one is the same, and is not computed again
        topics._calibrations.take("front", camera_info(**center, **changes))

    scan, ground = topics.statuses()
    assert topics._finder.scan("front") is not None
    assert scan.level < Level.ERROR
    assert topics._finder.ground("front") is None
    assert ground.level == Level.OK  # the node is not active here
    assert sentence in ground.message
    assert [sentence in warning for warning in warnings] == [True]
    topics._calibrations.take("front", camera_info())
    assert "can see the ground" in topics.statuses()[1].message


def test_a_camera_that_looks_up_shows_no_ground() -> None:
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    values = {name: row.default for name, row in FREE_SPACE_PARAMETERS.items()} | {
        "front.ground_points.enabled": True, "front.enabled": True, "front.mounting.height_m": 1.4,
        "front.mounting.pitch_deg": -60.0,
    }  # fmt: skip
    topics = FreeSpaceTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), print))
    topics._calibrations.take("front", camera_info())
    [status] = topics.statuses()
    assert (status.level, status.message) == (
        Level.ERROR,
        "no pixel shows the ground; check the mounting of the camera",
    )
