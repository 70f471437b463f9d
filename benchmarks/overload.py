#!/usr/bin/env python3
"""Send more images than the machine can run. Ages must stay below one round of the cameras, and memory constant.

The node is one process. Every camera is another process that publishes rendered 1280x720 bgr8 images: at a rising rate
in the first half, and at `--rate` a second in the second half. Ages are measured at publish, from the header stamp; the
node publishes them on `~/debug/<camera>/pipeline_latency_ms`. Memory and open files are the kernel's figures for the
node's process.

Usage: python benchmarks/overload.py [--model MODEL.onnx] [--device DEVICE] [--seconds S] [--cameras N] [--rate HZ]
       [--threads N] [--json OUT] [--plot OUT.svg]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from device_option import add_device_option
from process_memory import figures_of

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "ROS_KD_PERCEPTION_BENCHMARK"
DIAGNOSTICS_PERIOD_S = 0.5
START_TIMEOUT_S = 120.0
FIRST_RATE_HZ = 1.0


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "auto")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurement (60)")
    parser.add_argument("--cameras", type=int, default=4, help="number of cameras (4)")
    parser.add_argument(
        "--rate", type=float, default=30.0, help="images a second of each camera in the second half (30)"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads of a network run (0: ONNX Runtime chooses)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="write ages, rates and memory over time as SVG")
    arguments = parser.parse_args()
    if not arguments.model.is_file() or arguments.seconds < 4 or not 1 <= arguments.cameras <= 16 or arguments.rate < 2:
        parser.error("expected a model file, 4 seconds or more, 1 to 16 cameras and 2 images a second or more")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    command = partial(node_command, arguments.model, arguments.device, threads=arguments.threads)
    figures = measure(command, arguments.seconds, arguments.cameras, arguments.rate)
    result = {"model": arguments.model.name, **figures}
    print_table(result)
    if arguments.json:
        write(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if arguments.plot:
        write(arguments.plot, drawing(result))
    return 0


def run_on_own_graph() -> int:
    """Run this script again with a ROS domain of its own, without network traffic, and with room for large images."""
    from ros_kd_perception.system.ros_environment import isolated_environment

    with tempfile.TemporaryDirectory() as log_folder:
        environment = isolated_environment(os.environ, ROOT / "config" / "fastdds_large_images.xml", Path(log_folder))
        return subprocess.run([sys.executable, *sys.argv], env={**environment, INSIDE: "1"}, check=False).returncode


def write(path: Path, text: str) -> None:
    """Write a complete file, or no file if writing fails."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def publish_images(
    camera: str, seed: int, rate_hz: float, start: Any, ramp_s: float, size: tuple[int, int] | None = None
) -> None:
    """Run a camera process: publish at a rising rate after `start` is set, until SIGTERM.

    Args:
        camera: Its name.
        seed: Of the picture.
        rate_hz: Images a second at the end of the ramp.
        start: An event; it publishes once it is set.
        ramp_s: Seconds until the rate is reached.
        size: Width and height in pixels. None for 1280x720.
    """
    import array

    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    from ros_kd_perception.sample_drive import SampleDrive

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    image = SampleDrive(seed=seed, weather="day").render("front", 5.0).image_bgr
    if size is not None:
        image = cv2.resize(image, size)
    rclpy.init()
    node = rclpy.create_node(f"camera_{camera}")
    publisher = node.create_publisher(Image, f"{camera}/image_raw", qos_profile_sensor_data)
    message = Image(height=image.shape[0], width=image.shape[1], encoding="bgr8", step=image.shape[1] * 3)
    message.header.frame_id = f"{camera}_optical_frame"
    message.data = array.array("B", image.tobytes())
    start.wait()
    began = due = time.monotonic()
    while True:
        message.data[0] = (message.data[0] + 1) % 256  # every picture differs from the one before
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        publisher.publish(message)
        share = min(1.0, (time.monotonic() - began) / ramp_s)
        due = max(due + 1.0 / (FIRST_RATE_HZ + share * (rate_hz - FIRST_RATE_HZ)), time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


class Observer:
    """Stores what the node publishes about itself, with seconds since the start of the measurement."""

    def __init__(self, node: Any, cameras: Sequence[str], node_pid: int) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from std_msgs.msg import Float64

        self._process_id = node_pid
        self.began_s = 0.0
        self.provider = ""
        self.states: dict[str, str] = {}
        self.ages: dict[str, list[tuple[float, float]]] = {camera: [] for camera in cameras}
        self.processing_ms: list[tuple[float, float]] = []
        self.samples: list[dict[str, Any]] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, 10)
        for camera in cameras:
            topic = f"/perception/debug/{camera}/pipeline_latency_ms"
            node.create_subscription(Float64, topic, partial(self._keep, self.ages[camera]), 10)
        node.create_subscription(
            Float64, "/perception/debug/processing_time_ms", partial(self._keep, self.processing_ms), 10
        )

    def _now_s(self) -> float:
        return time.monotonic() - self.began_s if self.began_s else -1.0

    def _keep(self, values: list[tuple[float, float]], message: Any) -> None:
        values.append((self._now_s(), message.data))

    def _keep_diagnostics(self, message: Any) -> None:
        from ros_kd_perception.demo.drive_summary import read_node_report

        report = read_node_report(message)
        self.provider = report.fallback or report.provider
        sample: dict[str, Any] = {"at_s": self._now_s(), **figures_of(self._process_id)}
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            camera = status.name.rpartition(": ")[2]
            if camera in self.ages and "received" in values:
                self.states[camera] = values["state"]
                sample[camera] = {
                    key: int(value)
                    for key, value in values.items()
                    if key in ("received", "published") or key.startswith("dropped.")
                }
        self.samples.append(sample)


def measure(
    command: Callable[[Sequence[str]], list[str]], seconds: float, count: int, rate_hz: float
) -> dict[str, Any]:
    """Start the node and its cameras, listen for the given time, and summarise."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    cameras = [f"camera{number}" for number in range(count)]
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Event()
    with ExitStack() as stack:
        node_process = stack.enter_context(subprocess.Popen(command(cameras)))
        stack.callback(node_process.terminate)
        for seed, camera in enumerate(cameras):
            process = spawn.Process(target=publish_images, args=(camera, seed, rate_hz, start, seconds / 2))
            process.start()
            stack.callback(process.join, 10)
            stack.callback(process.terminate)
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("overload_observer")
        observer = Observer(node, cameras, node_process.pid)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        wait_for_the_start(executor, node, observer, cameras, node_process)
        observer.began_s = time.monotonic()
        start.set()
        while time.monotonic() - observer.began_s < seconds:
            executor.spin_once(timeout_sec=0.1)
            if node_process.poll() is not None:
                raise SystemExit("the node ended during the measurement; see its log above")
        return summary(observer, cameras, seconds, rate_hz)


def node_command(model: Path, device: str, cameras: Sequence[str], threads: int, more: Sequence[str] = ()) -> list[str]:
    """Return the command of the node as a user would run it, but with more frequent diagnostics."""
    parameters = {
        "model": str(model),
        "device": device,
        "cameras": f"[{', '.join(cameras)}]",
        "intra_op_threads": str(threads),
        "autostart": "true",
        "max_age_ms": "0.0",  # only the turns of the cameras limit the ages
        "diagnostics_period_s": str(DIAGNOSTICS_PERIOD_S),
    }
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    arguments += [word for assignment in more for word in ("-p", assignment)]
    return [sys.executable, "-m", "ros_kd_perception.ros.perception_node", "--ros-args", *arguments]


def wait_for_the_start(executor: Any, node: Any, observer: Observer, cameras: Sequence[str], process: Any) -> None:
    """Spin until the node is active and every camera has been found."""
    deadline = time.monotonic() + START_TIMEOUT_S
    topics = [f"/{camera}/image_raw" for camera in cameras]
    while True:
        executor.spin_once(timeout_sec=0.1)
        active = len(observer.states) == len(cameras) and "inactive" not in observer.states.values()
        if active and all(node.count_publishers(t) and node.count_subscribers(t) for t in topics):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"expected an active node and {len(cameras)} cameras, got {observer.states}")


def summary(observer: Observer, cameras: Sequence[str], seconds: float, rate_hz: float) -> dict[str, Any]:
    """Return the figures of the second half, in which the rate is constant, and the data of the plot."""
    half_s = seconds / 2
    held = [sample for sample in observer.samples if sample["at_s"] >= half_s and all(c in sample for c in cameras)]
    if len(held) < 2 or not all(any(at_s >= half_s for at_s, _ in observer.ages[c]) for c in cameras):
        raise SystemExit("expected results of every camera in the second half; measure for longer")
    first, last = held[0], held[-1]
    span_s = last["at_s"] - first["at_s"]
    ages = {c: [age_ms for at_s, age_ms in observer.ages[c] if at_s >= half_s] for c in cameras}
    processing = [value for at_s, value in observer.processing_ms if at_s >= half_s]
    counts = {c: {key: last[c][key] - first[c][key] for key in last[c]} for c in cameras}
    rates_out = {c: counts[c]["published"] / span_s for c in cameras}
    turn_ms = len(cameras) * float(np.median(processing))
    worst_p99_ms = max(float(np.percentile(values, 99)) for values in ages.values())
    return {
        "provider": observer.provider,
        "cameras": len(cameras),
        "rate_hz": rate_hz,
        "seconds": seconds,
        "overloaded": sum(rates_out.values()) < 0.9 * sum(counts[c]["received"] for c in cameras) / span_s,
        "processing_ms": percentiles(processing),
        "turn_ms": round(turn_ms, 1),
        "age_ms": {c: percentiles(values) for c, values in ages.items()},
        "age_p99_over_turn": round(worst_p99_ms / turn_ms, 3),
        "rate_in_hz": {c: round(counts[c]["received"] / span_s, 2) for c in cameras},
        "rate_out_hz": {c: round(rate, 2) for c, rate in rates_out.items()},
        "slowest_over_fastest": round(min(rates_out.values()) / max(rates_out.values()), 3),
        "dropped": {
            c: {k.removeprefix("dropped."): n for k, n in counts[c].items() if k.startswith("dropped.") and n}
            for c in cameras
        },
        "rss_mib": {"at_half": round(first["rss_mib"], 1), "at_end": round(last["rss_mib"], 1)},
        "own_mib": {"at_half": round(first["own_mib"], 1), "at_end": round(last["own_mib"], 1)},
        "open_files": {"at_half": int(first["files"]), "at_end": int(last["files"])},
        "series": {
            "ages": {c: [(round(t, 3), round(v, 2)) for t, v in observer.ages[c] if t >= 0] for c in cameras},
            "rates": {c: rate_series(observer.samples, c) for c in cameras},
            "rss_mib": [(round(s["at_s"], 2), round(s["rss_mib"], 1)) for s in observer.samples if s["at_s"] >= 0],
        },
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the largest value."""
    marks = np.percentile(values, [50, 95, 99, 100])
    return {name: round(float(mark), 1) for name, mark in zip(("p50", "p95", "p99", "max"), marks, strict=True)}


def rate_series(samples: Sequence[dict[str, Any]], camera: str) -> dict[str, list[tuple[float, float]]]:
    """Return images a second over time, received and published, each over the last 2 s."""
    known = [sample for sample in samples if sample["at_s"] >= 0 and camera in sample]
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for index, now in enumerate(known):
        before = known[max(0, index - round(2 / DIAGNOSTICS_PERIOD_S))]
        span_s = now["at_s"] - before["at_s"]
        for key in ("received", "published") if span_s > 0 else ():
            series[key].append((round(now["at_s"], 2), round((now[camera][key] - before[camera][key]) / span_s, 2)))
    return series


def drawing(result: dict[str, Any]) -> str:
    """Return a plot of ages, rates and memory over time, one below the other, as SVG."""
    from ros_kd_perception.drawing.plots import Series, document_svg, lines, scatter

    data = result["series"]
    color = {camera: f"C{index}" for index, camera in enumerate(data["ages"])}
    ages = [Series(camera, color[camera], points) for camera, points in data["ages"].items()]
    received = [Series(camera, "silver", rates["received"]) for camera, rates in data["rates"].items()]
    published = [Series(camera, color[camera], rates["published"]) for camera, rates in data["rates"].items()]

    def draw_ages(axes: Any) -> None:
        scatter(axes, ages, "seconds", "age (ms)", {})
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=len(ages), frameon=False)

    return document_svg(
        {
            f"Age of results at publish; a turn of the cameras is {result['turn_ms']:.0f} ms": draw_ages,
            "Images a second of each camera: sent to the node (grey), published (colours)": lambda axes: lines(
                axes, [*received, *published], "seconds", "images/s"
            ),
            "Memory of the node": lambda axes: lines(
                axes, [Series("rss", "C0", data["rss_mib"])], "seconds", "RSS (MiB)"
            ),
        }
    )


def print_table(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"{result['model']}: {result['cameras']} cameras x {result['rate_hz']:g} images/s of 1280x720 bgr8")
    print(f"  network: {result['provider']}")
    print(f"  second half of {result['seconds']:g} s; {'overloaded' if result['overloaded'] else 'NOT overloaded'}\n")
    print(f"  {'camera':<10}{'in/s':>8}{'out/s':>8}{'age p50':>10}{'p95':>8}{'p99':>8}{'max':>8} ms")
    for camera, age in result["age_ms"].items():
        rates = f"{result['rate_in_hz'][camera]:8.1f}{result['rate_out_hz'][camera]:8.2f}"
        print(f"  {camera:<10}{rates}{age['p50']:10.1f}{age['p95']:8.1f}{age['p99']:8.1f}{age['max']:8.1f}")
    print(
        f"\n  processing of one image   {result['processing_ms']['p50']:8.1f} ms (p99 {result['processing_ms']['p99']})"
    )
    print(f"  one turn of the cameras   {result['turn_ms']:8.1f} ms")
    print(f"  largest age p99 / turn    {result['age_p99_over_turn']:8.3f}")
    print(f"  slowest / fastest camera  {result['slowest_over_fastest']:8.3f}")
    memory, own, files = result["rss_mib"], result["own_mib"], result["open_files"]
    print(f"  memory                    {memory['at_half']:8.1f} MiB at half time, {memory['at_end']} at the end")
    print(f"  its own of that           {own['at_half']:8.1f} MiB at half time, {own['at_end']} at the end")
    print(f"  open files                {files['at_half']:8d} at half time, {files['at_end']} at the end")


if __name__ == "__main__":
    sys.exit(main())
