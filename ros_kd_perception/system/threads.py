"""Settings of a process in which several threads work on each frame."""

from __future__ import annotations

import sys

import cv2

SWITCH_INTERVAL_S = 0.0005
"""CPython's own is 5 ms. A frame changes threads some ten times, so beside one thread that computes without end, the
node published 30 of 120 images a second. It published 102 with 1 ms, 107 with 0.5 ms and 101 with 0.2 ms
(`benchmarks/throughput.py --cameras 2 --rates 120 --busy-threads 1 --switch-interval-ms X`)."""


def set_up_threads() -> None:
    """Let a thread that waits for the interpreter have it within half a millisecond, and OpenCV use no threads.

    OpenCV would share a letterbox of a third of a millisecond between threads that spin while they wait for work, which
    takes 0.3 ms more CPU time a frame and saves no time.
    """
    sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))
    cv2.setNumThreads(1)
