"""Topics without a subscriber cost nothing: no picture, free space, scan, point or position is computed for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.parameter import Parameter
from ros_graph import Peer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2
from std_msgs.msg import Float64
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.serialized_results import SerializedResults
from ros_kd_perception.ros.perception_node import PerceptionNode
from ros_kd_perception.ros.topics import confidence, frame_times, ground_points, ground_positions
from ros_kd_perception.ros.topics import pictures as pictures_module
from ros_kd_perception.ros.topics.camera_info import CameraInfoTopics
from ros_kd_perception.ros.topics.free_space import FreeSpaceTopics
from ros_kd_perception.ros.topics.ground_positions import GroundTopics
from ros_kd_perception.ros.topics.pictures import PictureTopics
from ros_kd_perception.scheduling.mailbox import QueuedMessage
from ros_kd_perception.scheduling.preparation import ReadyFrame
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.structures import Frame

TOPICS = {
    "front/overlay": Image,
    "front/overlay/compressed": CompressedImage,
    "front/segmentation/compressed": CompressedImage,
    "front/segmentation/color": Image,
    "front/free_space": Image,
    "front/scan": LaserScan,
    "front/ground_detections": Detection3DArray,
    "front/markers": MarkerArray,
    "front/confidence": Image,
    "front/camera_info": CameraInfo,
    "front/ground/points": PointCloud2,
    "front/ground/segmentation": Image,
    "front/ground/confidence": Image,
    "front/ground/camera_info": CameraInfo,
    "debug/processing_time_ms": Float64,
}
BOUNDARY = "the boundary of the free space"
NEEDS = {topic: {BOUNDARY} for topic in ("front/free_space", "front/ground/points", "front/ground/segmentation")}
OVERLAYS = {"front/overlay", "front/overlay/compressed"}


def test_each_topic_is_computed_only_for_its_subscribers(
    context: Context, peer: Peer, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()

    def count(owner: Any, method: str, topic: str, result: Any = None) -> None:
        monkeypatch.setattr(owner, method, lambda *_, **__: (made.update([topic]), result)[1])

    overrides = {
        "model": str(tiny_student), "device": "cpu", "intra_op_threads": 1, "scan.enabled": True,
        "ground_detections.enabled": True, "ground_points.enabled": True,
        "front.mounting.height_m": 1.4, "front.mounting.pitch_deg": 5.0,
        "publish_confidence": True, "publish_camera_info": True,
    }  # fmt: skip
    parameters = [Parameter(name, value=value) for name, value in overrides.items()]
    node = PerceptionNode(context=context, parameter_overrides=parameters)
    node.trigger_configure()
    pipeline = node._pipeline
    assert pipeline is not None
    _, *sinks = pipeline._sinks  # the first one publishes to everybody
    topics = {publisher.topic_name.removeprefix("/perception/") for sink in sinks for publisher in sink._publishers}
    of_camera = {topic for topic in topics if topic.startswith("front/")}
    assert of_camera <= TOPICS.keys(), f"add {of_camera - TOPICS.keys()} to TOPICS"
    [free_space] = [sink for sink in sinks if isinstance(sink, FreeSpaceTopics)]
    [pictures] = [sink for sink in sinks if isinstance(sink, PictureTopics)]
    [infos] = [sink for sink in sinks if isinstance(sink, CameraInfoTopics)]
    info = CameraInfo(width=160, height=96, distortion_model="plumb_bob")
    info.k = [120.0, 0.0, 80.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0]
    info.p = [120.0, 0.0, 80.0, 0.0, 0.0, 120.0, 48.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    free_space._finder.calibrate("front", info)
    infos._newest["front"] = info
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(pictures_module, "draw_overlay", lambda *of: (drawn.append(of[0]), draw_overlay(*of))[1])
    monkeypatch.setattr(pictures._drawing, "offer", pictures._draw)
    count(MessageBuilder, "picture", "front/overlay", Image())
    count(MessageBuilder, "picture_jpeg", "front/overlay/compressed", CompressedImage())
    count(pictures._painting, "offer", "front/segmentation/color")
    count(pictures._packing, "offer", "front/segmentation/compressed")
    count(free_space._finder, "boundary", BOUNDARY, np.full(160, -1, np.int32))
    count(free_space._finder, "ranges", "front/scan")
    [ground] = [sink for sink in sinks if isinstance(sink, GroundTopics)]
    ground._locator.calibrate("front", info)
    count(ground_positions, "publish_serialized", "front/ground_detections")
    count(ground._showing, "offer", "front/markers")
    count(frame_times, "Float64", "debug/processing_time_ms", Float64())
    count(MessageBuilder, "free_space", "front/free_space", Image())
    count(confidence, "confidence_mask", "front/confidence")
    count(ground_points, "confidence_at", "front/ground/confidence")
    count(MessageBuilder, "camera_info", "front/ground/camera_info", CameraInfo())
    count(SerializedResults, "ground_points", "front/ground/points", np.zeros(64, np.uint8))
    count(SerializedResults, "gray_image", "front/ground/segmentation", np.zeros(64, np.uint8))
    count(infos, "_fields_of", "front/camera_info")
    monkeypatch.setattr(ground_points, "publish_serialized", lambda *_: None)
    found = ground._locator.positions
    searches: list[Any] = []
    monkeypatch.setattr(ground._locator, "positions", lambda *args: (searches.append(args), found(*args))[1])
    frame = Frame("front", 1, "optical", np.zeros((96, 160, 3), np.uint8))
    prepared = pipeline._running.perceiver.prepare(frame)
    [perception] = pipeline._running.perceiver.perceive_prepared([prepared])

    def publish() -> set[str]:
        made.clear()
        drawn.clear()
        result = FrameResult(ReadyFrame(QueuedMessage("front", None, 0), prepared, b"", 1.0, 0), perception, None, 0)
        result.hand_over()
        for sink in sinks:
            sink.publish(result)
        assert len(drawn) == bool(made.keys() & OVERLAYS), "one drawing is for both overlays"
        return set(made)

    statuses = [status.name for sink in sinks for status in sink.statuses()]
    assert len(statuses) == len({*statuses}) > 2, "one of two statuses of one name would be lost"
    assert publish() == set()
    assert not searches
    for topic, message_type in TOPICS.items():
        subscription = peer.listen(message_type, f"/perception/{topic}")
        peer.until(
            lambda topic=topic: publish() == {topic} | NEEDS.get(topic, set()), f"{topic} is made, and nothing else"
        )
        peer.node.destroy_subscription(subscription)
        peer.until(lambda: publish() == set(), "nothing is made")
    for topic in OVERLAYS:
        peer.listen(TOPICS[topic], f"/perception/{topic}")
    peer.until(lambda: publish() == OVERLAYS, "both overlays are made")
    node.finalize()
    node.destroy_node()
