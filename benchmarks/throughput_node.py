"""Run `perception_node` with named threads, with the time of the network's runs noted, and with trouble on request.

`throughput.py` starts this file as the node's process. The package comes from PYTHONPATH, perhaps another checkout.
Every Python thread gives its name to the kernel, also in the processes that the node starts with `multiprocessing`. The
trouble begins with SIGUSR1, so that the node starts as quickly as without it.

Usage: throughput_node.py [--times FILE] [--busy-threads N] [--switch-interval-ms X] [--small-topics N]
       --ros-args ...
"""

from __future__ import annotations

import argparse
import mmap
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETWORK_TIMES = struct.Struct("=QQQQ")
"""Runs of the network, frames in them, nanoseconds of the steady clock and nanoseconds of CPU time."""

BUSY = "busy"
"""Name of a thread that computes without end; a number follows."""


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=Path, help="file for the time of the network's runs")
    parser.add_argument("--busy-threads", type=int, default=0, help="threads that compute without end (0)")
    parser.add_argument("--switch-interval-ms", type=float, help="switch interval of the interpreter")
    parser.add_argument("--small-topics", type=int, default=0, help="number of topics /small0 ... of small messages")
    arguments, ros_arguments = parser.parse_known_args()
    from ros_kd_perception.ros import perception_node

    if arguments.times:
        note_network_times(arguments.times)
    subscribe_to_small_topics(perception_node.PerceptionNode, arguments.small_topics)

    def begin_trouble(*_: Any) -> None:
        for number in range(arguments.busy_threads):
            threading.Thread(target=compute_without_end, name=f"{BUSY} {number}", daemon=True).start()
        if arguments.switch_interval_ms:
            sys.setswitchinterval(arguments.switch_interval_ms / 1e3)

    signal.signal(signal.SIGUSR1, begin_trouble)
    return perception_node.main(ros_arguments)


def name_threads() -> None:
    """Let every Python thread that starts from now on give its name to the kernel, which keeps 15 bytes of it."""
    begin = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def begin_with_name(thread: threading.Thread) -> None:
        Path("/proc/self/task", str(threading.get_native_id()), "comm").write_text(thread.name[:15])
        begin(thread)

    threading.Thread._bootstrap_inner = begin_with_name  # type: ignore[attr-defined]


def note_network_times(path: Path) -> None:
    """Add up the time of all runs of the network in a file, which the benchmark reads while the node runs."""
    from ros_kd_perception.model.onnx_model import OnnxModel

    with path.open("r+b") as file:
        times = mmap.mmap(file.fileno(), NETWORK_TIMES.size)
    run: Callable[..., Any] = OnnxModel.run
    lock = threading.Lock()

    def run_and_note(model: OnnxModel, images: Any) -> Any:
        began_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        outputs = run(model, images)
        spent_ns = (time.monotonic_ns() - began_ns, time.thread_time_ns() - cpu_ns)
        with lock:  # a shadow model runs in another thread
            sums = NETWORK_TIMES.unpack(times[:])
            added = (1, len(images), *spent_ns)
            times[:] = NETWORK_TIMES.pack(*(total + more for total, more in zip(sums, added, strict=True)))
        return outputs

    OnnxModel.run = run_and_note  # type: ignore[assignment, method-assign]


def subscribe_to_small_topics(node_class: Any, count: int) -> None:
    """Let each new node of a class take small messages, as it takes /tf or /clock, and do nothing with them."""
    from std_msgs.msg import Float64

    make = node_class.__init__

    def make_with_topics(node: Any, **node_arguments: Any) -> None:
        make(node, **node_arguments)
        for number in range(count):
            node.create_subscription(Float64, f"/small{number}", lambda message: None, 10)

    node_class.__init__ = make_with_topics


def compute_without_end() -> None:
    """Keep the interpreter busy, as a callback that computes does."""
    number = 0
    while True:
        number = (number + 1) % 1000


name_threads()  # also in a process that multiprocessing spawns, which imports this file

if __name__ == "__main__":
    sys.exit(main())
