#!/usr/bin/env python3
"""Measure the node's overhead: from a camera message to handing its results to publish, over bare `session.run`.

The real node runs in this process on a real ROS 2 graph of its own. A second process publishes one rendered 1280x720
bgr8 frame at a time. After each frame the same session runs bare, twice, on the same network input and in the same
thread, so that all runs have the same conditions; another thread could run on another core with other caches. One
thread, full-size mask, and a score threshold that lets at least the given number of boxes pass. The result is the
median of five repeats.

Two runs of a network never take equally long, and their difference counts as overhead or as its opposite. So the
benchmark also prints the difference of the two bare runs, and the node's own share: its time minus that of its own run.

Usage: python benchmarks/node_overhead.py [--model MODEL.onnx] [--device DEVICE] [--precision PRECISION] [--boxes N]
       [--frames N] [--json OUT] [--check]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "ROS_KD_PERCEPTION_BENCHMARK"
REPEATS = 5
WARM_UP_FRAMES = 10
MARKS = {
    "fp32": {"ratio": 1.05, "overhead p50": 1.3, "overhead p95": 3.0},
    "int8": {"ratio": 1.10},  # the run takes a third of the time, what lies around it takes the same
}
"""Limits of `--check` by the precision of the model file. Other precisions have those of fp32."""
STAGES = ("wait for threads", "take", "decode", "letterbox", "network", "back to source", "build messages", "other")


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--precision", default="auto", help="the node's parameter; fp16 needs tensorrt (auto)")
    parser.add_argument("--boxes", type=int, default=20, help="least number of boxes in a frame (20); 100 is every row")
    parser.add_argument("--frames", type=int, default=60, help="frames in a repeat (60)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--check", action="store_true", help="exit status 1 beyond the limits, for a quiet machine")
    arguments = parser.parse_args()
    if arguments.frames < 1 or not arguments.model.is_file():
        parser.error(f"expected a model file and at least one frame, got {arguments.model} and {arguments.frames}")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    result = measure(arguments.model, arguments.device, arguments.precision, arguments.frames, arguments.boxes)
    print_table(result)
    if arguments.json:
        part = arguments.json.with_name(arguments.json.name + ".part")
        part.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        part.replace(arguments.json)
    beyond = beyond_marks(result) if arguments.check else []
    for sentence in beyond:
        print(sentence, file=sys.stderr)
    return 1 if beyond else 0


def run_on_own_graph() -> int:
    """Run this script again with a ROS domain of its own, without network traffic, and with room for large images."""
    from ros_kd_perception.system.ros_environment import isolated_environment

    with tempfile.TemporaryDirectory() as log_folder:
        environment = isolated_environment(os.environ, ROOT / "config" / "fastdds_large_images.xml", Path(log_folder))
        return subprocess.run([sys.executable, *sys.argv], env={**environment, INSIDE: "1"}, check=False).returncode


def publish_on_request(connection: Connection, image_bytes: bytes, height: int, width: int) -> None:
    """Run the second process: publish one frame with the stamp that comes through the pipe, until None comes."""
    import array

    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2DArray

    rclpy.init()
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, "front/image_raw", qos_profile_sensor_data)
    # Results without a subscriber are not written.
    node.create_subscription(Image, "/perception/front/segmentation", print, qos_profile_sensor_data)
    node.create_subscription(Detection2DArray, "/perception/front/detections", print, qos_profile_sensor_data)
    message = Image(height=height, width=width, encoding="bgr8", step=width * 3)
    message.header.frame_id = "front_optical_frame"
    message.data = array.array("B", image_bytes)
    while publisher.get_subscription_count() == 0:
        time.sleep(0.01)
    connection.send("connected")
    while (stamp_ns := connection.recv()) is not None:
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        publisher.publish(message)
    rclpy.shutdown()


class Stopwatch:
    """Milliseconds that wrapped methods take, by name."""

    def __init__(self) -> None:
        self.durations_ms: dict[str, list[float]] = defaultdict(list)

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Time each call of `owner.method`."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*arguments, **keywords)
            finally:
                self.durations_ms[name].append((time.perf_counter() - started) * 1e3)

        setattr(owner, method, timed)


def measure(model_path: Path, device: str, precision: str, frames: int, boxes: int) -> dict[str, Any]:
    """Start the node, alternate its frames with bare runs, and summarise."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from ros_kd_perception.ros.perception_node import PerceptionNode
    from ros_kd_perception.sample_drive import SampleDrive

    image = SampleDrive(seed=1, weather="day").render("front", 5.0).image_bgr
    rclpy.init()
    overrides = {
        "model": str(model_path),
        "device": device,
        "precision": precision,
        "intra_op_threads": 1,
        "score_threshold": 0.0,
        "preparation_processes": "0",
    }
    node = PerceptionNode(parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    node.trigger_configure()
    pipeline = node._pipeline
    assert pipeline is not None, "the node did not configure; its log says why"
    threshold = _score_of_box(boxes, image, pipeline._running.perceiver)
    node.set_parameters([Parameter("score_threshold", value=threshold)])
    probe = _Probe(pipeline)
    node.trigger_activate()
    here, there = multiprocessing.get_context("spawn").Pipe()
    sender = multiprocessing.get_context("spawn").Process(
        target=publish_on_request, args=(there, image.tobytes(), *image.shape[:2]), daemon=True
    )
    sender.start()
    here.recv()
    results = pipeline._sinks[0]
    while not (results._masks["front"].get_subscription_count() and results._boxes["front"].get_subscription_count()):
        time.sleep(0.01)
    repeats = [_one_repeat(probe, here, frames, warm_up=repeat == 0) for repeat in range(REPEATS)]
    here.send(None)
    sender.join(10)
    executor.shutdown()
    spinning.join()
    node.trigger_shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    figures = _summary(repeats, probe, frames)
    model = pipeline.model
    named = {"model": model_path.name, "precision": model.contract.precision, "provider": model.provider.what_runs}
    return {**named, **figures}


def _score_of_box(number: int, image_bgr: Any, perceiver: Any) -> float:
    from ros_kd_perception.structures import Frame

    [perception] = perceiver.perceive([Frame("front", 1, "", image_bgr)])
    scores = np.sort(perception.detections.scores)[::-1]
    if len(scores) < number:
        raise SystemExit(f"expected at least {number} boxes, the model gives {len(scores)}; give fewer --boxes")
    return float(scores[number - 1])


@dataclass(frozen=True)
class Repeat:
    """Milliseconds of each frame.

    Attributes:
        node_ms: From the note of its arrival until its results are handed to publish, without `take_ms`.
        take_ms: Taking the message from the middleware. An executor does that before it calls a callback.
        network_ms: Its own run, within `node_ms`.
        bare_ms: A bare run after it.
        bare_again_ms: Another one.
    """

    node_ms: np.ndarray
    take_ms: np.ndarray
    network_ms: np.ndarray
    bare_ms: np.ndarray
    bare_again_ms: np.ndarray


class _Probe:
    """Observes the pipeline: when a frame is handed to publish, and how long each stage took."""

    def __init__(self, pipeline: Any) -> None:
        from ros_kd_perception.scheduling import preparation

        self.done = threading.Event()
        self.bare_ms: list[tuple[float, float]] = []
        self.total_ms: list[float] = []
        self.process_ms: list[float] = []
        self.timings: list[Any] = []
        self.boxes: list[int] = []
        self.stopwatch = Stopwatch()
        self.stopwatch.wrap(preparation, "frame_from_message", "decode")
        self.stopwatch.wrap(pipeline._running.builder.serialized, "segmentation", "mask")
        self.stopwatch.wrap(pipeline._running.builder.serialized, "detections", "boxes")
        images = pipeline._images._images["front"]
        self.stopwatch.wrap(images, "collect", "take")
        perceive = pipeline._running.perceiver.perceive_prepared
        record = pipeline._health["front"].record
        process = pipeline.worker.process
        bare_input = pipeline._running.perceiver._input.copy()

        def perceive_and_note(batch: Any) -> Any:
            perceptions = perceive(batch)
            self.timings.append(perceptions[0].timing)
            self.boxes.append(len(perceptions[0].detections))
            return perceptions

        def record_and_note(handed_ns: int, times: Any) -> None:
            self.process_ms.append(times.processing_ms)
            self.total_ms.append((handed_ns - images._noted_ns) / 1e6)
            record(handed_ns, times)

        def process_and_run_bare(*batch: Any) -> None:
            process(*batch)
            self.bare_ms.append((_bare_run_ms(pipeline, bare_input), _bare_run_ms(pipeline, bare_input)))
            self.done.set()

        pipeline.worker.process = process_and_run_bare
        pipeline._running.perceiver.perceive_prepared = perceive_and_note
        pipeline._health["front"].record = record_and_note

    def forget(self) -> None:
        """Clear all figures after the warm-up."""
        for values in (self.total_ms, self.process_ms, self.timings, self.boxes, self.bare_ms):
            values.clear()
        self.stopwatch.durations_ms.clear()

    def stages_ms(self) -> dict[str, float]:
        """Return the median of each stage."""
        durations = self.stopwatch.durations_ms
        stages = {
            "wait for threads": np.array(self.total_ms) - np.array(self.process_ms) - np.array(durations["take"]),
            "take": np.array(durations["take"]),
            "decode": np.array(durations["decode"]),
            "letterbox": np.array([t.preprocess_ms for t in self.timings]),
            "network": np.array([t.inference_ms for t in self.timings]),
            "back to source": np.array([t.postprocess_ms for t in self.timings]),
            "build messages": np.array(durations["mask"]) + np.array(durations["boxes"]),
        }
        stages["other"] = np.array(self.total_ms) - sum(stages.values())
        return {name: float(np.median(stages[name])) for name in STAGES}


def _one_repeat(probe: _Probe, camera: Connection, frames: int, warm_up: bool) -> Repeat:
    first = len(probe.total_ms)
    for index in range(frames + (WARM_UP_FRAMES if warm_up else 0)):
        if warm_up and index == WARM_UP_FRAMES:
            probe.forget()
            first = 0
        probe.done.clear()
        camera.send(time.time_ns())
        if not probe.done.wait(10):
            raise SystemExit("no result for a frame within 10 s; see the node's log above")
    network_ms = [timing.inference_ms for timing in probe.timings[first:]]
    take_ms = np.array(probe.stopwatch.durations_ms["take"][first:])
    total_ms = np.array(probe.total_ms[first:])
    return Repeat(total_ms - take_ms, take_ms, np.array(network_ms), *np.array(probe.bare_ms[first:]).T)


def _bare_run_ms(pipeline: Any, bare_input: np.ndarray) -> float:
    started = time.perf_counter()
    pipeline.model.run(bare_input)
    return (time.perf_counter() - started) * 1e3


def _quantiles(repeats: list[Repeat], of: Callable[[Repeat], np.ndarray]) -> dict[str, float]:
    p50, p95 = np.median([np.percentile(of(repeat), [50, 95]) for repeat in repeats], axis=0)
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _summary(repeats: list[Repeat], probe: _Probe, frames: int) -> dict[str, Any]:
    ratios = [float(np.median(repeat.node_ms) / np.median(repeat.bare_ms)) for repeat in repeats]
    return {
        "frames": frames,
        "repeats": len(repeats),
        "boxes": min(probe.boxes),
        "overhead_ratio": round(float(np.median(ratios)), 4),
        "overhead_ratio_of_each_repeat": [round(ratio, 4) for ratio in ratios],
        "callback_to_publish_ms": _quantiles(repeats, lambda repeat: repeat.node_ms),
        "overhead_ms": _quantiles(repeats, lambda repeat: repeat.node_ms - repeat.bare_ms),
        "take_ms": _quantiles(repeats, lambda repeat: repeat.take_ms),
        "own_ms": _quantiles(repeats, lambda repeat: repeat.node_ms - repeat.network_ms),
        "bare_difference_ms": _quantiles(repeats, lambda repeat: repeat.bare_again_ms - repeat.bare_ms),
        "run_ms": round(float(np.median([np.median(repeat.bare_ms) for repeat in repeats])), 3),
        "stages_ms": {name: round(value, 3) for name, value in probe.stages_ms().items()},
    }


def beyond_marks(result: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that is beyond its limit."""
    overhead_ms = result["overhead_ms"]
    figures = {
        "ratio": result["overhead_ratio"],
        "overhead p50": overhead_ms["p50"],
        "overhead p95": overhead_ms["p95"],
    }
    marks = MARKS.get(result["precision"], MARKS["fp32"])
    return [
        f"expected {name} of at most {mark:.2f} for {result['precision']}, got {figures[name]}"
        for name, mark in marks.items()
        if figures[name] > mark
    ]


def print_table(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"{result['model']} ({result['precision']}): 1280x720 bgr8, {result['boxes']} boxes or more, one thread")
    print(f"  network: {result['provider']}")
    print(f"  {result['repeats']} repeats of {result['frames']} frames, each beside a bare run; medians\n")
    for name, value in result["stages_ms"].items():
        print(f"  {name:<22}{value:8.3f} ms")
    print(f"\n  {'bare session.run':<36}{result['run_ms']:8.3f} ms\n\n  {'':<36}{'p50':>11}{'p95':>11}")
    rows = {
        "callback to publish": "callback_to_publish_ms",
        "overhead: node less a bare run": "overhead_ms",
        "one bare run less another": "bare_difference_ms",
        "own: node less its own run": "own_ms",
        "taking the message, not in these": "take_ms",
    }
    for name, key in rows.items():
        print(f"  {name:<36}{result[key]['p50']:8.3f} ms{result[key]['p95']:8.3f} ms")
    print(f"\n  {'ratio':<36}{result['overhead_ratio']:8.3f}      each: {result['overhead_ratio_of_each_repeat']}")


if __name__ == "__main__":
    sys.exit(main())
