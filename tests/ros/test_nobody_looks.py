"""What nobody subscribes to is not made: no overlay, no PNG, no free space, no scan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.parameter import Parameter
from ros_graph import Peer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.ros.perception_node import PerceptionNode
from ros_kd_perception.structures import Detections, Frame, Perception, Timing

KINDS = {"overlay": Image, "segmentation/compressed": CompressedImage, "free_space": Image, "scan": LaserScan}


def test_each_is_made_for_its_subscribers_alone(
    context: Context, peer: Peer, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()

    def count(owner: Any, method: str, kind: str) -> None:
        monkeypatch.setattr(owner, method, lambda *_: made.update([kind]))

    overrides = {
        "model": str(tiny_student), "device": "cpu", "intra_op_threads": 1, "scan.enabled": True,
        "front.mounting.height_m": 1.4, "front.mounting.pitch_deg": 5.0,
    }  # fmt: skip
    parameters = [Parameter(name, value=value) for name, value in overrides.items()]
    node = PerceptionNode(context=context, parameter_overrides=parameters)
    node.trigger_configure()
    pipeline = node._pipeline
    assert pipeline is not None
    finder, pictures, topics = pipeline._finder, pipeline._pictures, pipeline._topics["front"]
    info = CameraInfo(width=160, height=96, distortion_model="plumb_bob")
    info.k = [120.0, 0.0, 80.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0]
    finder.calibrate("front", info)
    count(pictures, "offer_overlay", "overlay")
    count(pictures, "offer_png", "segmentation/compressed")
    count(finder, "boundary", "free_space")
    count(finder, "ranges", "scan")
    monkeypatch.setattr(MessageBuilder, "free_space", lambda *_: Image())
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    class_map = np.zeros((96, 160), np.uint8)
    perception = Perception("front", 1, "optical", class_map, nothing, np.zeros((2, 3), np.float32), Timing(1, 1, 1))
    frame = Frame("front", 1, "optical", np.zeros((96, 160, 3), np.uint8))

    def follow_up() -> set[str]:
        made.clear()
        topics.publish_free_space(perception)
        topics.offer_pictures(frame, perception)
        return set(made)

    assert follow_up() == set()
    for kind, message_type in KINDS.items():
        subscription = peer.listen(message_type, f"/perception/front/{kind}")
        peer.until(lambda kind=kind: follow_up() == {kind}, f"{kind} is made, and nothing else")
        peer.node.destroy_subscription(subscription)
        peer.until(lambda: follow_up() == set(), "nothing is made")
    node.finalize()
    node.destroy_node()
