#!/usr/bin/env python3
"""Run the node for a long time with cameras that come and go. Memory must stay constant and every image accounted for.

Each camera is a process that publishes rendered bgr8 images at a constant rate. Repeatedly one camera is stopped and
started again, and a subscriber to its overlay comes or goes. Memory and open files are the kernel's figures for the
node's process and its child processes together. `its own` is the memory that they allocated, without the middleware's
shared memory, which fills up to its size of 32 MiB a process. `shared` is the size of the shared memory that they made.
The exit status is 1 if their own memory, the shared memory, the number of processes or of open files grows, or if
images are unaccounted for.

Usage: python benchmarks/soak.py [--model MODEL.onnx] [--device DEVICE] [--seconds S] [--cameras N] [--rate HZ]
       [--size WIDTHxHEIGHT] [--parameter NAME:=VALUE ...] [--restart-every S] [--json OUT] [--plot OUT.svg]

Eight small cameras and two worker processes for ten minutes:
    python benchmarks/soak.py --cameras 8 --size 320x240 --rate 10 --parameter "preparation_processes:='2'"
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option
from overload import (
    INSIDE,
    ROOT,
    Observer,
    node_command,
    publish_images,
    run_on_own_graph,
    wait_for_the_start,
    write,
)

WARM_UP_SHARE = 0.2  # share of the run in which allocators and the middleware fill their pools
MAX_GROWTH_MIB = 16.0
MAX_GROWTH_FILES = 2
MAX_GROWTH_SHARED_MIB = 1.0
MAX_POINTS = 400  # points of a line in the plot; each is the highest value of its part of the run
GROWTH = {
    "rss_mib": math.inf,
    "own_mib": MAX_GROWTH_MIB,
    "files": MAX_GROWTH_FILES,
    "processes": 0,
    "shared_mib": MAX_GROWTH_SHARED_MIB,
}
"""Largest growth of each figure from the first quarter to the last one."""
IN_HAND = 3  # images of a camera that may wait, be prepared or be perceived at one time


def main() -> int:
    """Parse the command line, and run in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "auto")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the run (600)")
    parser.add_argument("--cameras", type=int, default=4, help="number of cameras (4)")
    parser.add_argument("--rate", type=float, default=5.0, help="images a second of each camera (5)")
    parser.add_argument("--size", default="1280x720", metavar="WIDTHxHEIGHT", help="size of the images (1280x720)")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="parameter of the node; may be repeated"
    )
    parser.add_argument("--restart-every", type=float, default=20.0, metavar="S", help="seconds between restarts (20)")
    parser.add_argument(
        "--max-growth-mib",
        type=float,
        default=MAX_GROWTH_MIB,
        metavar="M",
        help=f"limit for memory ({MAX_GROWTH_MIB:g}); in a short run every camera's first images still fill pools",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="write memory and open files over time as SVG")
    arguments = parser.parse_args()
    if not (arguments.model.is_file() and arguments.seconds >= 5 and 1 <= arguments.cameras <= 16):
        parser.error("expected a model file, 5 seconds or more and 1 to 16 cameras")
    if not (1 <= arguments.rate <= 100 and arguments.restart_every >= 1):
        parser.error("expected 1 to 100 images a second and 1 second or more between restarts")
    match = re.fullmatch(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})", arguments.size)
    if match is None or any(":=" not in assignment for assignment in arguments.parameter):
        parser.error("expected a size such as 1280x720, and parameters such as max_age_ms:=100.0")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    result = soak(arguments, (int(match[1]), int(match[2])))
    print_table(result)
    if arguments.json:
        write(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if arguments.plot:
        write(arguments.plot, drawing(result))
    return 1 if result["failures"] else 0


class Cameras:
    """One process for each camera, and at times a subscriber to its overlay."""

    def __init__(self, names: Sequence[str], rate_hz: float, size: tuple[int, int], node: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._go = spawn.Event()
        self._go.set()
        self._spawn = spawn
        self._rate_hz = rate_hz
        self._size = size
        self._node = node
        self._overlays: dict[str, Any] = {}
        self._processes = {name: self._start(seed, name) for seed, name in enumerate(names)}
        self._turns = list(names)
        self.restarts = 0

    def restart_one(self) -> None:
        """Stop the camera that has run longest and start it again; add or remove a subscriber to its overlay."""
        from sensor_msgs.msg import Image

        name = self._turns.pop(0)
        self._turns.append(name)
        self._end(name)
        self.restarts += 1
        self._processes[name] = self._start(self.restarts, name)
        if name in self._overlays:
            self._node.destroy_subscription(self._overlays.pop(name))
        else:
            topic = f"/perception/{name}/overlay"
            self._overlays[name] = self._node.create_subscription(Image, topic, lambda _: None, 1)

    def close(self) -> None:
        """Stop all cameras."""
        for name in self._processes:
            self._end(name)

    def _start(self, seed: int, name: str) -> Any:
        process = self._spawn.Process(
            target=publish_images, args=(name, seed, self._rate_hz, self._go, 1.0, self._size)
        )
        process.start()
        return process

    def _end(self, name: str) -> None:
        self._processes[name].terminate()
        self._processes[name].join(10)


def soak(arguments: argparse.Namespace, size: tuple[int, int]) -> dict[str, Any]:
    """Run node and cameras for the given time, and summarise."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    names = [f"camera{number}" for number in range(arguments.cameras)]
    command = node_command(arguments.model, arguments.device, names, 1, arguments.parameter)
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command))
        stack.callback(process.terminate)
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("soak_observer")
        observer = Observer(node, names, process.pid)
        cameras = Cameras(names, arguments.rate, size, node)
        stack.callback(cameras.close)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        wait_for_the_start(executor, node, observer, names, process)
        observer.samples.clear()
        observer.began_s = time.monotonic()
        next_restart_s = arguments.restart_every
        while (now_s := time.monotonic() - observer.began_s) < arguments.seconds:
            executor.spin_once(timeout_sec=0.1)
            if process.poll() is not None:
                raise SystemExit("the node ended during the run; see its log above")
            if now_s >= next_restart_s:
                cameras.restart_one()
                next_restart_s += arguments.restart_every
        series = [{key: sample[key] for key in ("at_s", *GROWTH)} for sample in observer.samples]
        result = {
            "model": arguments.model.name,
            "provider": observer.provider,
            "seconds": arguments.seconds,
            "cameras": arguments.cameras,
            "rate_hz": arguments.rate,
            "size": arguments.size,
            "parameters": arguments.parameter,
        }
        limits = GROWTH | {"own_mib": arguments.max_growth_mib}
        result |= summary(observer.samples, names, arguments.seconds, cameras.restarts, limits)
        return result | {"series": series}


def summary(
    samples: Sequence[dict[str, Any]],
    names: Sequence[str],
    seconds: float,
    restarts: int,
    limits: Mapping[str, float],
) -> dict[str, Any]:
    """Return the figures after warming up, medians of the first and the last quarter, and all failures."""
    warm = [s for s in samples if s["at_s"] >= WARM_UP_SHARE * seconds and all(name in s for name in names)]
    if len(warm) < 4:
        raise SystemExit("expected diagnostics of every camera throughout; run for longer")
    quarter = len(warm) // 4
    first, last = warm[:quarter], warm[-quarter:]
    figures: dict[str, Any] = {"restarts": restarts, "failures": []}
    for key, limit in limits.items():
        at_start, at_end = (float(np.median([s[key] for s in part])) for part in (first, last))
        highest = max(s[key] for s in warm)
        slope = float(np.polyfit([s["at_s"] / 3600 for s in warm], [s[key] for s in warm], 1)[0])
        figures[key] = {"first_quarter": at_start, "last_quarter": at_end, "highest": highest, "an_hour": slope}
        # The lowest values exclude work in progress at the moment of a sample, of which a busy machine has more.
        figures[key]["least"] = [min(s[key] for s in part) for part in (first, last)]
        if at_end - at_start > limit:
            figures["failures"].append(f"{key} grew from {at_start:.1f} to {at_end:.1f}, by more than {limit:g}")
    figures["counts"] = {name: warm[-1][name] for name in names}
    for name, counts in figures["counts"].items():
        missing = 2 * counts["received"] - sum(counts.values())  # counts includes received itself
        if not 0 <= missing <= IN_HAND:
            figures["failures"].append(f"{name}: {missing} images unaccounted for")
        if not counts["published"]:
            figures["failures"].append(f"{name}: no results")
    return figures


def drawing(result: dict[str, Any]) -> str:
    """Return a plot of memory and open files over the whole run, including its start, as SVG."""
    from ros_kd_perception.drawing.plots import Series, document_svg, lines

    samples = result["series"]
    width = -(-len(samples) // MAX_POINTS)
    parts = [samples[first : first + width] for first in range(0, len(samples), width)]

    def draw(key: str, color: str, y_label: str) -> Any:
        points = [(part[0]["at_s"] / 60, max(sample[key] for sample in part)) for part in parts]
        return lambda axes: lines(axes, [Series(key, color, points)], "minutes", y_label)

    return document_svg(
        {
            f"Memory that the node allocated, {result['restarts']} camera restarts": draw("own_mib", "C0", "MiB"),
            "With what it shares with the middleware": draw("rss_mib", "C1", "RSS (MiB)"),
            "Shared memory": draw("shared_mib", "C3", "MiB"),
            "Open files": draw("files", "C2", "files"),
        }
    )


def print_table(result: dict[str, Any]) -> None:
    """Print the results."""
    print(
        f"{result['seconds']:.0f} s, {result['cameras']} cameras of {result['size']} at {result['rate_hz']:g} Hz, "
        f"{result['restarts']} camera restarts, {result['model']} {' '.join(result['parameters'])}\n"
        f"network: {result['provider']}"
    )
    titles = {"rss_mib": "memory, MiB", "own_mib": "its own", "shared_mib": "shared", "files": "open files"}
    for key, what in (titles | {"processes": "processes"}).items():
        f = result[key]
        print(
            f"{what:12} first quarter {f['first_quarter']:.1f}  last quarter {f['last_quarter']:.1f}  "
            f"highest {f['highest']:.1f}  trend {f['an_hour']:+.1f} an hour  "
            f"least {f['least'][0]:.1f} and {f['least'][1]:.1f}"
        )
    for name, counts in result["counts"].items():
        print(f"{name}: {', '.join(f'{key} {count}' for key, count in counts.items() if count)}")
    for failure in result["failures"]:
        print(f"FAILED: {failure}")


if __name__ == "__main__":
    sys.exit(main())
