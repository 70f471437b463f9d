#!/usr/bin/env python3
"""Measure the node on the GPU of this machine within a limited time, and write one JSON file. `on_gpu.sh` starts this.

It tries the shipped student with CUDA, in half precision with CUDA, and with TensorRT in both precisions. A provider or
a package that is missing is named and left out. With each network that runs, and each number of worker processes:

- cameras of 1920x1080 at 30 Hz: the share of images that are published, and the age at publish
- cameras of 1280x720 at 60 Hz: images published a second
- one camera: the time from callback to publish, as `node_overhead.py` measures it, without worker processes

Every figure with an aim is under `marks` with `value`, `mark` and `met`. The aims are those of one H100 with 16 cores.
Without a GPU, the same steps run on the CPU with a network of about 1 ms and lower rates; the times are no aims there.

The exit status is 0 if one network was measured whole, whether or not the aims were met.

Usage: benchmarks/on_gpu.sh [--device DEVICE] [--cameras N] [--processes N|auto ...] [--seconds S] [--frames N]
       [--limit-s S] [--json OUT]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STUDENT = ROOT / "models" / "student.onnx"
NEEDED = ("cv2", "numpy", "onnx", "onnxruntime", "rclpy", "sensor_msgs", "vision_msgs")
AGE_MS, SHARE, PUBLISHED_SHARE, CALLBACK_TO_PUBLISH_MS = 33.0, 0.98, 400 / 480, 1.8
"""The aims. A share of 0.98 counts as all images: a few are under way when the counts are read."""

SEGMENT_BYTES = 32 << 20
"""Size in config/fastdds_large_images.xml."""

OTHER_PROCESSES = 4
"""The node, two worker processes and one that stands by."""

Figures = dict[str, Any]


def main() -> int:
    """Parse the command line, measure, write and print."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"expected the packages of the node in {sys.executable}, these are missing: {', '.join(missing)}; run "
            "`make demo` once, which makes .venv, or name another interpreter: PYTHON=/path/to/python",
            file=sys.stderr,
        )
        return 2
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        report = Report(options.json, options.limit_s, Path(folder))
        try:
            measure_all(report, options)
        finally:
            report.save()
    print_marks(report.result, options.json)
    return 0 if report.is_whole else 1


def parse() -> argparse.Namespace:
    """Read the command line."""
    from device_option import add_device_option

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_device_option(parser, "auto")
    parser.add_argument("--cameras", type=int, help="number of cameras (8 on a GPU, 2 on a CPU)")
    parser.add_argument(
        "--processes", nargs="+", default=["0", "auto"], metavar="N", help="values of preparation_processes (0 auto)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement with cameras (5)")
    parser.add_argument("--frames", type=int, default=60, help="frames in a repeat of the one camera (60)")
    parser.add_argument("--limit-s", type=float, default=285.0, help="all of it takes at most so long (285)")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "on_gpu.json", metavar="OUT")
    options = parser.parse_args()
    if options.cameras is not None and not 1 <= options.cameras <= 64:
        parser.error(f"expected 1 to 64 cameras, got {options.cameras}")
    if options.seconds < 1 or options.frames < 1 or options.limit_s <= 0:
        parser.error("expected at least 1 second, 1 frame and a limit above 0")
    return options


@dataclass(frozen=True)
class Network:
    """A network on a device.

    Attributes:
        name: Name in the report.
        model: File.
        device: Execution provider.
        precision: The node's parameter.
        boxes: Least number of boxes in a frame of the one camera.
    """

    name: str
    model: Path
    device: str
    precision: str = "auto"
    boxes: int = 20

    @property
    def start_s(self) -> float:
        """Seconds that a process takes at most until the network is open. TensorRT builds an engine first."""
        return 60.0 if self.device == "tensorrt" else 8.0


@dataclass(frozen=True)
class Load:
    """What cameras send, and the aims.

    Attributes:
        cameras: Number of cameras.
        rate_hz: Images a second of each.
        size: Size of the images, as `throughput.py` takes it.
        marks: Returns the aims for the figures of a rate.
    """

    cameras: int
    rate_hz: float
    size: str
    marks: Callable[[Figures], Figures]

    @property
    def name(self) -> str:
        """Name in the report."""
        return f"{self.cameras} x {self.rate_hz:g} Hz of {self.size}, raw"


def at_most(value: float | None, mark: float) -> Figures:
    """Return a figure that should not be above its mark. None means that it could not be measured."""
    return {"value": value, "mark": mark, "met": value is not None and value <= mark}


def at_least(value: float, mark: float) -> Figures:
    """Return a figure that should not be below its mark."""
    return {"value": value, "mark": mark, "met": value >= mark}


def all_perceived(point: Figures) -> Figures:
    """Return the aims of cameras whose images are all perceived."""
    share = point["published_per_s"] / point["offered_per_s"]
    return {
        "published_share": at_least(round(share, 4), SHARE),
        "age_p99_ms": at_most(point["age_ms"]["p99"], AGE_MS),
    }


def enough_published(point: Figures) -> Figures:
    """Return the aim of cameras that send more than is needed."""
    return {"published_per_s": at_least(point["published_per_s"], round(PUBLISHED_SHARE * point["offered_per_s"], 1))}


class Report:
    """Runs steps as processes until the time is up, and keeps what they found.

    Attributes:
        result: What is written as JSON.
        work: Folder for files of the steps.

    Args:
        output: Path of the JSON file, written after each step.
        limit_s: No step runs longer than this from now on, seconds.
        work: Folder for files of the steps.
    """

    def __init__(self, output: Path, limit_s: float, work: Path) -> None:
        self.work = work
        self.result: Figures = {
            "machine": {},
            "networks": {},
            "measurements": [],
            "left_out": [],
            "failed": [],
            "warnings": [],
        }
        self._output = output
        self._began_s = time.monotonic()
        self._limit_s = limit_s
        self._number = 0

    @property
    def is_whole(self) -> bool:
        """Whether a network was measured and no step has failed."""
        return bool(self.result["measurements"]) and not self.result["failed"]

    def leave_out(self, what: str, why: str) -> None:
        """Say what is not measured."""
        print(f"left out: {what}: {why}", flush=True)
        self.result["left_out"].append({"what": what, "why": why})

    def run(self, script: str, arguments: Sequence[str], needs_s: float, *, quiet: bool = False) -> str:
        """Run a script of this folder.

        Args:
            script: Name of the script.
            arguments: Its arguments.
            needs_s: How long it takes. A step for which the time does not suffice is left out.
            quiet: Return its errors instead of printing them.

        Returns:
            Why there is no result, or an empty text.
        """
        left_s = self._limit_s - (time.monotonic() - self._began_s)
        if left_s < needs_s:
            return f"needs {needs_s:.0f} s, {max(0.0, left_s):.0f} s are left"
        command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        pipe = subprocess.PIPE if quiet else None
        # A session of its own, so that all processes of the step can be ended.
        with subprocess.Popen(command, cwd=ROOT, stderr=pipe, text=True, start_new_session=True) as process:
            try:
                _, errors = process.communicate(timeout=left_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return f"was ended after {left_s:.0f} s, as the time was up"
        if process.returncode == 0:
            return ""
        last = (errors or "").strip().splitlines()[-1:]
        return last[0] if last else f"ended with exit status {process.returncode}, see its output above"

    def run_for_json(self, what: str, script: str, arguments: Sequence[str], needs_s: float) -> Figures | None:
        """Run a measurement. Return its figures, or None if it was left out or has failed."""
        print(f"\n== {what}", flush=True)
        self._number += 1
        output = self.work / f"step{self._number}.json"
        why = self.run(script, [*arguments, "--json", str(output)], needs_s)
        if why.startswith("needs "):
            self.leave_out(what, why)
        elif why:
            print(f"failed: {what}: {why}", flush=True)
            self.result["failed"].append({"what": what, "why": why})
        else:
            found: Figures = json.loads(output.read_text(encoding="utf-8"))
            return found
        return None

    def save(self) -> None:
        """Write what was found so far."""
        from node_process import write_whole

        self.result["took_s"] = round(time.monotonic() - self._began_s, 1)
        self._output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._output, json.dumps(self.result, indent=1, allow_nan=False) + "\n")


def measure_all(report: Report, options: argparse.Namespace) -> None:
    """Measure each network that runs here, the most important one first."""
    from gpu_networks import machine

    report.result["machine"] = machine()
    print(json.dumps(report.result["machine"], indent=1, allow_nan=False), flush=True)
    warn_of_shared_memory(report, options.cameras or 8)
    on_gpu = False
    for network in networks_on_gpu(report, options.device):
        if opens(report, network):
            on_gpu = True
            measure(report, network, options, loads_of(options.cameras or 8, 30.0, 60.0))
    if not on_gpu and options.device in ("auto", "cpu"):
        tiny = Network("cpu, network of about 1 ms", report.work / "tiny.onnx", "cpu", boxes=1)
        if why := report.run("gpu_networks.py", ["tiny", str(tiny.model)], 5.0, quiet=True):
            report.leave_out(tiny.name, why)
        elif opens(report, tiny):
            measure(report, tiny, options, loads_of(options.cameras or 2, 8.0, 16.0))


def warn_of_shared_memory(report: Report, cameras: int) -> None:
    """Say if the images of the cameras do not fit into the shared memory of the middleware."""
    from ros_kd_perception.system.segment_room import room_bytes

    found_mib = report.result["machine"]["shared_memory_mib"] or 0
    needed_mib = room_bytes(SEGMENT_BYTES) * (cameras + OTHER_PROCESSES) >> 20
    if found_mib < needed_mib:
        sentence = (
            f"expected {needed_mib} MiB of free shared memory for {cameras} cameras, got {found_mib} MiB: large images "
            "will be lost; make /dev/shm larger, in docker by --shm-size=1g"
        )
        print(sentence, flush=True)
        report.result["warnings"].append(sentence)


def networks_on_gpu(report: Report, device: str) -> Iterator[Network]:
    """Yield the networks to try on a GPU."""
    if device in ("auto", "cuda"):
        yield Network("cuda", STUDENT, "cuda")
        if "cuda" in report.result["networks"]:
            half = report.work / "student_fp16.onnx"
            why = report.run("gpu_networks.py", ["half", str(STUDENT), str(half)], 40.0, quiet=True)
            if why:
                report.leave_out("cuda, fp16", why)
            else:
                yield Network("cuda, fp16", half, "cuda")
    if device in ("auto", "tensorrt"):
        yield Network("tensorrt", STUDENT, "tensorrt")
        if "tensorrt" in report.result["networks"]:
            yield Network("tensorrt, fp16", STUDENT, "tensorrt", "fp16")


def loads_of(cameras: int, large_hz: float, many_hz: float) -> list[Load]:
    """Return what the cameras send: large images, and many."""
    return [Load(cameras, large_hz, "1080p", all_perceived), Load(cameras, many_hz, "720p", enough_published)]


def opens(report: Report, network: Network) -> bool:
    """Open a network and note what runs it. Return False if that is not the device that it is meant for."""
    output = report.work / "opened.json"
    arguments = ["open", str(network.model), network.device, network.precision, str(output)]
    if why := report.run("gpu_networks.py", arguments, network.start_s, quiet=True):
        report.leave_out(network.name, why)
        return False
    found = json.loads(output.read_text(encoding="utf-8"))
    if found["fell_back"]:
        report.leave_out(network.name, found["provider"])
        return False
    report.result["networks"][network.name] = found
    print(f"\n== {network.name}: {json.dumps(found, allow_nan=False)}", flush=True)
    return True


def measure(report: Report, network: Network, options: argparse.Namespace, loads: Sequence[Load]) -> None:
    """Measure a network with one camera and under each load."""
    one = f"{network.name}: one camera, 720p"
    arguments = ["--model", str(network.model), "--device", network.device, "--precision", network.precision]
    arguments += ["--boxes", str(network.boxes), "--frames", str(options.frames)]
    found = report.run_for_json(one, "node_overhead.py", arguments, 15.0 + network.start_s)
    if found is not None:
        mark = at_most(found["callback_to_publish_ms"]["p50"], CALLBACK_TO_PUBLISH_MS)
        note(report, network, "one camera, 720p, raw", "0", found, {"callback_to_publish_p50_ms": mark})
    for load in loads:
        sweep = report.run_for_json(
            f"{network.name}: {load.name}",
            "throughput.py",
            throughput_arguments(network, load, options),
            15.0 + len(options.processes) * (5.0 + network.start_s + options.seconds),
        )
        for variant in sweep["variants"] if sweep else ():
            [point] = variant["points"]
            note(report, network, load.name, variant["name"], point, load.marks(point))


def throughput_arguments(network: Network, load: Load, options: argparse.Namespace) -> list[str]:
    """Return the arguments of `throughput.py`: one rate, and a variant for each number of processes."""
    arguments = ["--model", str(network.model), "--device", network.device, "--cameras", str(load.cameras)]
    arguments += ["--size", load.size, "--rates", str(load.cameras * load.rate_hz), "--seconds", str(options.seconds)]
    # Without a subscriber, masks and boxes would not be written.
    arguments += ["--subscribe", "--parameter", f"precision={network.precision}"]
    for count in options.processes:
        arguments += ["--variant", f"{count}: preparation_processes={count}"]
    return arguments


def note(report: Report, network: Network, load: str, processes: str, figures: Figures, marks: Figures) -> None:
    """Keep the figures of a measurement."""
    report.result["measurements"].append(
        {"network": network.name, "load": load, "preparation_processes": processes, "marks": marks, "figures": figures}
    )
    report.save()


def print_marks(result: Mapping[str, Any], output: Path) -> None:
    """Print each figure beside its mark."""
    print(f"\n{'network':<28}{'load':<30}{'processes':>10}  {'figure':<28}{'value':>10}{'mark':>10}")
    for one in result["measurements"]:
        for name, mark in one["marks"].items():
            value = "-" if mark["value"] is None else f"{mark['value']:g}"
            print(
                f"{one['network']:<28}{one['load']:<30}{one['preparation_processes']:>10}  {name:<28}{value:>10}"
                f"{mark['mark']:>10g}  {'met' if mark['met'] else 'missed'}"
            )
    for sentence in result["warnings"]:
        print(sentence)
    for kind in ("left_out", "failed"):
        for entry in result[kind]:
            print(f"{kind.replace('_', ' ')}: {entry['what']}: {entry['why']}")
    print(f"{result['took_s']:g} s; written to {output}")


if __name__ == "__main__":
    sys.exit(main())
