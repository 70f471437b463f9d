#!/usr/bin/env python3
"""Measure the gap in the results when the model changes, and the cost of a shadow model for the active one.

The real node runs in a process of its own, on a real ROS 2 graph of its own. A second process is a camera that
publishes one rendered 1280x720 bgr8 frame at a fixed rate; this process listens. Run it on a machine that does nothing
else.

swap:    calls ~/reload_model repeatedly, alternating between two students. Prints the longest time between two results
         around each swap, and for comparison in an equally long time without a swap.
shadow:  prints the time from camera frame to result, alternating between runs with and without a shadow model.

Usage: python benchmarks/model_changes.py swap [--device DEVICE] [--rate HZ] [--swaps N] [--json OUT]
       python benchmarks/model_changes.py shadow [--device DEVICE] [--rate HZ] [--seconds S] [--share 0..1] [--json OUT]
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_option import add_device_option

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "ROS_KD_PERCEPTION_BENCHMARK"
STUDENT = ROOT / "models" / "student.onnx"
TIMEOUT_S = 300.0
SETTLE_S = 2.0
ROUNDS = 4


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    for job in (jobs.add_parser("swap"), jobs.add_parser("shadow")):
        job.add_argument("--model", type=Path, default=STUDENT, help="student that runs")
        job.add_argument("--other", type=Path, default=STUDENT, help="student to swap in, or the shadow")
        add_device_option(job, "auto")
        job.add_argument("--rate", type=float, default=30.0, help="frames a second (30)")
        job.add_argument("--threads", type=int, default=1, help="threads of the network, 0: ONNX Runtime chooses (1)")
        job.add_argument("--json", type=Path, help="also write the figures here")
    jobs.choices["swap"].add_argument("--swaps", type=int, default=10, help="number of swaps (10)")
    jobs.choices["shadow"].add_argument("--seconds", type=float, default=20.0, help="length of each turn (20)")
    jobs.choices["shadow"].add_argument("--share", type=float, default=1.0, help="share of the frames (1.0)")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        return run_on_own_graph()
    result = measure(arguments)
    print(json.dumps(result, indent=1, allow_nan=False))
    if arguments.json:
        part = arguments.json.with_name(arguments.json.name + ".part")
        part.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        part.replace(arguments.json)
    return 0


def run_on_own_graph() -> int:
    """Run this script again with a ROS domain of its own, without network traffic, and with room for large images."""
    from ros_kd_perception.system.ros_environment import isolated_environment

    with tempfile.TemporaryDirectory() as log_folder:
        environment = isolated_environment(os.environ, ROOT / "config" / "fastdds_large_images.xml", Path(log_folder))
        # Without a cache folder every swap is one to a new model, which is tried first.
        environment |= {INSIDE: "1", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": os.devnull}
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


def publish_at(rate_hz: float, image_bytes: bytes, height: int, width: int) -> None:
    """Run the second process: a camera whose stamps are the steady clock."""
    import array

    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Image

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # a signal must end it at once
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, "front/image_raw", qos_profile_sensor_data)
    message = Image(height=height, width=width, encoding="bgr8", step=width * 3)
    message.header.frame_id = "front_optical_frame"
    message.data = array.array("B", image_bytes)
    next_s = time.monotonic()
    while True:
        next_s += 1 / rate_hz
        time.sleep(max(0.0, next_s - time.monotonic()))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.monotonic_ns(), 10**9)
        publisher.publish(message)


class Listener:
    """Stores when each result came and how old its frame was, and calls services of the node."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from vision_msgs.msg import Detection2DArray

        self.node = rclpy.create_node("listener")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.results: list[tuple[float, float]] = []  # steady clock, milliseconds from the camera's stamp
        self.node.create_subscription(Detection2DArray, "/perception/front/detections", self._keep, 50)
        self.provider = ""  # runs the node's network; or why it is not the one that was asked for
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_provider, 10)

    def _keep(self, message: Any) -> None:
        now_s = time.monotonic()
        self.results.append((now_s, (now_s - message.header.stamp.sec - message.header.stamp.nanosec / 1e9) * 1e3))

    def _keep_provider(self, message: Any) -> None:
        from ros_kd_perception.demo.drive_summary import read_node_report

        report = read_node_report(message)
        self.provider = report.fallback or report.provider

    def until(self, condition: Callable[[], Any]) -> None:
        """Spin until the condition holds."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline_s:
                raise TimeoutError("the node did not answer in time; its log is above")
            self._executor.spin_once(timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        """Listen for a while."""
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end_s)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service and wait for the response."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def set(self, **values: str | float) -> None:
        """Set parameters of the node."""
        from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
        from rcl_interfaces.srv import SetParameters

        request = SetParameters.Request()
        for name, value in values.items():
            kind = ParameterType.PARAMETER_STRING if isinstance(value, str) else ParameterType.PARAMETER_DOUBLE
            field = {"string_value": value} if isinstance(value, str) else {"double_value": value}
            request.parameters.append(Parameter(name=name, value=ParameterValue(type=kind, **field)))
        for answer in self.call(SetParameters, "/perception/set_parameters", request).results:
            if not answer.successful:
                raise ValueError(answer.reason)

    def gap_ms(self, start_s: float, end_s: float) -> float:
        """Return the longest time between two results in an interval."""
        times = [at_s for at_s, _ in self.results if start_s <= at_s <= end_s]
        return max((b - a) * 1e3 for a, b in itertools.pairwise(times))

    def ages_ms(self, start_s: float, end_s: float) -> list[float]:
        """Return the times from camera frame to result, for the results of an interval."""
        return [age for at_s, age in self.results if start_s <= at_s <= end_s]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start camera and node, and run the job."""
    import rclpy

    from ros_kd_perception.sample_drive import SampleDrive

    image = SampleDrive(seed=1, weather="day").render("front", 5.0).image_bgr
    parameters = {
        "model": arguments.model,
        "device": arguments.device,
        "autostart": "true",
        "intra_op_threads": arguments.threads,
    }
    settings = [item for name, value in parameters.items() for item in ("-p", f"{name}:={value}")]
    node = subprocess.Popen(
        [sys.executable, "-m", "ros_kd_perception.ros.perception_node", "--ros-args", *settings], stdout=sys.stderr
    )
    camera = multiprocessing.get_context("spawn").Process(
        target=publish_at, args=(arguments.rate, image.tobytes(), *image.shape[:2]), daemon=True
    )
    camera.start()
    rclpy.init()
    try:
        listener = Listener()
        listener.until(lambda: len(listener.results) > 10 and listener.provider)
        listener.spin_for(SETTLE_S)
        figures = swap(listener, arguments) if arguments.job == "swap" else shadow(listener, arguments)
    finally:
        camera.terminate()
        node.send_signal(signal.SIGTERM)
        node.wait(30)
        rclpy.try_shutdown()
    asked = {"job": arguments.job, "rate_hz": arguments.rate, "threads": arguments.threads}
    return {**asked, "provider": listener.provider, **figures}


def swap(listener: Listener, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the longest gap around each swap, and in an equally long time without one."""
    from std_srvs.srv import Trigger

    gaps_ms, quiet_ms, took_s = [], [], []
    for model, _ in zip(itertools.cycle((arguments.other, arguments.model)), range(arguments.swaps), strict=False):
        listener.set(model=str(model.resolve()))
        start_s = time.monotonic()
        answer = listener.call(Trigger, "/perception/reload_model", Trigger.Request())
        if not answer.success:
            raise ValueError(answer.message)
        took_s.append(time.monotonic() - start_s)
        listener.spin_for(SETTLE_S / 2)
        end_s = time.monotonic()
        gaps_ms.append(listener.gap_ms(start_s, end_s))
        listener.spin_for(end_s - start_s)
        quiet_ms.append(listener.gap_ms(end_s, time.monotonic()))
    return {
        "swaps": len(gaps_ms),
        "longest_gap_ms": max(gaps_ms),
        "median_of_longest_gaps_ms": statistics.median(gaps_ms),
        "longest_gap_without_swap_ms": max(quiet_ms),
        "camera_period_ms": 1e3 / arguments.rate,
        "median_reload_s": statistics.median(took_s),
    }


def shadow(listener: Listener, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure from camera frame to result, alternating without and with a shadow."""
    ages_ms: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(ROUNDS):
        for turn, share in (("without", 0.0), ("with", arguments.share)):
            listener.set(shadow_share=share, shadow_model=str(arguments.other.resolve()) if share else "")
            listener.spin_for(SETTLE_S)
            start_s = time.monotonic()
            listener.spin_for(arguments.seconds / ROUNDS)
            ages_ms[turn] += listener.ages_ms(start_s, time.monotonic())
    figures: dict[str, Any] = {"share": arguments.share}
    for turn, ages in ages_ms.items():
        marks = statistics.quantiles(ages, n=100)
        figures |= {f"{turn}.frames": len(ages), f"{turn}.age_p50_ms": marks[49], f"{turn}.age_p95_ms": marks[94]}
    figures["p50_ratio"] = figures["with.age_p50_ms"] / figures["without.age_p50_ms"]
    return figures


if __name__ == "__main__":
    sys.exit(main())
