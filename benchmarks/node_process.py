"""Run the node and a camera as separate processes on a graph of their own, for the benchmarks in this folder.

The node runs like `perception_node`: one thread that spins, and a main thread that waits. Its figures come back through
a pipe; its CPU time is the kernel's figure for its process.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "ROS_KD_PERCEPTION_BENCHMARK"
TIMEOUT_S = 120.0
END_TIMEOUT_S = 30.0
WIDTH, HEIGHT = 1280, 720


def run_on_own_graph() -> int:
    """Run this script again with a ROS domain of its own, without network traffic, and with room for large images."""
    from ros_kd_perception.system.ros_environment import isolated_environment

    with tempfile.TemporaryDirectory() as log_folder:
        environment = isolated_environment(os.environ, ROOT / "config" / "fastdds_large_images.xml", Path(log_folder))
        return subprocess.run([sys.executable, *sys.argv], env={**environment, INSIDE: "1"}, check=False).returncode


def write_whole(path: Path, text: str) -> None:
    """Write a complete file, or no file if writing fails."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def wait_for_message(node: Any, subscription: Any, timeout_s: float = 5.0) -> None:
    """Wait until a message can be taken. Nothing is taken."""
    from rclpy.impl.implementation_singleton import rclpy_implementation

    context = node.context.handle
    with context, subscription.handle:
        wait_set = rclpy_implementation.WaitSet(1, 0, 0, 0, 0, 0, context)
        wait_set.clear_entities()
        wait_set.add_subscription(subscription.handle)
        wait_set.wait(int(timeout_s * 1e9))
        if not wait_set.get_ready_entities("subscription"):
            raise SystemExit(f"expected a message on {subscription.topic_name} within {timeout_s:g} s, none came")


@dataclass(frozen=True)
class Usage:
    """Resources that a process has used since its start: CPU seconds, and wake-ups of each thread."""

    at_s: float
    cpu_s: float
    wake_ups: Mapping[int, int]

    @classmethod
    def of(cls, process_id: int) -> Usage:
        """Read /proc (proc(5)): fields 14 and 15 of stat, and the voluntary context switches of each thread."""
        folder = Path("/proc", str(process_id))
        fields = folder.joinpath("stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        wake_ups = {}
        for thread in folder.joinpath("task").iterdir():
            try:
                status = thread.joinpath("status").read_text()
            except (FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
                continue
            wake_ups[int(thread.name)] = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return cls(time.monotonic(), cpu_s, wake_ups)


class Child:
    """A child process at the other end of a pipe."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.answer()

    @property
    def process_id(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def tell(self, *request: Any) -> None:
        self._pipe.send(request)

    def answer(self, timeout_s: float = TIMEOUT_S) -> Any:
        try:
            if self._pipe.poll(timeout_s):
                return self._pipe.recv()
        except EOFError:
            pass
        raise SystemExit("a process of the benchmark has ended or hangs; see its log above")

    def ask(self, *request: Any) -> Any:
        self.tell(*request)
        return self.answer()

    def end(self) -> None:
        if self._process.is_alive():
            self.tell("end")
        self._process.join(END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def node_and_camera(model: Path, device: str) -> Iterator[tuple[Child, Child]]:
    """Start a configured, inactive node and a camera that does not publish yet."""
    node = Child(serve_node, str(model), device)
    try:
        camera = Child(serve_camera)
        try:
            yield node, camera
        finally:
            camera.end()
    finally:
        node.end()


def serve_camera(pipe: Connection) -> None:
    """Run the camera process.

    It answers `wait` when it has a subscription. For `publish` it publishes at a rate for some seconds and returns the
    number of images.
    """
    import array

    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    publisher = rclpy.create_node("camera").create_publisher(Image, "front/image_raw", qos_profile_sensor_data)
    pixels = np.random.default_rng(0).integers(0, 256, HEIGHT * WIDTH * 3, dtype=np.uint8)
    message = Image(height=HEIGHT, width=WIDTH, encoding="bgr8", step=WIDTH * 3)
    message.header.frame_id = "front_optical_frame"
    message.data = array.array("B", pixels.tobytes())
    pipe.send("ready")
    while (request := pipe.recv())[0] != "end":
        if request[0] == "wait":
            while publisher.get_subscription_count() == 0:
                time.sleep(0.01)
            pipe.send("matched")
            continue
        period_s, count = 1 / request[1], max(1, round(request[1] * request[2]))
        begun = time.monotonic()
        for index in range(count):
            time.sleep(max(0.0, begun + index * period_s - time.monotonic()))
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            publisher.publish(message)
        time.sleep(period_s)
        pipe.send(count)
    rclpy.try_shutdown()


def serve_node(pipe: Connection, model: str, device: str) -> None:
    """Run the node process. It answers `activate`, `deactivate`, and `figures` since the last `figures`."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from ros_kd_perception.ros.perception_node import PerceptionNode

    rclpy.init()
    overrides = {"model": model, "device": device, "intra_op_threads": 1, "score_threshold": 0.0}
    node = PerceptionNode(parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, name="executor", daemon=True)
    spinning.start()
    node.trigger_configure()
    assert node._pipeline is not None, "the node did not configure; its log says why"
    record = _Record(node._pipeline)
    pipe.send("ready")
    while (request := pipe.recv())[0] != "end":
        if request[0] == "figures":
            pipe.send(record.figures())
        else:
            getattr(node, f"trigger_{request[0]}")()
            pipe.send("done")
    executor.shutdown()
    spinning.join()
    node.finalize()
    node.destroy_node()
    rclpy.try_shutdown()


class _Record:
    """Observes the node: times of published frames, and the CPU time of the thread that runs the network."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._latency_ms: list[float] = []
        self._age_ms: list[float] = []
        self._network_cpu_s: list[float] = []
        self._counts = self._now()
        run, record = pipeline.model.run, pipeline._health["front"].record

        def run_and_note(images: Any) -> Any:
            started = time.thread_time()
            outputs = run(images)
            self._network_cpu_s.append(time.thread_time() - started)
            return outputs

        def record_and_note(handed_ns: int, times: Any) -> None:
            self._latency_ms.append(times.latency_ms)
            if times.stamp_age_ms is not None:
                self._age_ms.append(times.stamp_age_ms)
            record(handed_ns, times)

        pipeline.model.run = run_and_note
        pipeline._health["front"].record = record_and_note

    def figures(self) -> dict[str, Any]:
        """Return the figures since the last call."""
        before, self._counts = self._counts, self._now()
        since = self._counts.since(before)
        figures = {
            "provider": self._pipeline.model.provider.what_runs,
            "received": since.received,
            "published": since.published,
            "dropped": {reason: count for reason, count in since.dropped.items() if count},
            "callback_to_publish_ms": _percentiles(self._latency_ms),
            "stamp_to_publish_ms": _percentiles(self._age_ms),
            "network_cpu_s": sum(self._network_cpu_s),
            "threads": {thread.native_id: thread.name for thread in threading.enumerate()},
        }
        for values in (self._latency_ms, self._age_ms, self._network_cpu_s):
            values.clear()
        return figures

    def _now(self) -> Any:
        return self._pipeline._mailbox.counts()["front"]


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{mark}": round(float(np.percentile(values, mark)), 3) for mark in (50, 95, 99)}
