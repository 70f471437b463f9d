"""Overlays wait in a side thread: each is drawn with the classes of the model that perceived its frame."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from ros_graph import TIMEOUT_S
from sensor_msgs.msg import Image
from tiny_student import CONTRACT

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.free_space.boundary import blocked_classes, free_space_boundary
from ros_kd_perception.free_space.parameters import FREE_SPACE_PARAMETERS
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.ros.topics.pictures import PictureTopics
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.scheduling.mailbox import QueuedMessage
from ros_kd_perception.scheduling.preparation import ReadyFrame
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.structures import Detections, Frame, Perception, Timing


class Subscribed:
    """A publisher with a subscriber. It keeps what is published, and holds the first message up until `released`."""

    def __init__(self) -> None:
        self.messages: list[Image] = []
        self.released = threading.Event()
        self.arrived = threading.Semaphore(0)

    def get_subscription_count(self) -> int:
        return 1

    def publish(self, message: Image) -> None:
        self.messages.append(message)
        self.arrived.release()
        assert self.released.wait(TIMEOUT_S)


def with_other_ids(contract: ModelContract) -> ModelContract:
    """The contract of a model whose classes have each other's ids and colours."""
    classes = contract.class_map.classes
    turned = tuple(replace(info, name=other.name) for info, other in zip(classes, classes[::-1], strict=True))
    return replace(contract, class_map=replace(contract.class_map, classes=turned))


def result_of(frame: Frame) -> FrameResult:
    [road] = [info.id for info in CONTRACT.class_map.classes if info.name == "road"]
    class_map = np.full(frame.image_bgr.shape[:2], road + 1, np.uint8)
    class_map[60:] = road
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    perception = Perception(
        "front", frame.stamp_ns, "optical", class_map, nothing, np.zeros((2, 3), np.float32), Timing(1, 1, 1)
    )
    ready: Any = SimpleNamespace(prepared=SimpleNamespace(frame=frame))
    return FrameResult(ReadyFrame(QueuedMessage("front", None, 0), ready.prepared, b"", 1.0, 0), perception, None, 0)


def overlay_of(result: FrameResult, contract: ModelContract) -> np.ndarray:
    boundary = free_space_boundary(result.perception.class_map, blocked_classes(contract, ["road"]))
    return draw_overlay(result.frame.image_bgr, result.perception, contract, boundary)


def test_a_picture_that_waits_while_the_model_changes_is_drawn_with_the_old_model() -> None:
    publisher, warnings = Subscribed(), list[str]()
    others: Any = SimpleNamespace(get_subscription_count=lambda: 0)
    node: Any = SimpleNamespace(
        create_lifecycle_publisher=lambda kind, topic, qos: publisher if topic == "~/front/overlay" else others
    )
    builder = MessageBuilder(rclpy_message_types(), CONTRACT)
    values = {name: row.default for name, row in FREE_SPACE_PARAMETERS.items()}
    pictures = PictureTopics(SinkContext(node, ["front"], values, CONTRACT, builder, warnings.append))
    other = with_other_ids(CONTRACT)
    results = [result_of(Frame("front", stamp, "optical", np.full((96, 160, 3), 90, np.uint8))) for stamp in (1, 2, 3)]
    assert not np.array_equal(overlay_of(results[1], CONTRACT), overlay_of(results[1], other))
    pictures._drawing.start()
    pictures.publish(results[0])
    assert publisher.arrived.acquire(timeout=TIMEOUT_S)
    pictures.publish(results[1])  # waits: the thread is busy with the first one
    pictures.change_model(other, builder)
    publisher.released.set()
    assert publisher.arrived.acquire(timeout=TIMEOUT_S)
    pictures.publish(results[2])
    assert publisher.arrived.acquire(timeout=TIMEOUT_S)
    pictures.stop(TIMEOUT_S)
    assert warnings == []
    for message, result, contract in zip(publisher.messages, results, (CONTRACT, CONTRACT, other), strict=True):
        assert message.header.stamp.nanosec == result.frame.stamp_ns
        drawn = np.frombuffer(message.data, np.uint8).reshape(96, 160, 3)
        np.testing.assert_array_equal(drawn, overlay_of(result, contract))
