"""How many worker processes a node needs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

AUTO = "auto"
MAX_PROCESSES = 16
PROCESS_CHOICES = (AUTO, *map(str, range(MAX_PROCESSES + 1)))
"""Values of the parameter preparation_processes."""
_USUAL_RATE_HZ = 30.0
_FRAME_MS = 5.0
"""CPU time of an image beside the network. One of 1280x720 takes 3 ms, and those of many cameras are larger."""
_BUSY = 0.6
"""Share of its time that a process, or the threads of one interpreter, should at most be busy."""


def process_count(wanted: str, max_rates_hz: Sequence[float], network_ms: float, cores: int | None = None) -> int:
    """Return the number of worker processes.

    With `auto`: none as long as the threads of one interpreter can do the work, or if the machine has no cores to
    spare. A slow network limits the number of images, and so the work.

    Args:
        wanted: The parameter, `auto` or a number.
        max_rates_hz: Limit on the rate of each camera; 0 for none, which counts as 30 Hz.
        network_ms: How long the network takes for one image, milliseconds.
        cores: Number of cores. None for those that this process may use.
    """
    if wanted != AUTO:
        return int(wanted)
    offered_hz = sum(rate or _USUAL_RATE_HZ for rate in max_rates_hz)
    load = min(offered_hz, 1e3 / max(network_ms, 1e-3)) * _FRAME_MS / 1e3
    if load <= _BUSY:
        return 0
    spare = (len(os.sched_getaffinity(0)) if cores is None else cores) - 2
    return max(0, min(math.ceil(load / _BUSY), spare, len(max_rates_hz), MAX_PROCESSES))


def processes_of_node(workers: int, cameras: int) -> int:
    """Return how many processes a node has: its own, those that serve cameras, and the one that stands by for them.

    Args:
        workers: Return value of `process_count`.
        cameras: Number of cameras. More processes than cameras are not started.
    """
    return 2 + min(workers, cameras) if workers else 1
