"""Twenty thousand malformed messages: none does more harm than a dropped frame, and every one is counted."""

from __future__ import annotations

import array
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed_messages import T0_S, malformed_compressed_image, malformed_image
from rclpy.duration import Duration
from ros_graph import RELIABLE, Peer, camera_picture, compressed_message, image_message
from sensor_msgs.msg import CompressedImage, Image

from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.health.status import CameraHealth
from ros_kd_perception.images.message import MAX_PIXELS, frame_from_message
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.result_sink import FrameResult, ResultSink
from ros_kd_perception.scheduling.worker import PerceptionWorker
from ros_kd_perception.structures import BadFrame, Frame, FrameCounts

MAKERS = {"front": malformed_image, "rear": malformed_compressed_image}


class Messages(ResultSink):
    """Builds the messages of each frame and publishes nothing."""

    name = "messages"

    def __init__(self, contract: ModelContract) -> None:
        self._builder = MessageBuilder(rclpy_message_types(), contract, reuse_parts=True)

    def publish(self, result: FrameResult) -> None:
        self._builder.segmentation(result.perception)
        self._builder.detections(result.perception)
        result.hand_over()


def counts_after(number: int, model_path: Path, warnings: list[str]) -> dict[str, FrameCounts]:
    """Send `number` messages of each camera through mailbox, decoder, network and message builder."""
    model = OnnxModel.open(model_path, device="cpu", intra_op_threads=1)
    mailbox: Mailbox[Any] = Mailbox(list(MAKERS))
    worker = PerceptionWorker(
        mailbox,
        Perceiver(model),
        [Messages(model.contract)],
        {camera: CameraHealth(camera, 2000) for camera in MAKERS},
        StampAge(0.0, lambda: T0_S * 10**9, warnings.append),
        warnings.append,
    )
    random, preparer = Random(4), worker.new_preparation()
    mailbox.open()
    for count in range(number):
        for camera, make in MAKERS.items():
            mailbox.put(camera, make(random, count))
            queued = mailbox.take(0)
            assert queued is not None
            ready = preparer.prepare(queued)
            if ready is not None:
                worker.process(ready)
    return mailbox.counts()


def test_each_of_twenty_thousand_is_published_or_dropped_for_a_reason(
    tiny_student: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    warnings: list[str] = []
    counts = counts_after(10_000, tiny_student, warnings)
    for camera, count in counts.items():
        assert count.received == 10_000
        assert count.received == count.published + sum(count.dropped.values())
        assert "failed" not in count.dropped, warnings
        assert len(count.dropped) >= 6, f"{camera}: the messages are too much alike: {count.dropped}"
    # Warnings are throttled to one for each camera and reason every few seconds.
    assert len(warnings) < 500
    assert [text for text in warnings if len(text) > 700 or "\n" in text] == []
    # Decoders print nothing, except that libpng prints a line for a PNG whose checksums fit and whose pixels do not.
    printed = capfd.readouterr().err.splitlines()
    assert [line for line in printed if not line.startswith("libpng ")] == []
    assert len(printed) < 500


def test_hypothesis_finds_no_message_that_does_more_harm(request: pytest.FixtureRequest) -> None:
    number = request.config.getoption("--malformed-messages") or 600

    @settings(max_examples=number, deadline=None)
    @given(random=st.randoms(use_true_random=False), camera=st.sampled_from(list(MAKERS)))
    def decode(random: Random, camera: str) -> None:
        frame: Frame | BadFrame
        try:
            frame = frame_from_message(camera, MAKERS[camera](random))
        except BadFrame as refusal:
            frame = refusal
        if isinstance(frame, Frame):
            assert frame.image_bgr.size <= 3 * MAX_PIXELS
            assert -(2**31) <= frame.stamp_ns // 10**9 < 2**31
        else:
            assert len(str(frame)) < 600
            assert "\n" not in str(frame)

    decode()


# A broken camera driver: `python THIS_FILE NUMBER` publishes NUMBER messages of each kind, then prints a line.
def to_ros(kind: Any, fields: SimpleNamespace) -> Any:
    """Return the rclpy message with these fields."""
    message = kind(**{name: value for name, value in vars(fields).items() if name not in ("header", "data")})
    message.header.stamp.sec, message.header.stamp.nanosec = fields.header.stamp.sec, fields.header.stamp.nanosec
    message.header.frame_id = fields.header.frame_id
    message.data = array.array("B", fields.data)
    return message


def publish_malformed(number: int) -> None:
    """Publish on the topics of both cameras, at about 500 Hz each."""
    rclpy.init()
    node = rclpy.create_node("mad_camera")
    topics = {"front": (Image, "/front/image_raw"), "rear": (CompressedImage, "/rear/image_raw/compressed")}
    publishers = {camera: node.create_publisher(*topic, RELIABLE) for camera, topic in topics.items()}
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        time.sleep(0.01)
    random = Random(5)
    for count in range(number):
        for camera, publisher in publishers.items():
            publisher.publish(to_ros(topics[camera][0], MAKERS[camera](random, count)))
        time.sleep(0.002)
    for publisher in publishers.values():
        publisher.wait_for_all_acked(Duration(seconds=30))
    print("published", flush=True)
    rclpy.shutdown()


def test_a_publisher_of_malformed_messages_on_the_graph(
    request: pytest.FixtureRequest, peer: Peer, start_node: Any, environment: dict[str, str]
) -> None:
    number = (request.config.getoption("--malformed-messages") or 2000) // 2
    node = start_node("-p", "rear.image_transport:=compressed", cameras=["front", "rear"], image_reliability="reliable")
    peer.listen_to_results("front", "rear")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)])
    command = [sys.executable, __file__, str(number)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as camera:
        peer.until(lambda: camera.poll() is not None, "all is published", 120 + number / 50)
        assert camera.stdout is not None
        assert camera.stdout.read() == "published\n"

    later = (T0_S + 10 * number) * 10**9
    raw = peer.matched_publisher(Image, "/front/image_raw")
    png = peer.matched_publisher(CompressedImage, "/rear/image_raw/compressed")
    peer.send_until_result(raw, lambda n: image_message(camera_picture(), later + n), "front")
    peer.send_until_result(png, lambda n: compressed_message(camera_picture(), later + n), "rear")
    for name in MAKERS:
        peer.until(lambda name=name: peer.count(name, "waiting") == 0, "all is worked off")
        received, drops = peer.count(name, "received"), peer.drops(name)
        print(f"{name}: {received} of {number} received, {peer.count(name, 'published')} published, dropped {drops}")
        assert received > number // 10  # a queue of one message loses many, and lost messages do not count as received
        assert received == peer.count(name, "published") + sum(drops.values())
        assert "failed" not in drops
    assert node.alive
    assert node.end() == 0
    assert "Traceback" not in node.log
    assert len(node.log.splitlines()) < 500


if __name__ == "__main__":
    publish_malformed(int(sys.argv[1]))
