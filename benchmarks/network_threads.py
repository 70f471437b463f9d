#!/usr/bin/env python3
"""Compare how the threads of the network wait between two runs: time of a run, and CPU time of the run and after it.

A thread that spins after its work answers the next run sooner, and meanwhile takes the core from all others. The ways
are measured in this process, in turns, without a node. ONNX Runtime has these threads on a CPU only.

Usage: python benchmarks/network_threads.py [--model MODEL.onnx] [--device cpu] [--seconds S] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option
from node_process import ROOT, write_whole

THREADS = 2
TAIL_S = 0.02  # after a run, so that threads that continue to spin are counted
SETTLE_S = 0.5  # before a turn, because threads that still spin after the turn before would take a core from it
TURNS = 4
WAITING = {
    "spin": {},
    "stop spinning with the run": {"session.force_spinning_stop": "1"},
    "sleep": {"session.intra_op.allow_spinning": "0"},
}


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the measurement of each way (20)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    arguments = parser.parse_args()
    if not arguments.model.is_file() or arguments.seconds <= 0:
        parser.error(f"expected a model file and seconds, got {arguments.model}")
    if arguments.device not in ("auto", "cpu"):
        print(f"left out: {arguments.device} has no such threads; measured on the CPU")
    ways = measure(arguments.model, arguments.seconds)
    print_table(arguments.model.name, ways)
    if arguments.json:
        write_whole(arguments.json, json.dumps(ways, indent=1, allow_nan=False) + "\n")
    return 0


def measure(model: Path, seconds: float) -> dict[str, Any]:
    """Run two threads of the network that wait in different ways, each for `seconds`, in turns."""
    sessions = {name: _session(model, settings) for name, settings in WAITING.items()}
    shape = next(iter(sessions.values())).get_inputs()[0].shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    for session in sessions.values():
        session.run(None, {"images": images})
    times_ms: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    for name in [*sessions] * TURNS:
        time.sleep(min(SETTLE_S, seconds))
        times_ms[name] += _turn(sessions[name], images, seconds / TURNS)
    return {name: _figures(np.array(rows)) for name, rows in times_ms.items()}


def _session(model: Path, settings: dict[str, str]) -> Any:
    from ros_kd_perception.model.onnx_runtime import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _turn(session: Any, images: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """Return the time of each run, and the CPU time of the process during it and `TAIL_S` after it, milliseconds."""
    rows = []
    deadline_s = time.monotonic() + seconds
    while not rows or time.monotonic() < deadline_s:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        session.run(None, {"images": images})
        run_ms = (time.perf_counter() - wall_s) * 1e3
        time.sleep(TAIL_S)
        rows.append((run_ms, (time.process_time() - cpu_s) * 1e3))
    return rows


def _figures(rows: np.ndarray) -> dict[str, Any]:
    run_ms, cpu_ms = rows.T
    return {
        "run_ms": {f"p{mark}": round(float(np.percentile(run_ms, mark)), 3) for mark in (50, 95)},
        "cpu_ms_per_run": round(float(np.median(cpu_ms)), 3),
        "runs": len(rows),
    }


def print_table(model: str, ways: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"{model}; network: CPUExecutionProvider")
    threads = f"{THREADS} threads, between the runs"
    print(f"\n  {threads:<44}p50       p95 of a run   CPU time for each")
    for name, row in ways.items():
        p50, p95 = row["run_ms"]["p50"], row["run_ms"]["p95"]
        print(f"  {name:<38}{p50:9.2f}{p95:10.2f} ms{row['cpu_ms_per_run']:16.2f} ms")


if __name__ == "__main__":
    sys.exit(main())
