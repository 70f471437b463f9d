#!/usr/bin/env python3
"""List the copies of a frame and of its mask that the node makes, from the camera's message to the published messages.

Each step runs alone many times, with the memory of a real step, on a graph with a second process that sends the frames
and subscribes to the masks. `copied` checks whether its result is in new memory, and the bytes are those that it
writes. The cost is the least CPU time of the thread over all runs. For comparison, the table has a plain copy of the
same number of bytes. Copies that the middleware's own threads make are not included.

Usage: python benchmarks/frame_copies.py [--model MODEL.onnx] [--device DEVICE] [--repeats N] [--json OUT]
"""

from __future__ import annotations

import argparse
import array
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from device_option import add_device_option
from node_process import HEIGHT, INSIDE, ROOT, WIDTH, Child, run_on_own_graph, wait_for_message, write_whole


@dataclass(frozen=True)
class Step:
    """One step: its work, the bytes that it writes, whether they are in new memory, and CPU milliseconds.

    Attributes:
        copies: How many times it writes the bytes.
        plain_copy_ms: Time of one plain copy of these bytes.
    """

    name: str
    when: str
    copied: bool
    copies: int
    bytes: int
    cpu_ms: float
    plain_copy_ms: float


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--repeats", type=int, default=200, help="repeats of each step (200)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    arguments = parser.parse_args()
    if not arguments.model.is_file() or arguments.repeats < 1:
        parser.error(f"expected a model file and at least one repeat, got {arguments.model} and {arguments.repeats}")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    cv2.setNumThreads(1)
    from ros_kd_perception.model.onnx_model import OnnxModel

    model = OnnxModel.open(arguments.model, device=arguments.device, intra_op_threads=1)
    steps = measure(model, arguments.repeats)
    print_table(steps, model.provider.what_runs)
    if arguments.json:
        write_whole(arguments.json, json.dumps([asdict(step) for step in steps], indent=1, allow_nan=False) + "\n")
    return 0


@contextmanager
def graph() -> Iterator[tuple[Any, Any, Callable[[], None]]]:
    """Join the graph. Yield a subscription to frames, a publisher of masks, and what sends a frame and waits for it."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from ros_kd_perception.ros.topics.camera_images import CameraImages

    rclpy.init()
    node = rclpy.create_node("copies")
    other = None
    try:
        images = CameraImages(node, "front", "raw", "best_effort")
        images.subscribe()
        masks = node.create_publisher(Image, "/mask", QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE))
        other = Child(serve_other_side)
        other.ask("wait")

        def send() -> None:
            other.tell("send")
            wait_for_message(node, images._subscription)

        yield images, masks, send
    finally:
        if other is not None:
            other.end()
        rclpy.try_shutdown()


def serve_other_side(pipe: Connection) -> None:
    """Run the process that sends frames for `send` and subscribes to the masks, which nothing takes."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from throughput_cameras import Serialized

    rclpy.init()
    node = rclpy.create_node("other_side")
    publisher = node.create_publisher(Image, "/front/image_raw", qos_profile_sensor_data)
    node.create_subscription(Image, "/mask", print, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    frame = Serialized(publisher, _camera_message())
    pipe.send("ready")
    while (request := pipe.recv())[0] != "end":
        if request[0] == "send":
            frame.publish(time.time_ns())
            continue
        while not publisher.get_subscription_count() or not node.count_publishers("/mask"):
            time.sleep(0.01)
        pipe.send("matched")
    rclpy.try_shutdown()


def measure(model: Any, repeats: int) -> list[Step]:
    """Run every step on a 1280x720 bgr8 message."""
    from ros_kd_perception.drawing.overlay import draw_overlay
    from ros_kd_perception.images.message import frame_from_message
    from ros_kd_perception.messages.builder import MessageBuilder
    from ros_kd_perception.model.letterbox import class_map_to_source
    from ros_kd_perception.perceiver import Perceiver
    from ros_kd_perception.ros.installed_messages import rclpy_message_types
    from ros_kd_perception.ros.topics.serialized_publish import publish_serialized

    builder = MessageBuilder(rclpy_message_types(), model.contract, reuse_parts=True)
    perceiver = Perceiver(model, new_class_map=builder.serialized.new_class_map)
    buffer = np.empty((model.contract.input.height, model.contract.input.width, 3), np.uint8)
    small_map = np.zeros(tuple(model.contract.output_shapes()["class_map"]), np.uint8)
    stride = model.contract.class_map.stride
    with graph() as (images, masks, send):
        send()
        taken = images.collect()
        message = images.read(taken)
        frame = frame_from_message("front", message)
        prepared = perceiver.prepare(frame, buffer)
        [perception] = perceiver.perceive_prepared([prepared])
        mask = builder.serialized.segmentation(perception)
        source, pixels = message.data, perception.class_map

        def back_to_source() -> Any:
            return class_map_to_source(small_map, stride, prepared.geometry, pixels)

        def network_input() -> Any:
            return prepared.network_input[None]

        drawn = draw_overlay(frame.image_bgr, perception, model.contract)
        always, subscribed = "every frame", "while it has a subscriber"
        return [
            _step("take: middleware's memory to ours", always, True, 1, taken.serialized.nbytes, repeats,
                  images.collect, before=send),
            _step("read the message", always, not np.shares_memory(source, taken.serialized), 0, 0, repeats,
                  lambda: images.read(taken)),
            _step("decode bgr8", always, not np.shares_memory(frame.image_bgr, source), 0, 0, repeats,
                  lambda: frame_from_message("front", message)),
            _step("letterbox", always, True, 1, buffer.nbytes, repeats, lambda: perceiver.prepare(frame, buffer)),
            _step("hand to the network", always, not np.shares_memory(network_input(), buffer), 0, 0, repeats,
                  network_input),
            _step("class map to full size", always, True, 1, pixels.nbytes, repeats, back_to_source),
            _step("mask message", subscribed, not np.shares_memory(pixels, mask), 0, 0, repeats,
                  lambda: builder.serialized.segmentation(perception)),
            _step("publish mask: ours to middleware's memory", subscribed, True, 2, mask.nbytes, repeats,
                  lambda: publish_serialized(masks, mask)),
            _step("draw overlay", subscribed, not np.shares_memory(drawn, source), 1, drawn.nbytes, repeats,
                  lambda: draw_overlay(frame.image_bgr, perception, model.contract)),
            _step("overlay message", subscribed, True, 1, drawn.nbytes, repeats,
                  lambda: builder.picture(perception, drawn)),
            _step("mask as PNG", subscribed, True, 1, len(builder.segmentation_png(perception).data), repeats,
                  lambda: builder.segmentation_png(perception)),
        ]  # fmt: skip


def _camera_message() -> Any:
    from sensor_msgs.msg import Image

    from ros_kd_perception.sample_drive import SampleDrive

    image = SampleDrive(seed=1, weather="day").render("front", 5.0).image_bgr
    assert image.shape == (HEIGHT, WIDTH, 3)
    message = Image(height=HEIGHT, width=WIDTH, encoding="bgr8", step=WIDTH * 3)
    message.data = array.array("B", image.tobytes())
    return message


def _step(
    name: str,
    when: str,
    copied: bool,
    copies: int,
    size: int,
    repeats: int,
    work: Callable[[], object],
    before: Callable[[], object] = lambda: None,
) -> Step:
    source = np.ones(max(size, 1), np.uint8)
    copy = np.empty_like(source)

    def plain_copy() -> None:
        copy[:] = source

    plain_copy_ms = _least_ms(plain_copy, repeats) if size else 0.0
    return Step(name, when, copied, copies, size, round(_least_ms(work, repeats, before), 4), round(plain_copy_ms, 4))


def _least_ms(work: Callable[[], object], repeats: int, before: Callable[[], object] = lambda: None) -> float:
    """Return the least CPU time of this thread. The first run is left out, because it allocates memory.

    Args:
        work: What is measured.
        repeats: Number of runs.
        before: Called before each run, and not measured.
    """
    before()
    work()
    least_ns = None
    for _ in range(repeats):
        before()
        started_ns = time.thread_time_ns()
        work()
        taken_ns = time.thread_time_ns() - started_ns
        least_ns = taken_ns if least_ns is None else min(least_ns, taken_ns)
    assert least_ns is not None
    return least_ns / 1e6


def print_table(steps: list[Step], provider: str) -> None:
    """Print the figures as a table."""
    print(f"one frame of {WIDTH}x{HEIGHT} bgr8; least CPU time of each step alone, one thread")
    print(f"  network: {provider}\n")
    print(f"  {'step':<42}{'writes':>16}{'CPU':>12}{'plain copy':>14}   when")
    for step in steps:
        writes = f"{step.copies} x {step.bytes / 1e6:.2f} MB" if step.copied else "no copy"
        plain = f"{step.plain_copy_ms:.3f} ms" if step.copied else ""
        print(f"  {step.name:<42}{writes:>16}{step.cpu_ms:9.3f} ms{plain:>14}   {step.when}")


if __name__ == "__main__":
    sys.exit(main())
