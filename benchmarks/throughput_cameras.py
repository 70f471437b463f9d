"""Camera processes that send as cheaply as they can, for `throughput.py`.

A message is serialised once. From then on only its stamp changes, and the middleware reads the bytes where they are: a
camera that shares the cores with the node takes little of them.
"""

from __future__ import annotations

import array
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from node_process import Child, Usage

PICTURES = 3
JPEG_QUALITY = 90
GOLDEN = 0.618034  # multiples of it, without their whole parts, are spread evenly
_IDLE_S = 0.02
_STAMP_AT = 4  # after the CDR header; sec and nanosec are four bytes each
_RATE, _SENT, _MATCHED = range(3)


class Senders:
    """Processes that send at a rate which may be changed. `close` ends them.

    Args:
        names: Names of the cameras.
        transport: `raw` or `compressed`.
        size: Width and height of the images in pixels.
        small_topics: Number of topics /small0 ... with small messages, which one more process sends.
    """

    def __init__(self, names: Sequence[str], transport: str, size: tuple[int, int], small_topics: int) -> None:
        self.cameras = len(names)
        # One row for each process: rate, messages sent, 1 if every publisher has a subscription.
        self._table = multiprocessing.get_context("spawn").RawArray("d", 3 * (self.cameras + 1))
        jobs: list[tuple[Any, ...]] = [
            (serve_camera, self._table, row, name, transport, size) for row, name in enumerate(names)
        ]
        if small_topics:
            jobs.append((serve_small_topics, self._table, self.cameras, small_topics))
        with ThreadPoolExecutor(len(jobs)) as pool:
            self._children = list(pool.map(lambda job: Child(*job), jobs))

    def send(self, images_per_s: float, small_per_s: float = 0.0) -> None:
        """Send that many images a second, over all cameras, and that many messages on each small topic."""
        for row in range(self.cameras):
            self._table[3 * row + _RATE] = images_per_s / self.cameras
        self._table[3 * self.cameras + _RATE] = small_per_s

    def sent(self) -> int:
        """Return how many images were sent so far."""
        return int(sum(self._table[3 * row + _SENT] for row in range(self.cameras)))

    def matched(self) -> int:
        """Return how many of the processes have a subscription on every topic, while they do not send."""
        return sum(int(self._table[3 * row + _MATCHED]) for row in range(len(self._children)))

    @property
    def count(self) -> int:
        """Number of processes."""
        return len(self._children)

    @property
    def alive(self) -> bool:
        """Whether every process runs."""
        return all(child.alive for child in self._children)

    def cpu_s(self) -> float:
        """Return the CPU time of all processes, seconds."""
        return sum(Usage.of(child.process_id).cpu_s for child in self._children)

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.end()


def serve_camera(pipe: Connection, table: Any, row: int, name: str, transport: str, size: tuple[int, int]) -> None:
    """Run a camera process."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    rclpy.init()
    node = rclpy.create_node(name)
    message_type, suffix = (Image, "") if transport == "raw" else (CompressedImage, "/compressed")
    publisher = node.create_publisher(message_type, f"/{name}/image_raw{suffix}", qos_profile_sensor_data)
    messages = [Serialized(publisher, message) for message in _messages(row, name, transport, size)]

    def publish(index: int) -> None:
        messages[index % len(messages)].publish(time.time_ns())

    _serve(pipe, table, row, publish, [publisher], row)
    rclpy.try_shutdown()


def serve_small_topics(pipe: Connection, table: Any, row: int, count: int) -> None:
    """Run a process that sends small messages on several topics."""
    import rclpy
    from std_msgs.msg import Float64

    rclpy.init()
    node = rclpy.create_node("small_topics")
    publishers = [node.create_publisher(Float64, f"/small{number}", 10) for number in range(count)]
    message = Float64()

    def publish(index: int) -> None:
        for publisher in publishers:
            publisher.publish(message)

    _serve(pipe, table, row, publish, publishers, 0)
    rclpy.try_shutdown()


class Serialized:
    """A message with a header that is serialised once and published often, each time with another stamp."""

    def __init__(self, publisher: Any, message: Any) -> None:
        from rclpy.serialization import serialize_message

        self._bytes = np.frombuffer(bytearray(serialize_message(message)), np.uint8)
        if self._bytes[1] != 1:
            raise SystemExit(f"expected a message in little-endian CDR, got the header {self._bytes[:4]}")
        self._stamp = self._bytes[_STAMP_AT : _STAMP_AT + 8].view("<u4")
        self._publisher = publisher

    def publish(self, stamp_ns: int) -> None:
        """Publish the message with a stamp."""
        from ros_kd_perception.ros.topics.serialized_publish import publish_serialized

        self._stamp[:] = divmod(stamp_ns, 10**9)
        publish_serialized(self._publisher, self._bytes)


def _serve(pipe: Connection, table: Any, row: int, publish: Any, publishers: Sequence[Any], phase: int) -> None:
    """Publish at the rate in the table until the pipe has a request, which is the one to end."""
    at = 3 * row
    pipe.send("ready")
    due_s, index, idle = 0.0, 0, True
    while not pipe.poll(_IDLE_S if idle else max(0.0, due_s - time.monotonic())):
        rate_hz, was_idle = table[at + _RATE], idle
        idle = not rate_hz > 0
        if idle:
            table[at + _MATCHED] = all(publisher.get_subscription_count() for publisher in publishers)
            continue
        now_s = time.monotonic()
        if was_idle:
            due_s = now_s + phase * GOLDEN % 1 / rate_hz  # so that cameras of one rate do not send at the same moment
        if now_s < due_s:
            continue
        publish(index)
        index += 1
        table[at + _SENT] = index
        due_s = max(due_s + 1 / rate_hz, now_s)  # what cannot be sent in time is not sent later


def _messages(seed: int, name: str, transport: str, size: tuple[int, int]) -> list[Any]:
    import cv2
    from sensor_msgs.msg import CompressedImage, Image

    from ros_kd_perception.sample_drive import SampleDrive

    drive, messages = SampleDrive(seed=seed, weather="day"), []
    for number in range(PICTURES):
        image_bgr = cv2.resize(drive.render("front", 5.0 + number / 30).image_bgr, size)
        if transport == "raw":
            message = Image(height=size[1], width=size[0], encoding="bgr8", step=3 * size[0])
            pixels = image_bgr
        else:
            message = CompressedImage(format="bgr8; jpeg compressed bgr8")
            pixels = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        message.data = array.array("B", pixels.tobytes())
        message.header.frame_id = f"{name}_optical_frame"
        messages.append(message)
    return messages
