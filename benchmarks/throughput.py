#!/usr/bin/env python3
"""Offer a node more and more images and measure what it publishes, how old that is, and what each image costs.

The real node runs on a real graph; each camera is a process. The network is a tiny one whose run takes about 1 ms on a
CPU, as a large one takes on a GPU, so the node itself is what limits. The offered rates rise from 0 to three times what
is published, or to the most that the cameras can send. Every rate gets a node of its own. Several settings are measured
in turn, rate by rate.

Ages are those of the node's diagnostics: header stamp to publish in the last 5 s, of the camera with the highest.
CPU time is the kernel's figure for the node and the processes that it started. `beside net` is all of it except the
runs of the network. `all` is the CPU time of the machine: where it reaches the number of cores, the cameras take them
from the node. An image that was replaced in the middleware counts as received, too.

Usage: python benchmarks/throughput.py [--cameras N] [--size 720p|1080p|WxH] [--transport raw|compressed]
       [--rates R ...] [--seconds S] [--model MODEL.onnx] [--device DEVICE] [--parameter NAME=VALUE ...]
       [--variant 'NAME: KEY=VALUE,...' ...] [--code FOLDER] [--busy-threads N] [--switch-interval-ms X]
       [--small-topics N@HZ] [--subscribe] [--check] [--json OUT] [--plot OUT.svg]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option
from node_process import INSIDE, ROOT, run_on_own_graph, write_whole
from throughput_cameras import Senders
from throughput_measurement import Bench, Observer, Trouble, Variant
from throughput_report import KEPT, collapses, drawing, print_comparison, print_head, print_point, print_summary, sums

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
MAX_SIDE_PX = 8192
NETWORK_SIZE = (384, 640)
FIRST_RATE, RATE_STEP, LAST_RATE = 30.0, 1.5, 20_000.0
ENOUGH = 3.0
"""The automatic rates end at this multiple of what is published at most."""

REACHED = 0.75
"""Cameras that send less than this share of what they should have reached their limit."""


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    options = parse()
    if INSIDE not in os.environ:
        return run_on_own_graph()
    result = sweep(options)
    for variant in result["variants"]:
        print_summary(variant)
    print_comparison(result["variants"])
    if options.json:
        write_whole(options.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if options.plot:
        write_whole(options.plot, drawing(result))
    failures = [sentence for variant in result["variants"] for sentence in collapses(variant)]
    for sentence in failures:
        print(sentence)
    return 1 if options.check and failures else 0


def parse() -> argparse.Namespace:
    """Read the command line. It gets the settings to compare as `variants` and the trouble as `trouble`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=4, help="number of cameras (4)")
    parser.add_argument("--size", type=image_size, default="720p", help="720p, 1080p or WIDTHxHEIGHT (720p)")
    parser.add_argument("--transport", choices=("raw", "compressed"), default="raw", help="bgr8 or JPEG (raw)")
    parser.add_argument(
        "--rates", type=float, nargs="+", metavar="R", help="images a second of all cameras together (rising from 0)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measurement of a rate (5)")
    parser.add_argument("--model", type=Path, help="exported student (a tiny network, made for the run)")
    add_device_option(parser, "cpu")
    parser.add_argument(
        "--parameter", type=setting, action="append", default=[], metavar="NAME=VALUE", help="parameter of the node"
    )
    parser.add_argument(
        "--variant",
        type=named_settings,
        action="append",
        metavar="'NAME: KEY=VALUE,...'",
        help="settings to compare; a KEY is a parameter, or `code` for the checkout whose package the node runs",
    )
    parser.add_argument("--code", type=checkout, default=ROOT, help="checkout whose package the node runs (this one)")
    parser.add_argument("--busy-threads", type=int, default=0, metavar="N", help="threads that compute in the node (0)")
    parser.add_argument("--switch-interval-ms", type=float, metavar="X", help="switch interval in the node (its own)")
    parser.add_argument(
        "--small-topics", type=small_topics, default=(0, 0.0), metavar="N@HZ", help="small messages that the node takes"
    )
    parser.add_argument("--subscribe", action="store_true", help="subscribe to the masks and boxes of all cameras")
    parser.add_argument("--check", action="store_true", help=f"fail where less than {KEPT:g} of the peak is published")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="write published images and ages by rate as SVG")
    options = parser.parse_args()
    if options.model is not None and not options.model.is_file():
        parser.error(f"expected --model to be a file, got {options.model}")
    names = [name for name, *_ in options.variant or ()]
    if len(set(names)) < len(names):
        parser.error(f"expected a name of its own for each --variant, got {', '.join(names)}")
    if not 1 <= options.cameras <= 64 or not options.seconds >= 1 or not 0 <= options.busy_threads <= 64:
        parser.error("expected 1 to 64 cameras, 1 second or more and 0 to 64 busy threads")
    if not all(0 <= rate <= LAST_RATE for rate in options.rates or ()):
        parser.error(f"expected rates from 0 to {LAST_RATE:g}, got {options.rates}")
    if options.switch_interval_ms is not None and not 0 < options.switch_interval_ms <= 1000:
        parser.error(f"expected a switch interval of at most 1000 ms, got {options.switch_interval_ms}")
    for_all: dict[str, str] = {"image_transport": options.transport, **dict(options.parameter)}
    options.variants = [
        Variant(name, code or options.code, for_all | parameters)
        for name, code, parameters in options.variant or [("node", None, {})]
    ]
    options.trouble = Trouble(options.busy_threads, options.switch_interval_ms, *options.small_topics)
    return options


def image_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = SIZES.get(text) or (match and (int(match[1]), int(match[2])))
    if not size or not all(16 <= side <= MAX_SIDE_PX for side in size):
        raise argparse.ArgumentTypeError(f"expected 720p, 1080p or WIDTHxHEIGHT of 16 to {MAX_SIDE_PX}, got {text!r}")
    return size


def setting(text: str) -> tuple[str, str]:
    """Return name and value."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def checkout(text: str) -> Path:
    """Return the folder of a checkout."""
    folder = Path(text).resolve()
    if not (folder / "ros_kd_perception" / "ros" / "perception_node.py").is_file():
        raise argparse.ArgumentTypeError(f"expected a checkout with the package ros_kd_perception, got {text!r}")
    return folder


def small_topics(text: str) -> tuple[int, float]:
    """Return the number of topics and the messages a second of each."""
    match = re.fullmatch(r"(\d{1,3})@(\d{1,5}(?:\.\d+)?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected TOPICS@HZ, for example 5@100, got {text!r}")
    return int(match[1]), float(match[2])


def named_settings(text: str) -> tuple[str, Path | None, dict[str, str]]:
    """Return name, checkout and parameters of a text such as `before: code=/path,max_age_ms=100.0`."""
    name, colon, rest = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"expected 'NAME: KEY=VALUE,...', got {text!r}")
    # A value may have commas, as the list of cameras has.
    parameters = dict(setting(part) for part in re.split(r",(?=\s*[\w.]+=)", rest) if part.strip())
    code = parameters.pop("code", None)
    return name.strip(), checkout(code) if code else None, parameters


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all variants, in turn at each rate, and print each figure as it comes."""
    names = [f"camera{number}" for number in range(options.cameras)]
    width, height = options.size
    points: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in options.variants}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = options.model or write_tiny_network(work / "tiny.onnx")
        provider, run_ms = bare_run(model, options.device)
        print(
            f"{options.cameras} cameras, {options.transport} images of {width}x{height}, network {model.name}: "
            f"{run_ms:.2f} ms a run in one thread\nnetwork: {provider}",
            flush=True,
        )
        senders = Senders(names, options.transport, options.size, options.trouble.small_topics)
        stack.callback(senders.close)
        observer, spin = listen(stack, names, senders, subscribe=options.subscribe)
        bench = Bench(model, options.device, names, options.trouble, options.seconds, work, senders, observer, spin)
        print_head()
        for rate in options.rates or rising_rates(points):
            for variant in options.variants:
                points[variant.name].append(bench.measure(variant, rate))
                print_point(variant.name, points[variant.name][-1])
    return {
        "model": model.name,
        "provider": provider,
        "bare_run_ms": round(run_ms, 3),
        "cameras": options.cameras,
        "size": [width, height],
        "transport": options.transport,
        "subscribe": options.subscribe,
        "seconds": options.seconds,
        "trouble": vars(options.trouble),
        "machine_cores": os.cpu_count(),
        "variants": [
            {"name": variant.name, "parameters": variant.parameters, "points": points[variant.name]}
            | sums(points[variant.name])
            for variant in options.variants
        ],
    }


def listen(
    stack: ExitStack, cameras: Sequence[str], senders: Senders, *, subscribe: bool
) -> tuple[Observer, Callable[[], object]]:
    """Join the graph until the stack closes. Return an observer, and what takes messages for it for up to 0.1 s."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2DArray

    rclpy.init()
    stack.callback(rclpy.try_shutdown)
    executor = SingleThreadedExecutor()
    node = rclpy.create_node("throughput_observer")
    executor.add_node(node)
    if subscribe:
        # The middleware of the node sends the messages to these subscriptions. They are not taken.
        subscriber = rclpy.create_node("throughput_subscriber")
        for camera in cameras:
            for kind, name in ((Image, "segmentation"), (Detection2DArray, "detections")):
                topic = f"/perception/{camera}/{name}"
                subscriber.create_subscription(kind, topic, print, qos_profile_sensor_data)
    return Observer(node, cameras, senders), partial(executor.spin_once, timeout_sec=0.1)


def write_tiny_network(path: Path) -> Path:
    """Write a network that follows the model contract, has the input of a student and runs for about 1 ms on a CPU."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from tiny_student import CONTRACT, write_tiny_model

    from ros_kd_perception.model.contract import InputSpec

    return write_tiny_model(path, replace(CONTRACT, input=InputSpec(*NETWORK_SIZE)))


def bare_run(model: Path, device: str, repeats: int = 100) -> tuple[str, float]:
    """Return what runs the network, and the median duration of a run without a node, milliseconds."""
    from ros_kd_perception.model.onnx_model import OnnxModel

    opened = OnnxModel.open(model, device=device, intra_op_threads=1)
    size = opened.contract.input
    images = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
    durations_ms = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        opened.run(images)
        durations_ms.append(1e3 * (time.perf_counter() - began_s))
    return opened.provider.what_runs, float(np.median(durations_ms))


def rising_rates(points: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[float]:
    """Yield 0 and rising rates, until every variant had enough or the cameras cannot send more.

    Args:
        points: What was measured so far, by variant. The caller adds to it.
    """
    yield 0.0
    rate = FIRST_RATE
    while rate <= LAST_RATE:
        yield round(rate)
        peaks = [max(point["published_per_s"] for point in of_one) for of_one in points.values()]
        sent = [of_one[-1]["sent_per_s"] for of_one in points.values()]
        if min(sent) < REACHED * round(rate) or all(s >= ENOUGH * peak for s, peak in zip(sent, peaks, strict=True)):
            return
        rate *= RATE_STEP


if __name__ == "__main__":
    sys.exit(main())
