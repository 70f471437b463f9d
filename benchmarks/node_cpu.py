#!/usr/bin/env python3
"""Measure the node's CPU time while configured, active without frames, and at 30 Hz, and what wakes its threads.

The node and a camera that publishes 1280x720 bgr8 run as separate processes on a graph of their own. CPU time is the
kernel's figure for the node's process. The network's CPU time is that of the one thread that runs it. The rest is the
node's own: middleware, rclpy, decoding, letterboxing, messages and diagnostics.

Usage: python benchmarks/node_cpu.py [--model MODEL.onnx] [--device DEVICE] [--seconds S] [--rate HZ]
       [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from device_option import add_device_option
from node_process import INSIDE, ROOT, Child, Usage, node_and_camera, run_on_own_graph, write_whole

SETTLE_S = 1.0


def main() -> int:
    """Parse the command line, and measure in a process with a ROS environment of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each of the three measurements (20)")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second (30)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    arguments = parser.parse_args()
    if not arguments.model.is_file() or arguments.seconds <= 0 or arguments.rate <= 0:
        parser.error(f"expected a model file, seconds and a rate, got {arguments.model}")
    if INSIDE not in os.environ:
        return run_on_own_graph()
    figures = measure(arguments.model, arguments.device, arguments.seconds, arguments.rate)
    result = {"model": arguments.model.name, **figures}
    print_table(result)
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return 0


def measure(model: Path, device: str, seconds: float, rate_hz: float) -> dict[str, Any]:
    """Measure the three states, one after the other, in one node."""
    with node_and_camera(model, device) as (node, camera):
        states = {"inactive": _state(node, seconds)}
        node.ask("activate")
        camera.ask("wait")
        states["active, no frames"] = _state(node, seconds)
        # The first frames run with cold code and fresh memory.
        camera.ask("publish", rate_hz, SETTLE_S)
        states[f"active, {rate_hz:g} Hz"] = _state(node, seconds, camera, rate_hz)
        node.ask("deactivate")
        provider = node.ask("figures")["provider"]
    return {"provider": provider, "seconds": seconds, "rate_hz": rate_hz, "states": states}


def _state(node: Child, seconds: float, camera: Child | None = None, rate_hz: float = 0.0) -> dict[str, Any]:
    time.sleep(SETTLE_S)
    names = {int(thread): name for thread, name in node.ask("figures")["threads"].items()}
    before = Usage.of(node.process_id)
    sent = 0
    if camera is None:
        time.sleep(seconds)
    else:
        sent = camera.ask("publish", rate_hz, seconds)
    after = Usage.of(node.process_id)
    figures = node.ask("figures")
    span_s = after.at_s - before.at_s
    cpu_s, network_s = after.cpu_s - before.cpu_s, figures["network_cpu_s"]
    wake_ups: Counter[str] = Counter()
    for thread, count in after.wake_ups.items():
        wake_ups[names.get(thread) or _name_of(node.process_id, thread)] += count - before.wake_ups.get(thread, 0)
    result = {
        "cpu_percent": round(100 * cpu_s / span_s, 2),
        "network_percent": round(100 * network_s / span_s, 2),
        "own_percent": round(100 * (cpu_s - network_s) / span_s, 2),
        "wake_ups_per_s": {name: round(count / span_s, 1) for name, count in wake_ups.most_common() if count},
    }
    if camera is not None:
        received = figures["received"]
        result |= {
            "sent": sent,
            "received": received,
            "published": figures["published"],
            "own_ms_per_received_frame": round(1e3 * (cpu_s - network_s) / received, 3) if received else None,
        }
    return result


def _name_of(process_id: int, thread: int) -> str:
    """Return the kernel's name of a thread that Python did not start; the middleware names its threads."""
    try:
        return Path("/proc", str(process_id), "task", str(thread), "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def print_table(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    seconds = result["seconds"]
    print(f"{result['model']}, one camera of 1280x720 bgr8, one network thread; % of one core over {seconds} s")
    print(f"  network: {result['provider']}")
    print(f"\n  {'state':<22}{'node':>9}{'network':>9}{'its own':>9}   wake-ups a second")
    for name, state in result["states"].items():
        woken = sum(state["wake_ups_per_s"].values())
        busiest = ", ".join(f"{who} {count:g}" for who, count in list(state["wake_ups_per_s"].items())[:5])
        print(
            f"  {name:<22}{state['cpu_percent']:8.2f}%{state['network_percent']:8.2f}%{state['own_percent']:8.2f}%"
            f"   {woken:.1f}: {busiest}"
        )
        if "sent" in state:
            print(
                f"\n  sent {state['sent']}, received {state['received']}, published {state['published']}; "
                f"its own {state['own_ms_per_received_frame']} ms of CPU for each frame received"
            )


if __name__ == "__main__":
    sys.exit(main())
