"""Free space and scans on a real graph: messages of the node, messages of a replay, and diagnostics."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.serialization import deserialize_message
from ros_graph import TIMEOUT_S, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import CameraInfo, Image, LaserScan, RegionOfInterest
from tiny_student import CONTRACT

from ros_kd_perception.bags.reader import BagReader, decode_message
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import FREE_SPACE_PARAMETERS
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.replay import main as replay
from ros_kd_perception.ros.topics.free_space import FreeSpaceTopics
from ros_kd_perception.ros.topics.tf_mounting import TfMounting
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.sample_drive import default_cameras
from ros_kd_perception.sample_drive.drive_bag import DrivePlan, write_drive

T0 = 1_700_000_000_000_000_000
PARAMETERS = """
/**:
  ros__parameters:
    drivable_classes: [road]
    free_space.max_gap_px: 2
    scan:
      enabled: true
      range_max_m: 40
      frame_id: base_footprint
    front:
      mounting: {x_m: 1.6, height_m: 1.45, pitch_deg: 1.72}
"""
MOUNTING = ("-p", "front.mounting.height_m:=1.45", "-p", "front.mounting.pitch_deg:=5.0")


def camera_info(
    width: int = 160,
    height: int = 96,
    focal_px: float = 120.0,
    roi: RegionOfInterest | None = None,
    center_x: float | None = None,
) -> CameraInfo:
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", roi=roi or RegionOfInterest())
    center_x = width / 2 if center_x is None else center_x
    message.k = [focal_px, 0.0, center_x, 0.0, focal_px, height / 2, 0.0, 0.0, 1.0]
    return message


def by_stamp(messages: list[Any]) -> dict[int, Any]:
    return {stamp_ns(message): message for message in messages}


def test_live_and_replayed_free_space_are_equal_to_the_bit(
    peer: Peer, start_node: Any, student: Path, tmp_path: Path
) -> None:
    drive, parameters, replayed = tmp_path / "drive.mcap", tmp_path / "vehicle.yaml", tmp_path / "replayed.mcap"
    parameters.write_text(PARAMETERS)
    write_drive(drive, DrivePlan(2, "day", 3.0, 1.0, default_cameras(640, 360)[:1]), processes=1)
    kinds = ("free_space", "scan")
    peer.listen(Image, "/perception/front/free_space")
    peer.listen(LaserScan, "/perception/front/scan")
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
    peer.send_until(
        publishers["/front/camera_info"], infos[0], lambda: peer.value("front scan", "nearest_m"), "it is calibrated"
    )
    for image in images:
        before = len(peer.results("front", "scan"))
        publishers["/front/image_raw"].publish(image)
        peer.until(lambda before=before: len(peer.results("front", "scan")) > before, "a scan comes")
    peer.until(lambda: len(peer.results("front", "free_space")) == len(images), "the boundaries come")

    assert replay([str(drive), "-o", str(replayed), "--model", str(student), "--threads", "1", "--device", "cpu",
                   "--params-file", str(parameters), "--quiet"]) == 0  # fmt: skip
    written: dict[str, list[Any]] = {kind: [] for kind in kinds}
    with BagReader(replayed, {"front": "/perception/front/segmentation"}) as bag:
        for raw in bag.raw_messages([f"/perception/front/{kind}" for kind in kinds]):
            written[raw.topic.rpartition("/")[2]].append(decode_message(raw))
    for kind in kinds:
        live, again = by_stamp(peer.results("front", kind)), by_stamp(written[kind])
        assert set(live) == set(again) == {stamp_ns(image) for image in images}
        for stamp, message in live.items():
            other = again[stamp]
            assert message.header.frame_id == other.header.frame_id
            if kind == "free_space":
                assert (message.encoding, message.height, message.width, message.step) == ("32SC1", 1, 640, 2560)
                assert message.header.frame_id == "front_optical_frame"
                assert np.array_equal(np.asarray(message.data), np.asarray(other.data))
                assert 100 < np.frombuffer(message.data, "<i4").mean() < 359
            else:
                assert message.header.frame_id == "base_footprint"
                np.testing.assert_array_equal(np.asarray(message.ranges), np.asarray(other.ranges))
                fields = ("angle_min", "angle_max", "angle_increment", "range_min", "range_max")
                assert [getattr(message, f) for f in fields] == pytest.approx([getattr(other, f) for f in fields])
                ranges = np.asarray(message.ranges)
                assert len(ranges) == 720
                finite = ranges[np.isfinite(ranges)]
                assert len(finite) > 50
                assert (finite >= message.range_min).all()
                assert message.range_max == 40.0
                assert (finite <= 40.0).all()


def test_diagnostics_say_why_there_is_no_scan_and_it_recovers(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    start_node(*MOUNTING, "-p", "scan.enabled:=true", "-p", "scan.range_max_m:=10.0")
    images = peer.matched_publisher(Image, "/front/image_raw")
    infos = peer.matched_publisher(CameraInfo, "/front/camera_info")
    scans, numbers = peer.results("front", "scan"), iter(range(1, 10**6))

    def until_status(text: str, make_info: Any = None, size: tuple[int, int] = (96, 160)) -> None:
        def send_and_look() -> bool:
            if make_info:
                infos.publish(make_info())
            images.publish(image_message(camera_picture(*size), T0 + next(numbers)))
            peer.spin_for(0.1)
            return text in peer.status("front scan").message

        peer.until(send_and_look, f"the scan's status is {text!r}", timeout_s=2 * TIMEOUT_S)

    until_status("no message on /front/camera_info yet")
    # There is no subscriber at first, but the status must show the newest frame.
    until_status("calibrate the camera", lambda: camera_info(focal_px=0.0))
    assert peer.status("front scan").level == b"\x02"
    until_status("expected class maps of 80x48", lambda: camera_info(80, 48))
    assert peer.status("front scan").level == b"\x02"
    until_status("calibrated at another size", lambda: camera_info(center_x=40.0))
    assert peer.status("front scan").level == b"\x01"
    until_status("sees from", camera_info)
    assert 0 <= float(peer.value("front scan", "camera_info_age_s")) < TIMEOUT_S
    peer.listen(LaserScan, "/perception/front/scan")
    peer.until(lambda: (images.publish(image_message(camera_picture(), T0 + next(numbers))), scans)[1], "a scan comes")
    until_status("expected class maps of 160x96", size=(48, 80))
    beyond = RegionOfInterest(width=2**32 - 1, height=96)
    until_status("within the 160x96 px", lambda: camera_info(roi=beyond))
    until_status("sees from", camera_info)
    until_status("got 'homemade'", lambda: CameraInfo(width=160, height=96, distortion_model="homemade"))
    until_status("sees from", camera_info)
    # Every image gave a mask throughout the test.
    assert not {r for r in peer.drops("front") if r not in ("replaced", "lost", "too_old")}


def test_every_fault_of_a_calibration_is_reported_and_ends_the_scan() -> None:
    node: Any = SimpleNamespace(create_lifecycle_publisher=lambda *_: None, resolve_topic_name=str)
    warnings: list[str] = []
    values = {name: row.default for name, row in FREE_SPACE_PARAMETERS.items()} | {
        "scan.enabled": True, "front.enabled": True, "front.mounting.height_m": 1.45, "front.mounting.pitch_deg": 5.0
    }  # fmt: skip
    topics = FreeSpaceTopics(SinkContext(node, ["front"], values, CONTRACT, SimpleNamespace(), warnings.append))
    topics._calibrations.take("front", camera_info())
    assert topics.statuses()[0].message.startswith("sees from")
    topics._calibrations.take("front", SimpleNamespace())  # AttributeError
    assert "no attribute" in topics.statuses()[0].message
    assert topics._finder.scan("front") is None
    assert len(warnings) == 1
    topics._calibrations.take("front", camera_info())
    assert topics.statuses()[0].message.startswith("sees from")
    topics._calibrations.take("front", SimpleNamespace())
    topics.change({"front.enabled": False})
    assert topics.statuses() == [Status(Level.OK, "front scan", "disabled with front")]  # nothing sends, and need not
    topics.change({"front.enabled": True})
    assert "no attribute" in topics.statuses()[0].message


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("-p", "drivable_classes:=[road, pavment]"), "did you mean pavement"),
        (("-p", "scan.enabled:=true"), "front.mounting.height_m"),
        (("-p", "front.scan.enabled:=true", "-p", "scan.mounting:=tf"), "tf2_ros"),
        ((*MOUNTING, "-p", "front.mounting.height_m:=-1.0"), "from 0 to 50"),
        (("-p", "scan.angle_increment_deg:=0.0001"), "from 0.1 to 10"),
    ],
)
def test_refusals_to_configure(peer: Peer, start_node: Any, more: tuple[str, ...], sentence: str) -> None:
    if sentence == "tf2_ros" and importlib.util.find_spec("tf2_ros"):
        pytest.skip("tf2_ros is installed here")
    node = start_node(*more)
    peer.until(lambda: peer.status("model").message.startswith("not configured"), "it refuses")
    assert sentence in peer.status("model").message
    assert node.alive


def test_a_mounting_from_tf(monkeypatch: pytest.MonkeyPatch) -> None:
    """tf2_ros is not on PyPI, so this uses a stand-in with the real messages. The real package is not tested."""

    class TransformError(Exception):
        pass

    class Buffer:
        def __init__(self) -> None:
            self.known: dict[tuple[str, str], TransformStamped] = {}

        def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> TransformStamped:
            assert time.nanoseconds == 0  # asks for the newest transform
            try:
                return self.known[target_frame, source_frame]
            except KeyError:
                raise TransformError(f'"{source_frame}" passed to lookupTransform does not exist') from None

    buffers: list[Buffer] = []

    def listen(buffer: Buffer, node: Any, spin_thread: bool) -> SimpleNamespace:
        buffers.append(buffer)
        return SimpleNamespace(unregister=lambda: buffers.remove(buffer))

    stand_in = ModuleType("tf2_ros")
    stand_in.Buffer, stand_in.TransformListener, stand_in.TransformException = Buffer, listen, TransformError
    monkeypatch.setitem(sys.modules, "tf2_ros", stand_in)
    tf = TfMounting(SimpleNamespace())
    with pytest.raises(ValueError, match="expected a transform from 'front_optical_frame' to base_footprint"):
        tf.pose("base_footprint", "front_optical_frame")
    transform = TransformStamped()
    move, turn = transform.transform.translation, transform.transform.rotation
    move.x, move.y, move.z = 1.6, 0.1, 1.45
    # Optical frame of a camera that looks straight ahead: roll, pitch, yaw are (-90, 0, -90) degrees.
    turn.x, turn.y, turn.z, turn.w = -0.5, 0.5, -0.5, 0.5
    buffers[0].known["base_footprint", "front_optical_frame"] = transform
    pose = tf.pose("base_footprint", "front_optical_frame")
    expected = CameraPose.from_mounting(1.6, 0.1, 1.45, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(pose.optical_from_frame, expected.optical_from_frame, atol=1e-12)
    assert pose.position == expected.position
    tf.close()
    assert not buffers
