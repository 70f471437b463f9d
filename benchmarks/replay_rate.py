#!/usr/bin/env python3
"""Compare the rate of `replay_bag` with the rate at which its network alone runs, and show where the CPU time goes.

Bags of rendered 1280x720 images, raw and JPEG, are replayed in this process. In each repeat, one after the other: the
bare network in one thread, the bare network in `--threads` threads (one frame after the other), the bare network with
`--threads` frames at the same time in one thread each, and a replay with `--threads` of each bag, from its first frame
to the complete bag. The ratio compares a replay with the bare network in as many threads of the same repeat; the
figures are medians. The CPU time of a stage is that of its thread. `foreign` is how many cores other processes used
meanwhile: the figures need a quiet machine.

Usage: python benchmarks/replay_rate.py [--model MODEL.onnx] [--device DEVICE] [--threads N] [--frames N] [--json OUT]
       [--check RATIO]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from device_option import add_device_option
from node_process import HEIGHT, ROOT, WIDTH, write_whole

REPEATS = 3
PICTURES = 4  # different pictures in a bag
KINDS = ("raw", "jpeg")
STAGES = ("reading", "decoding", "letterbox", "run", "class map", "messages", "writing")
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 33_000_000


@dataclass(frozen=True)
class Usage:
    """What a stretch of work took: seconds, CPU seconds of this process, and cores that other processes used."""

    wall_s: float
    cpu_s: float
    foreign_cores: float


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="as for replay_bag (2)")
    parser.add_argument("--frames", type=int, default=200, help="frames in a bag (200)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    parser.add_argument("--check", type=float, metavar="RATIO", help="exit status 1 below this ratio")
    arguments = parser.parse_args()
    if not arguments.model.is_file() or arguments.frames < 1 or arguments.threads < 1:
        parser.error(
            f"expected a model file, frames and threads, got {arguments.model}, {arguments.frames} and "
            f"{arguments.threads}"
        )
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print_table(result)
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    low = [kind for kind in KINDS if arguments.check and result["replays"][kind]["ratio"] < arguments.check]
    for kind in low:
        ratio = result["replays"][kind]["ratio"]
        print(f"expected a {kind} replay at a ratio of {arguments.check} or more, got {ratio}", file=sys.stderr)
    return 1 if low else 0


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the bags, and run bare networks and replays in turn."""
    from ros_kd_perception.model.onnx_model import OnnxModel

    threads, frames = arguments.threads, arguments.frames
    models = {
        count: OnnxModel.open(arguments.model, device=arguments.device, intra_op_threads=count)
        for count in sorted({1, threads})
    }
    bags = write_bags(folder, frames)
    bare: dict[int, list[float]] = defaultdict(list)
    together: list[float] = []
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(REPEATS):
        for count, model in models.items():
            bare[count].append(frames / run_bare(model, frames).wall_s)
        together.append(frames / run_bare(models[1], frames, threads).wall_s)
        for kind, bag in bags.items():
            row = replay_once(bag, folder / "perceived.mcap", arguments)
            rows[kind].append({**row, "ratio": row["rate_hz"] / bare[threads][-1]})
    return {
        "model": arguments.model.name,
        "provider": models[threads].provider.what_runs,
        "threads": threads,
        "frames": frames,
        "repeats": REPEATS,
        "bare_hz": {str(count): round(float(np.median(rates)), 2) for count, rates in bare.items()},
        "bare_together_hz": round(float(np.median(together)), 2),
        "replays": {kind: _medians(found) for kind, found in rows.items()},
    }


def _medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    median = {key: round(float(np.median([row[key] for row in rows])), 3) for key in rows[0] if key != "cpu_ms"}
    stages = rows[0]["cpu_ms"]
    return {
        **median,
        "cpu_ms": {name: round(float(np.median([row["cpu_ms"][name] for row in rows])), 3) for name in stages},
    }


def write_bags(folder: Path, frames: int) -> dict[str, Path]:
    """Write the same rendered pictures as a bag of raw images and as one of JPEGs."""
    from ros_kd_perception.bags.reader import BagWriter, message_class
    from ros_kd_perception.sample_drive import SampleDrive

    drive = SampleDrive(seed=1, weather="day")
    pictures = [drive.render("front", 1.0 + 2.0 * index).image_bgr for index in range(min(PICTURES, frames))]
    assert pictures[0].shape == (HEIGHT, WIDTH, 3)
    jpegs = [np.frombuffer(cv2.imencode(".jpg", picture)[1].tobytes(), np.uint8) for picture in pictures]
    bags = {kind: folder / f"{kind}.mcap" for kind in KINDS}
    time_class, header_class = message_class("builtin_interfaces/msg/Time"), message_class("std_msgs/msg/Header")
    with BagWriter(bags["raw"], compress=False) as raw, BagWriter(bags["jpeg"], compress=False) as jpeg:
        for index in range(frames):
            stamp_ns = START_NS + index * PERIOD_NS
            stamp = time_class(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            header = header_class(stamp=stamp, frame_id="front_optical_frame")
            image = message_class("sensor_msgs/msg/Image")(
                header=header, height=HEIGHT, width=WIDTH, encoding="bgr8", is_bigendian=0, step=WIDTH * 3,
                data=pictures[index % len(pictures)].reshape(-1),
            )  # fmt: skip
            raw.write("/front/image_raw", stamp_ns, image)
            compressed = message_class("sensor_msgs/msg/CompressedImage")(
                header=header, format="bgr8; jpeg compressed bgr8", data=jpegs[index % len(jpegs)]
            )
            jpeg.write("/front/image_raw/compressed", stamp_ns, compressed)
    return bags


def run_bare(model: Any, frames: int, callers: int = 1) -> Usage:
    """Run the network on one input again and again, in as many threads of Python as there are callers."""
    size = model.contract.input
    images = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), np.uint8)
    for _ in range(3):
        model.run(images)
    with ThreadPoolExecutor(callers) as pool, used() as usage:
        for run in [pool.submit(model.run, images) for _ in range(frames)]:
            run.result()
    return usage[0]


def replay_once(bag: Path, output: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Replay a bag; return its rate, its CPU time for each frame, and that of each stage."""
    from ros_kd_perception import replay

    network = ["--model", arguments.model, "--device", arguments.device, "--threads", arguments.threads]
    options = replay.parse_arguments([str(part) for part in (bag, "-o", output, "--force", "--quiet", *network)])
    stages = StageTimes()
    started: list[Any] = []
    enter = replay.ReplayPipeline.__enter__

    def enter_and_start(pipeline: Any) -> Any:
        stages.cpu_s.clear()  # of the warm-up
        started.append(used())
        started.append(started[0].__enter__())
        return enter(pipeline)

    with stages.measured(), mock.patch.object(replay.ReplayPipeline, "__enter__", enter_and_start):
        summary = replay.replay_bag(options)
    started[0].__exit__(None, None, None)
    [usage] = started[1]
    cpu_ms = {name: stages.cpu_s[name] / summary.frames * 1e3 for name in STAGES}
    cpu_ms["all"] = usage.cpu_s / summary.frames * 1e3
    cpu_ms["other"] = cpu_ms["all"] - sum(cpu_ms[name] for name in STAGES)
    return {"rate_hz": summary.frames / usage.wall_s, "foreign_cores": usage.foreign_cores, "cpu_ms": cpu_ms}


class StageTimes:
    """CPU seconds of each stage, over all threads."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = defaultdict(float)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the functions of the stages inside the `with` block."""
        from ros_kd_perception.bags import mcap_file, reader
        from ros_kd_perception.bags.writer import BagWriter
        from ros_kd_perception.messages.builder import MessageBuilder
        from ros_kd_perception.model.onnx_model import OnnxModel
        from ros_kd_perception.perceiver import Perceiver

        functions = (
            (mcap_file, "read_chunk", "reading"),
            (reader, "decode_message", "decoding"),
            (reader, "frame_from_message", "decoding"),
            (Perceiver, "prepare", "letterbox"),
            (OnnxModel, "run", "run"),
            (Perceiver, "_perception", "class map"),
            (MessageBuilder, "segmentation", "messages"),
            (MessageBuilder, "detections", "messages"),
            (BagWriter, "write", "writing"),
            (BagWriter, "close", "writing"),
        )
        patches = [
            mock.patch.object(owner, name, self._timed(getattr(owner, name), stage)) for owner, name, stage in functions
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()

    def _timed(self, inner: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            started_s = time.thread_time()
            try:
                return inner(*arguments, **keywords)
            finally:
                self.cpu_s[stage] += time.thread_time() - started_s

        return timed


@contextmanager
def used() -> Iterator[list[Usage]]:
    """Measure the `with` block. The list gets one element at its end."""
    found: list[Usage] = []
    started_s, cpu_s, busy_s = time.perf_counter(), time.process_time(), _busy_s()
    yield found
    wall_s, own_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    found.append(Usage(wall_s, own_s, max(0.0, (_busy_s() - busy_s - own_s) / wall_s)))


def _busy_s() -> float:
    """Return for how long the cores of the machine have been busy, in seconds. 0 on other systems than Linux."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, soft_irq = map(int, first.split()[1:8])
    return (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")


def print_table(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"{result['model']}: bags of {result['frames']} frames of {WIDTH}x{HEIGHT}, {result['provider']}")
    print(f"  medians of {result['repeats']} repeats\n")
    for threads, rate_hz in result["bare_hz"].items():
        print(f"  {f'bare network, {threads} thread(s)':<34}{rate_hz:9.1f} frames/s")
    print(f"  {'bare network, one thread a frame':<34}{result['bare_together_hz']:9.1f} frames/s")
    for kind, row in result["replays"].items():
        name, foreign = f"replay of {kind}, --threads {result['threads']}", row["foreign_cores"]
        print(f"  {name:<34}{row['rate_hz']:9.1f} frames/s   ratio {row['ratio']:.3f}   foreign {foreign:.2f}")
    print(f"\n  {'CPU time of a frame':<34}" + "".join(f"{kind:>9}" for kind in KINDS))
    for stage in (*STAGES, "other", "all"):
        values = "".join(f"{result['replays'][kind]['cpu_ms'][stage]:9.2f}" for kind in KINDS)
        print(f"  {stage:<34}{values} ms")


if __name__ == "__main__":
    sys.exit(main())
