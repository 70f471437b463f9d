"""Every kind of result is the same, byte for byte, whether worker processes make it or the node's own process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from ros_graph import NodeProcess, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan
from shipped_classes import SEGMENTATION_CLASSES
from std_srvs.srv import Trigger
from tiny_student import CONTRACT, contract_with, write_tiny_model
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from ros_kd_perception.drawing.jpeg import jpeg_of
from ros_kd_perception.model.contract import ClassMapSpec, InputSpec

T0 = 1_700_000_000_000_000_000
STEP_NS = 10**8
PROCESSES = (0, 2)
PICTURES = {"front": camera_picture(240, 320), "rear": camera_picture(seed=1)}
"""Each camera has a worker process of its own."""
KINDS = {"segmentation": Image, "detections": Detection2DArray}
Ask = Callable[[], Any]
Both = Callable[..., list[Any]]


@pytest.fixture
def both(peer: Peer, start_node: Callable[..., NodeProcess]) -> Both:
    """Return what a function gets from a node without worker processes, and from one with them."""

    def ask_both(ask: Ask, *more: str, **parameters: Any) -> list[Any]:
        found = []
        for processes in PROCESSES:
            with start_node(*more, cameras=[*PICTURES], preparation_processes=processes, **parameters) as node:
                found.append(ask())
                assert (peer.value("workers", "processes") or "0") == str(processes)
                assert node.end() == 0
                assert "Traceback" not in node.log
            peer.forget_statuses()
        return found

    return ask_both


class Cameras:
    """Sends the pictures, and returns the results of them."""

    def __init__(self, peer: Peer, kinds: dict[str, Any] = KINDS) -> None:
        self._peer, self._kinds = peer, kinds
        self._numbers = itertools.count(1)
        for camera in PICTURES:
            for kind, message_type in kinds.items():
                peer.listen(message_type, f"/perception/{camera}/{kind}")

    def results(self) -> dict[tuple[str, str], Any]:
        """Return a result of each camera and kind, without its stamp."""
        return {key: found for camera in PICTURES for key, found in self._results_of(camera).items()}

    def _results_of(self, camera: str) -> dict[tuple[str, str], Any]:
        peer, first_ns = self._peer, T0 + next(self._numbers) * STEP_NS
        publisher = peer.matched_publisher(Image, f"/{camera}/image_raw")

        def newer(kind: str) -> list[Any]:
            return [m for m in peer.results(camera, kind) if stamp_ns(with_header(m)) >= first_ns]

        def send_and_look() -> bool:
            publisher.publish(image_message(PICTURES[camera], T0 + next(self._numbers) * STEP_NS, f"{camera}_optical"))
            peer.spin_for(0.05)
            return all(newer(kind) for kind in self._kinds)

        peer.until(send_and_look, f"{camera} gives every kind of result")
        found = {(camera, kind): without_stamps(newer(kind)[0]) for kind in self._kinds}
        peer.node.destroy_publisher(publisher)
        return found


def with_header(message: Any) -> Any:
    """Return the message, or its first part if only its parts have a header."""
    return message.markers[0] if isinstance(message, MarkerArray) else message


def without_stamps(message: Any) -> Any:
    parts = message.markers if isinstance(message, MarkerArray) else (message, *getattr(message, "detections", ()))
    for part in parts:
        part.header.stamp = Image().header.stamp
    return message


def outside(mask: Image) -> int:
    return bytes(mask.data).count(CONTRACT.class_map.unlabeled_id)


def test_after_a_reload_with_another_input_size_classes_and_threshold(peer: Peer, both: Both, tmp_path: Path) -> None:
    sky, *rest = SEGMENTATION_CLASSES
    classes = (replace(sky, name="other sky"), *rest)
    other = contract_with(
        name="other",
        input=InputSpec(128, 160),
        class_map=ClassMapSpec(CONTRACT.class_map.stride, CONTRACT.class_map.unlabeled_id, classes),
        detections=replace(CONTRACT.detections, score_threshold=0.75),
    )
    model = write_tiny_model(tmp_path / "other.onnx", other)
    cameras = Cameras(peer)
    peer.listen_to_results(*PICTURES)

    def before_and_after() -> list[Any]:
        before = cameras.results()
        assert peer.set_parameter("model", str(model)).successful
        answer = peer.call(Trigger, "/perception/reload_model", Trigger.Request())
        assert answer.success, answer.message
        after = cameras.results()
        labels = [[info.class_name for info in peer.latest(c, "segmentation/label_info").class_map] for c in PICTURES]
        return [before, after, labels]

    without, with_workers = both(before_and_after)
    assert without == with_workers
    before, after, labels = without
    assert [len(before[camera, "detections"].detections) for camera in PICTURES] == [4, 3]
    assert [len(after[camera, "detections"].detections) for camera in PICTURES] == [2, 2]
    assert all(before[camera, "segmentation"] != after[camera, "segmentation"] for camera in PICTURES)
    assert [names[0] for names in labels] == ["other sky", "other sky"]


def test_a_region_of_interest_set_at_the_start_and_at_run_time(peer: Peer, both: Both) -> None:
    cameras = Cameras(peer)

    def three_regions() -> list[Any]:
        found = [cameras.results()]
        for region in ([0, 10, 150, 60], [0, 0, 0, 0]):
            assert peer.set_parameter("rear.region_of_interest", region).successful
            found.append(cameras.results())
        return found

    without, with_workers = both(three_regions, "-p", "front.region_of_interest:=[32, 16, 96, 64]")
    assert without == with_workers
    assert [outside(found["front", "segmentation"]) for found in without] == [240 * 320 - 64 * 96] * 3
    assert [outside(found["rear", "segmentation"]) for found in without] == [0, 96 * 160 - 150 * 60, 0]
    assert without[0]["rear", "detections"] != without[1]["rear", "detections"]


def test_overlays_and_packed_masks(peer: Peer, both: Both) -> None:
    pictures = {"overlay": Image, "overlay/compressed": CompressedImage}
    masks = {"segmentation/compressed": CompressedImage, "segmentation/color": Image}
    cameras = Cameras(peer, {**KINDS, **pictures, **masks})
    without, with_workers = both(cameras.results)
    assert without == with_workers
    for camera, picture in PICTURES.items():
        overlay = without[camera, "overlay"]
        assert (overlay.height, overlay.width) == picture.shape[:2]
        assert bytes(overlay.data) != picture.tobytes()
        compressed = without[camera, "overlay/compressed"]
        assert compressed.format == "bgr8; jpeg compressed bgr8"
        drawn = np.frombuffer(overlay.data, np.uint8).reshape(picture.shape)
        assert bytes(compressed.data) == jpeg_of(drawn).tobytes()
        ids, colors = without[camera, "segmentation"], without[camera, "segmentation/color"]
        assert (colors.height, colors.width, colors.encoding) == (ids.height, ids.width, "bgr8")
        painted = zip(bytes(ids.data), np.frombuffer(colors.data, np.uint8).reshape(-1, 3).tolist(), strict=True)
        assert {(number, *bgr[::-1]) for number, bgr in painted} <= {
            *((info.id, *info.color_rgb) for info in CONTRACT.class_map.classes),
            (CONTRACT.class_map.unlabeled_id, 0, 0, 0),
        }


def fields_of(value: Any) -> Any:
    """Return the fields of a message in a form in which NaN equals NaN.

    Its serialised bytes will not do: rclpy leaves those between two aligned fields undefined.
    """
    if hasattr(value, "get_fields_and_field_types"):
        return {name: fields_of(getattr(value, name)) for name in value.get_fields_and_field_types()}
    return repr(value)


def calibrate(peer: Peer, status: str, value: str) -> None:
    """Send the CameraInfo of each camera until its status has a value: a sink that has not started is OK, too."""
    for camera, picture in PICTURES.items():
        height, width = picture.shape[:2]
        info = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
        info.k = [120.0, 0.0, width / 2, 0.0, 120.0, height / 2, 0.0, 0.0, 1.0]
        publisher = peer.matched_publisher(CameraInfo, f"/{camera}/camera_info")

        def send_and_look(camera: str = camera, info: Any = info, publisher: Any = publisher) -> bool:
            publisher.publish(info)
            peer.spin_for(0.1)
            return bool(peer.value(f"{camera} {status}", value))

        peer.until(send_and_look, f"{camera} is calibrated")
        peer.node.destroy_publisher(publisher)


def test_positions_and_markers_with_names_and_ids(peer: Peer, both: Both) -> None:
    cameras = Cameras(peer, {**KINDS, "ground_detections": Detection3DArray, "markers": MarkerArray})

    def calibrated_results() -> Any:
        calibrate(peer, "ground positions", "camera_info_age_s")
        return cameras.results()

    parameters = [f"{camera}.mounting.{name}" for camera in PICTURES for name in ("height_m:=1.45", "pitch_deg:=20.0")]
    parameters += ["ground_detections.enabled:=true", "detection_class_id:=name", "track_objects:=true"]
    without, with_workers = both(calibrated_results, *(word for one in parameters for word in ("-p", one)))
    assert without == with_workers
    assert all(without[camera, "ground_detections"].header.frame_id == "base_link" for camera in PICTURES)
    found = [box for camera in PICTURES for box in without[camera, "ground_detections"].detections]
    assert len(found) >= 2
    assert {box.results[0].hypothesis.class_id for box in found} <= {c.name for c in CONTRACT.detection_classes}
    assert all(box.id for box in found)
    assert sum(len(without[camera, "markers"].markers) for camera in PICTURES) == len(PICTURES) + 3 * len(found)


def test_free_space_and_scans(peer: Peer, both: Both) -> None:
    cameras = Cameras(peer, {**KINDS, "free_space": Image, "scan": LaserScan})

    def calibrated_results() -> Any:
        calibrate(peer, "scan", "nearest_m")
        return cameras.results()

    mountings = [f"{camera}.mounting.{name}" for camera in PICTURES for name in ("height_m:=1.45", "pitch_deg:=5.0")]
    more = [word for mounting in mountings for word in ("-p", mounting)]
    without, with_workers = both(calibrated_results, *more, "-p", "scan.enabled:=true")
    for key, message in without.items():
        assert fields_of(message) == fields_of(with_workers[key])
    for camera in PICTURES:
        assert any(bytes(without[camera, "free_space"].data))
        assert len(set(without[camera, "scan"].ranges)) > 1


def test_a_shadow_compares_each_camera(peer: Peer, both: Both, tmp_path: Path) -> None:
    shadow = write_tiny_model(tmp_path / "shadow.onnx", contract_with(name="shadow", input=InputSpec(64, 64)))
    agreements: list[DiagnosticArray] = []
    peer.node.create_subscription(DiagnosticArray, "/perception/shadow/agreement", agreements.append, 50)
    numbers = itertools.count(1)

    def figures() -> dict[str, dict[str, str]]:
        agreements.clear()
        publishers = {camera: peer.matched_publisher(Image, f"/{camera}/image_raw") for camera in PICTURES}

        def send_and_look() -> bool:
            for camera, publisher in publishers.items():
                publisher.publish(image_message(PICTURES[camera], T0 + next(numbers)))
            peer.spin_for(0.1)
            return {message.status[0].name for message in agreements} == {*PICTURES}

        peer.until(send_and_look, "frames of each camera are compared", 120)
        for publisher in publishers.values():
            peer.node.destroy_publisher(publisher)
        statuses = [message.status[0] for message in agreements]
        return {s.name: {v.key: v.value for v in s.values if not v.key.endswith("_ms")} for s in statuses}

    without, with_workers = both(figures, shadow_model=shadow, shadow_share=1.0)
    assert without == with_workers
    for camera in PICTURES:
        assert 0.2 < float(without[camera]["class_map_agreement"]) < 1.0
        assert int(without[camera]["active_boxes"]) >= 3
