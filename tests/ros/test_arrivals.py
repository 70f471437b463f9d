"""Who notes the messages of cameras: the thread of `Arrivals`, or the idle thread of the network itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.publisher import Publisher
from ros_graph import RELIABLE, Peer, camera_picture, image_message
from sensor_msgs.msg import Image

from ros_kd_perception.ros.topics.arrivals import Arrivals
from ros_kd_perception.ros.topics.camera_images import CameraImages

CAMERAS = ("front", "rear")


class Rig:
    """Two subscribed cameras. Tells which thread noted which message."""

    def __init__(self, context: Context, peer: Peer) -> None:
        self.noted: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self.warnings: list[str] = []
        self.node = Node("listener", context=context)
        self.images = {c: CameraImages(self.node, c, "raw", "reliable") for c in CAMERAS}
        self.arrivals = Arrivals(context, [*self.images.values()], self._put, self.warnings.append)
        note_next, self._in_wait = self.arrivals._note_next, ""

        def note_and_tell(*arguments: Any) -> bool:
            self._in_wait = threading.current_thread().name
            return note_next(*arguments)

        self.arrivals._note_next = note_and_tell  # type: ignore[method-assign]
        for images in self.images.values():
            images.subscribe()
        self.publishers: dict[str, Publisher[Image]] = {
            c: peer.matched_publisher(Image, f"/{c}/image_raw", RELIABLE) for c in CAMERAS
        }
        self.arrivals.start()

    def _put(self, camera: str, images: CameraImages) -> bool:
        self.noted.put((camera, threading.current_thread().name))
        return False

    def send(self, camera: str) -> None:
        self.publishers[camera].publish(image_message(camera_picture(1), 1_000_000))

    def take(self, camera: str) -> None:
        assert self.images[camera].collect() is not None

    def in_thread_of_network(self, *steps: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=lambda: [step() for step in steps], name="network")
        thread.start()
        return thread

    def until_network_waits(self) -> None:
        until(lambda: self._in_wait == "network" and self.arrivals._waiting)

    def close(self) -> None:
        self.arrivals.stop()
        for images in self.images.values():
            images.unsubscribe()
        self.node.destroy_node()


@pytest.fixture
def rig(context: Context, peer: Peer) -> Iterator[Rig]:
    rig = Rig(context, peer)
    yield rig
    rig.close()
    assert not rig.warnings


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.001)


def ended(thread: threading.Thread) -> bool:
    thread.join(30)
    return not thread.is_alive()


def test_an_idle_network_notes_messages_itself_and_gives_the_wait_back(rig: Rig) -> None:
    network = rig.in_thread_of_network(
        lambda: rig.arrivals.wait(30.0), lambda: rig.take("front"), lambda: rig.arrivals.leave()
    )
    rig.until_network_waits()
    rig.send("front")
    assert ended(network)
    assert rig.noted.get(timeout=30) == ("front", "network")
    for camera in CAMERAS:  # one that was taken, and one that never sent before
        rig.send(camera)
        assert rig.noted.get(timeout=30) == (camera, "arrivals")


def test_one_message_is_noted_once_until_it_is_taken(rig: Rig) -> None:
    rig.send("front")
    assert rig.noted.get(timeout=30) == ("front", "arrivals")
    rig.send("front")
    rig.send("rear")
    assert rig.noted.get(timeout=30) == ("rear", "arrivals")
    with pytest.raises(Empty):
        rig.noted.get(timeout=0.1)


def test_the_network_wakes_for_other_reasons_too(rig: Rig) -> None:
    network = rig.in_thread_of_network(lambda: rig.arrivals.wait(None), lambda: rig.arrivals.leave())
    rig.until_network_waits()
    rig.arrivals.wake()
    assert ended(network)
    rig.send("rear")
    assert rig.noted.get(timeout=30) == ("rear", "arrivals")


def test_a_wake_up_that_comes_while_the_threads_change_places_is_not_lost(rig: Rig) -> None:
    for _ in range(200):
        network = rig.in_thread_of_network(lambda: rig.arrivals.wait(None), lambda: rig.arrivals.leave())
        rig.arrivals.wake()
        assert ended(network)


def test_a_wait_ends_after_its_time(rig: Rig) -> None:
    started_s = time.monotonic()
    assert ended(rig.in_thread_of_network(lambda: rig.arrivals.wait(0.1), lambda: rig.arrivals.leave()))
    assert 0.1 <= time.monotonic() - started_s < 10


def test_without_its_thread_it_waits_for_wake_ups_alone(rig: Rig) -> None:
    network = rig.in_thread_of_network(
        lambda: rig.arrivals.wait(None), lambda: rig.arrivals.wait(None), lambda: rig.arrivals.leave()
    )
    rig.until_network_waits()
    rig.arrivals.stop()  # ends the first wait
    until(lambda: not rig.arrivals._waiting)
    rig.send("front")
    network.join(0.2)
    assert network.is_alive()
    rig.arrivals.wake()
    assert ended(network)
    assert rig.noted.empty()
    rig.arrivals.start()
    assert rig.noted.get(timeout=30) == ("front", "arrivals")
