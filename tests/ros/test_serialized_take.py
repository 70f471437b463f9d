"""The memory of taken messages: each piece is freed, also when it comes back late."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from ros_graph import Peer, camera_picture, image_message
from sensor_msgs.msg import Image

from ros_kd_perception.ros.rcl_library import RclLibrary, SerializedBytes, rcl_library
from ros_kd_perception.ros.topics.serialized_take import SerializedTake, TakenMessage

TIMEOUT_S = 10.0


class Camera:
    """A topic whose messages only the test takes."""

    def __init__(self, context: Context, peer: Peer) -> None:
        self._peer = peer
        self.node = Node("taker", context=context)
        self._subscription = self.node.create_subscription(Image, "/image", lambda _: None, QoSProfile(depth=1))
        self._publisher = peer.matched_publisher(Image, "/image")
        self.taken = SerializedTake(self._subscription)

    def next_message(self) -> TakenMessage:
        found: list[TakenMessage] = []

        def send_and_take() -> bool:
            self._publisher.publish(image_message(camera_picture(), 1_000))
            self._peer.spin_for(0.02)
            found.extend(filter(None, [self.taken.take()]))
            return bool(found)

        self._peer.until(send_and_take, "a message is taken")
        return found[0]


@pytest.fixture
def library() -> RclLibrary:
    found = rcl_library()
    if found is None:
        pytest.skip("librcl cannot be called here")
    return found


@pytest.fixture
def camera(context: Context, peer: Peer) -> Iterator[Camera]:
    camera = Camera(context, peer)
    yield camera
    camera.node.destroy_node()


def test_memory_that_is_lent_when_the_subscription_ends_is_freed_when_it_comes_back(
    camera: Camera, library: RclLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, freed = list[SerializedBytes](), list[SerializedBytes]()
    new_bytes, free = library.new_bytes, library.free

    def make() -> SerializedBytes:
        made.append(new_bytes())
        return made[-1]

    def note_and_free(memory: SerializedBytes) -> None:
        freed.append(memory)
        free(memory)

    monkeypatch.setattr(library, "new_bytes", make)
    monkeypatch.setattr(library, "free", note_and_free)
    back, lent = camera.next_message(), camera.next_message()
    del back
    assert freed == []  # it is used again

    camera.taken.close()

    assert len(freed) == len(made) - 1
    assert lent.serialized.any()
    del lent
    assert {id(memory) for memory in freed} == {id(memory) for memory in made}


def test_a_message_that_the_garbage_collector_gives_back_during_a_take_blocks_nothing(
    camera: Camera, library: RclLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_bytes = library.new_bytes
    gc.disable()
    try:
        circle: list[Any] = [camera.next_message()]
        circle.append(circle)
        del circle
        monkeypatch.setattr(library, "new_bytes", lambda: (gc.collect(), new_bytes())[1])
        thread = threading.Thread(target=camera.taken.take, daemon=True)
        thread.start()
        thread.join(TIMEOUT_S)
    finally:
        gc.enable()

    assert not thread.is_alive()
    camera.taken.close()
