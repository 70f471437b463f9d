#!/usr/bin/env python3
"""Compare executors and network threads: latency, lost frames and CPU time of the node with each.

For each executor, the node and a camera that publishes 1280x720 bgr8 run as separate processes on a graph of their own.
A frame counts as lost if it was sent and never reached a callback. A frame that the node replaces by a newer one,
because the network is busy, is not lost. A frame counts as refused if the node drops it, for example because it came
after a newer one. The time from callback to publish starts when the callback runs, so an executor that calls late shows
only in the time from the header stamp.

The threads of the network are measured without a node, in this process and in turns, on the CPU for any device. A
thread that spins after its work answers the next run sooner, and meanwhile takes the core from all others.

Usage: python benchmarks/executors.py [--model MODEL.onnx] [--device DEVICE] [--executor NAME ...] [--seconds S]
       [--rate HZ] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option
from node_process import EXECUTORS, INSIDE, ROOT, Usage, node_and_camera, run_on_own_graph, write_whole

SETTLE_S = 1.0
NETWORK_THREADS = 2
TAIL_S = 0.02  # after a run, so that threads that continue to spin are counted
SETTLE_S = 0.5  # before a turn, because threads that still spin after the turn before would take a core from it
TURNS = 4
WAITING = {
    "spin": {},
    "stop spinning with the run": {"session.force_spinning_stop": "1"},
    "sleep": {"session.intra_op.allow_spinning": "0"},
}


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--executor", nargs="+", choices=EXECUTORS, default=list(EXECUTORS), help="only these")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement (20)")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second (30)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    arguments = parser.parse_args()
    if not arguments.model.is_file() or arguments.seconds <= 0 or arguments.rate <= 0:
        parser.error(f"expected a model file, seconds and a rate, got {arguments.model}")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    result = {
        "model": arguments.model.name,
        "seconds": arguments.seconds,
        "rate_hz": arguments.rate,
        "executors": {
            name: measure_executor(arguments.model, arguments.device, name, arguments.seconds, arguments.rate)
            for name in arguments.executor
        },
        "network_threads": measure_network_threads(arguments.model, arguments.seconds),
    }
    print_table(result)
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return 0


def measure_executor(model: Path, device: str, name: str, seconds: float, rate_hz: float) -> dict[str, Any]:
    """Run one node with one executor; return the messages received, the publish times and the CPU time."""
    with node_and_camera(model, device, name) as (node, camera):
        node.ask("activate")
        camera.ask("wait")
        camera.ask("publish", rate_hz, SETTLE_S)
        node.ask("figures")
        before = Usage.of(node.process_id)
        sent = camera.ask("publish", rate_hz, seconds)
        after = Usage.of(node.process_id)
        figures = node.ask("figures")
    span_s, cpu_s, network_s = after.at_s - before.at_s, after.cpu_s - before.cpu_s, figures["network_cpu_s"]
    return {
        "provider": figures["provider"],
        "sent": sent,
        # At the start and end of the measurement, one frame more or less may be in progress.
        "lost": max(0, sent - figures["received"]),
        "published": figures["published"],
        "refused": sum(count for reason, count in figures["dropped"].items() if reason not in ("replaced", "lost")),
        "callback_to_publish_ms": figures["callback_to_publish_ms"],
        "stamp_to_publish_ms": figures["stamp_to_publish_ms"],
        "cpu_percent": round(100 * cpu_s / span_s, 2),
        "own_cpu_percent": round(100 * (cpu_s - network_s) / span_s, 2),
    }


def measure_network_threads(model: Path, seconds: float) -> dict[str, Any]:
    """Run two threads of the network that wait in different ways, each for `seconds`, in turns."""
    from ros_kd_perception.model.onnx_runtime import onnxruntime

    sessions = {}
    for name, settings in WAITING.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = NETWORK_THREADS
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        sessions[name] = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    shape = next(iter(sessions.values())).get_inputs()[0].shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    for session in sessions.values():
        session.run(None, {"images": images})
    wall_ms: dict[str, list[float]] = {name: [] for name in sessions}
    cpu_ms: dict[str, list[float]] = {name: [] for name in sessions}
    for name in [*sessions] * TURNS:
        time.sleep(SETTLE_S)
        deadline = time.monotonic() + seconds / TURNS
        while True:
            cpu, wall = time.process_time(), time.perf_counter()
            sessions[name].run(None, {"images": images})
            wall_ms[name].append((time.perf_counter() - wall) * 1e3)
            time.sleep(TAIL_S)
            cpu_ms[name].append((time.process_time() - cpu) * 1e3)
            if time.monotonic() >= deadline:
                break
    return {
        name: {
            "run_ms": {f"p{mark}": round(float(np.percentile(wall_ms[name], mark)), 3) for mark in (50, 95)},
            "cpu_ms_per_run": round(float(np.median(cpu_ms[name])), 3),
            "runs": len(wall_ms[name]),
        }
        for name in sessions
    }


def print_table(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"{result['model']}, one network thread, 1280x720 bgr8, {result['rate_hz']:g} Hz for {result['seconds']:g} s")
    head = f"{'callback to publish':>20} ms{'stamp to publish':>19} ms{'CPU':>10}{'its own':>9}"
    print(f"\n  {'executor':<16}{'sent':>6}{'lost':>6}{'refused':>9}{head}")
    print(f"  {'':<37}{'p50':>10}{'p95':>10}   {'p50':>9}{'p95':>10}")
    for name, row in result["executors"].items():
        times = "".join(
            f"{row[key].get('p50', float('nan')):10.2f}{row[key].get('p95', float('nan')):10.2f}  "
            for key in ("callback_to_publish_ms", "stamp_to_publish_ms")
        )
        counts = f"{row['sent']:>6}{row['lost']:>6}{row['refused']:>9}"
        print(f"  {name:<16}{counts}{times}{row['cpu_percent']:10.1f}%{row['own_cpu_percent']:8.1f}%")
    for name in result["executors"]:
        print(f"    {name}: {EXECUTORS[name]}; network: {result['executors'][name]['provider']}")
    threads = f"{NETWORK_THREADS} threads on a CPU, between the runs"
    print(f"\n  {threads:<44}p50       p95 of a run   CPU time for each")
    for name, row in result["network_threads"].items():
        p50, p95 = row["run_ms"]["p50"], row["run_ms"]["p95"]
        print(f"  {name:<38}{p50:9.2f}{p95:10.2f} ms{row['cpu_ms_per_run']:16.2f} ms")


if __name__ == "__main__":
    sys.exit(main())
