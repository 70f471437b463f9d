#!/usr/bin/env python3
"""Compare ways of taking an image from the middleware: CPU time of the thread that takes it, and duration.

Another process sends one image at a time. When the middleware has it, it is taken, and its pixels are read as a NumPy
array. The ways take turns image by image. The copy from shared memory into the middleware's own memory, which a thread
of the middleware makes, is the same for all ways and not included. No network runs, so `--device` changes nothing.

Usage: python benchmarks/taking.py [--size 720p|1080p|WxH] [--images N] [--device DEVICE] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option
from node_process import INSIDE, Child, run_on_own_graph, wait_for_message, write_whole
from throughput import image_size

WARM_UP = 5

WAYS = (
    "executor, message object",
    "executor, raw bytes",
    "rclpy's take, raw bytes",
    "librcl through ctypes",
)
"""The last one is what the node does."""


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=image_size, default="720p", help="720p, 1080p or WIDTHxHEIGHT (720p)")
    parser.add_argument("--images", type=int, default=200, help="images for each way (200)")
    add_device_option(parser, "cpu")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    arguments = parser.parse_args()
    if arguments.images < 1:
        parser.error(f"expected at least one image, got {arguments.images}")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    ways = measure(arguments.size, arguments.images)
    print_table(arguments.size, ways)
    if arguments.json:
        write_whole(arguments.json, json.dumps(ways, indent=1, allow_nan=False) + "\n")
    return 0


def send_on_request(pipe: Connection, topics: Sequence[str], size: tuple[int, int]) -> None:
    """Run the process that sends. It answers `wait` when all topics match, and sends one image for `send` and a row."""
    import array

    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from throughput_cameras import Serialized

    rclpy.init()
    node = rclpy.create_node("sender")
    message = Image(height=size[1], width=size[0], encoding="bgr8", step=3 * size[0])
    message.data = array.array("B", bytes(3 * size[0] * size[1]))
    publishers = [node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in topics]
    messages = [Serialized(publisher, message) for publisher in publishers]
    pipe.send("ready")
    while (request := pipe.recv())[0] != "end":
        if request[0] == "send":
            messages[request[1]].publish(time.time_ns())
            continue
        while not all(publisher.get_subscription_count() for publisher in publishers):
            time.sleep(0.01)
        pipe.send("matched")
    rclpy.try_shutdown()


class Way:
    """A subscription in a node of its own, and a way of taking its images.

    Args:
        name: One of `WAYS`.
        number: Number of the topic.
    """

    def __init__(self, name: str, number: int) -> None:
        import rclpy
        from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        self.name, self.topic = name, f"/way{number}"
        self._node = rclpy.create_node(f"way{number}")
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._taken: list[Any] = []
        raw = name != WAYS[0]
        self.subscription = self._node.create_subscription(Image, self.topic, self._taken.append, qos, raw=raw)
        self.take: Callable[[], np.ndarray] = self._taker()
        self.times_ms: list[tuple[float, float]] = []

    def wait(self) -> None:
        """Wait until an image can be taken."""
        wait_for_message(self._node, self.subscription)

    def _taker(self) -> Callable[[], np.ndarray]:
        if self.name in WAYS[:2]:
            return self._by_executor()
        if self.name == WAYS[2]:
            return self._by_rclpy
        return self._by_rcl()

    def _by_executor(self) -> Callable[[], np.ndarray]:
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor()
        executor.add_node(self._node)

        def take() -> np.ndarray:
            self._taken.clear()
            while not self._taken:
                executor.spin_once(timeout_sec=1.0)
            [message] = self._taken
            return pixels_of(message) if isinstance(message, bytes) else np.frombuffer(message.data, np.uint8)

        return take

    def _by_rclpy(self) -> np.ndarray:
        with self.subscription.handle:
            content, _ = self.subscription.handle.take_message(self.subscription.msg_type, True)
        return pixels_of(content)

    def _by_rcl(self) -> Callable[[], np.ndarray]:
        from ros_kd_perception.ros.topics.serialized_take import SerializedTake

        serialized = SerializedTake(self.subscription)

        def take() -> np.ndarray:
            found = serialized.take()
            assert found is not None, "the image that was there is gone"
            return pixels_of(found.serialized)

        return take


def pixels_of(serialized: Any) -> np.ndarray:
    """Return the pixels of a serialised message, a view."""
    from ros_kd_perception.images.serialized_message import read_image

    return read_image(np.frombuffer(serialized, np.uint8)).data


def measure(size: tuple[int, int], images: int) -> dict[str, Any]:
    """Take images in all ways, in turns."""
    import rclpy

    with ExitStack() as stack:
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        ways = [Way(name, number) for number, name in enumerate(WAYS)]
        sender = Child(send_on_request, [way.topic for way in ways], size)
        stack.callback(sender.end)
        sender.ask("wait")
        for turn in range(WARM_UP + images):
            for number, way in enumerate(ways):
                sender.tell("send", number)
                way.wait()
                times = timed(way.take, size)
                if turn >= WARM_UP:
                    way.times_ms.append(times)
        return {way.name: figures(np.array(way.times_ms), np.array(ways[0].times_ms)) for way in ways}


def timed(take: Callable[[], np.ndarray], size: tuple[int, int]) -> tuple[float, float]:
    """Return CPU time of this thread and duration, milliseconds."""
    cpu_ns, began_ns = time.thread_time_ns(), time.perf_counter_ns()
    pixels = take()
    spent = (time.thread_time_ns() - cpu_ns) / 1e6, (time.perf_counter_ns() - began_ns) / 1e6
    assert pixels.size == 3 * size[0] * size[1]
    return spent


def figures(times_ms: np.ndarray, first_ms: np.ndarray) -> dict[str, Any]:
    """Return medians, and the ratio of the CPU time to that of the first way."""
    cpu_ms, wall_ms = np.median(times_ms, axis=0)
    return {
        "cpu_ms": round(float(cpu_ms), 3),
        "wall_ms": round(float(wall_ms), 3),
        "wall_p95_ms": round(float(np.percentile(times_ms[:, 1], 95)), 3),
        "cpu_ratio": round(float(cpu_ms / np.median(first_ms[:, 0])), 3),
        "images": len(times_ms),
    }


def print_table(size: tuple[int, int], ways: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"one image of {size[0]}x{size[1]} bgr8; medians of {ways[WAYS[0]]['images']} images, in turns")
    print(f"\n  {'way':<28}{'CPU':>12}{'duration':>12}{'p95':>12}{'CPU ratio':>12}")
    for name, row in ways.items():
        times = "".join(f"{row[key]:9.3f} ms" for key in ("cpu_ms", "wall_ms", "wall_p95_ms"))
        print(f"  {name:<28}{times}{row['cpu_ratio']:12.3f}")


if __name__ == "__main__":
    sys.exit(main())
