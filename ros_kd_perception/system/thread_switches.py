"""How soon a thread gets the interpreter from another one that computes."""

from __future__ import annotations

import sys

SWITCH_INTERVAL_S = 0.0005
"""CPython's own is 5 ms. A frame changes threads some ten times, so beside one thread that computes without end the node
published 30 of 120 images a second. It published 102 with 1 ms, 107 with 0.5 ms and 101 with 0.2 ms
(`benchmarks/throughput.py --cameras 2 --rates 120 --busy-threads 1 --switch-interval-ms X`)."""


def switch_threads_soon() -> None:
    """Let a thread that waits for the interpreter have it within half a millisecond. For the whole process."""
    sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))
