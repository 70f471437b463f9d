"""From camera messages to results, with a node process on a real graph."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ros_graph import BEST_EFFORT, LATCHED, RELIABLE, Peer, camera_picture, compressed_message, image_message, stamp_ns
from sensor_msgs.msg import CompressedImage, Image
from tiny_student import CONTRACT
from vision_msgs.msg import LabelInfo

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.structures import Frame

T0 = 1_700_000_000_123_456_789


def test_the_node_publishes_the_results_of_the_perceiver(peer: Peer, start_node: Any, student: Path) -> None:
    picture = camera_picture(360, 640)
    peer.listen_to_results("front")
    with start_node(model=student) as node:
        publisher = peer.matched_publisher(Image, "/front/image_raw")
        mask, boxes = peer.send_until_both(publisher, lambda n: image_message(picture, T0 + n * 10**8), "front")

        model = OnnxModel.open(student, device="cpu", intra_op_threads=1)
        stamp = stamp_ns(mask)
        expected = Perceiver(model).perceive([Frame("front", stamp, "front_optical", picture)])[0]
        builder = MessageBuilder(rclpy_message_types(), model.contract)
        assert (stamp - T0) % 10**8 == 0
        assert mask == builder.segmentation(expected)
        assert boxes == builder.detections(expected)

        for table, labels in (
            ("segmentation", builder.segmentation_labels()),
            ("detections", builder.detection_labels()),
        ):
            late = Peer(peer.node.context)  # subscribes long after the labels were published
            topic = f"/perception/front/{table}/label_info"
            late.listen(LabelInfo, topic, LATCHED)
            late.until(lambda late=late, topic=topic: late.received[topic], "labels come")
            assert late.received[topic][0].class_map == labels.class_map
            assert late.received[topic][0].threshold == pytest.approx(labels.threshold)
            late.close()

        assert node.end(signal.SIGINT) == 0
        assert "Traceback" not in node.log


def test_a_camera_that_floods_costs_the_other_no_frame(peer: Peer, start_node: Any) -> None:
    start_node(cameras=["front", "rear"])
    publishers = {c: peer.matched_publisher(Image, f"/{c}/image_raw", BEST_EFFORT) for c in ("front", "rear")}
    big = camera_picture(720, 1280)
    sent = 0

    def send_and_count() -> bool:
        nonlocal sent
        sent += 1
        for camera, publisher in publishers.items():
            for _ in range(3 if camera == "front" else 1):
                publisher.publish(image_message(big, T0 + sent * 10**6))
        return sent >= 30 and min(peer.count(c, "published") for c in publishers) >= 10

    peer.until(send_and_count, "both cameras are perceived", timeout_s=60)
    peer.until(lambda: all(peer.count(c, "waiting") == 0 for c in publishers), "all is worked off")
    published = {camera: peer.count(camera, "published") for camera in publishers}
    # All of its frames, or as many as the other camera's.
    assert published["rear"] >= min(0.9 * peer.count("rear", "received"), 0.6 * published["front"])
    for camera in publishers:
        assert peer.count(camera, "received") == published[camera] + sum(peer.drops(camera).values())


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_images_for_one_camera_and_raw_ones_for_another(peer: Peer, start_node: Any, suffix: str) -> None:
    peer.listen_to_results("front", "rear")
    start_node("-p", "rear.image_transport:=compressed", cameras=["front", "rear"])
    picture = camera_picture()
    raw = peer.matched_publisher(Image, "/front/image_raw")
    compressed = peer.matched_publisher(CompressedImage, "/rear/image_raw/compressed")
    masks = [
        peer.send_until_result(raw, lambda n: image_message(picture, T0 + n), "front"),
        peer.send_until_result(compressed, lambda n: compressed_message(picture, T0 + n, suffix), "rear"),
    ]
    pixels = [np.frombuffer(mask.data, np.uint8) for mask in masks]
    assert [(mask.width, mask.height) for mask in masks] == [(160, 96)] * 2
    if suffix == ".png":
        np.testing.assert_array_equal(pixels[0], pixels[1])
    assert len(np.unique(pixels[1])) > 2  # the mask has content, not a single class


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_cameras_with_matching_reliability_are_received(peer: Peer, start_node: Any, reliability: str) -> None:
    peer.listen_to_results("front")
    start_node(image_reliability=reliability)
    qos = RELIABLE if reliability == "reliable" else BEST_EFFORT
    publisher = peer.matched_publisher(Image, "/front/image_raw", qos)
    assert peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + n), "front").height == 96


def test_overlays_are_drawn_only_while_there_is_a_subscriber(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    start_node()
    picture = camera_picture()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    overlays = "/perception/front/overlay"
    subscription = peer.listen(Image, overlays)
    number = 0

    def send(n: int) -> Image:
        nonlocal number
        number += 1
        return image_message(picture, T0 + number)

    while not peer.received[overlays]:
        peer.send_until_result(publisher, send, "front")
    overlay = peer.received[overlays][0]
    assert (overlay.height, overlay.width, overlay.encoding, overlay.step) == (96, 160, "bgr8", 480)
    assert overlay.header.frame_id == "front_optical"
    drawn = np.frombuffer(overlay.data, np.uint8).reshape(96, 160, 3)
    assert 0.2 < np.mean(drawn != picture) < 1.0

    peer.node.destroy_subscription(subscription)
    peer.spin_for(0.3)
    made = len(peer.received[overlays])
    peer.send_until_result(publisher, send, "front")
    assert len(peer.received[overlays]) == made


def test_the_mask_is_published_as_png_for_a_subscriber(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    packed = "/perception/front/segmentation/compressed"
    peer.listen(CompressedImage, packed)
    number = 0

    def send(n: int) -> Image:
        nonlocal number
        number += 1
        return image_message(camera_picture(seed=number), T0 + number)

    while not peer.received[packed]:
        peer.send_until_result(publisher, send, "front")
    png = peer.received[packed][0]
    assert (png.format, png.header.frame_id) == ("mono8; png compressed ", "front_optical")
    masks = {stamp_ns(mask): np.frombuffer(mask.data, np.uint8).reshape(96, 160) for mask in peer.results("front")}
    decoded = cv2.imdecode(np.frombuffer(png.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, masks[stamp_ns(png)])


def test_the_score_threshold_changes_while_the_node_runs(peer: Peer, start_node: Any) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    def set_threshold(value: float) -> Any:
        parameter = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        request = SetParameters.Request(parameters=[Parameter(name="score_threshold", value=parameter)])
        return peer.call(SetParameters, "/perception/set_parameters", request).results[0]

    peer.listen_to_results("front")
    start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    labels = peer.results("front", "detections/label_info")
    detections = peer.results("front", "detections")

    peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + n), "front")
    peer.until(lambda: detections, "detections come")
    assert min(d.results[0].hypothesis.score for d in detections[-1].detections) < 0.75
    peer.until(lambda: labels, "the labels come")
    assert labels[-1].threshold == pytest.approx(CONTRACT.detections.score_threshold)

    assert set_threshold(0.75).successful
    peer.until(lambda: labels[-1].threshold == 0.75, "the labels tell the new threshold")
    stamp = T0 + 10**9
    publisher.publish(image_message(camera_picture(), stamp))
    peer.until(lambda: stamp_ns(detections[-1]) == stamp, "the frame is perceived")
    assert [d.results[0].hypothesis.score for d in detections[-1].detections] == pytest.approx([0.9, 0.8])

    refused = set_threshold(1.5)
    assert not refused.successful
    assert "score_threshold" in refused.reason
