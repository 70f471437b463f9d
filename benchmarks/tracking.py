#!/usr/bin/env python3
"""Measure what it costs to give the boxes of a frame the ids of their objects (`track_objects`).

Objects of four classes move over an image of 1280x720, turn back at its edges and overlap. Boxes are jittered, some
are missing, some have low scores. The script prints the median and the 95th percentile of the time of a frame.

Usage: python benchmarks/tracking.py [--boxes N ...] [--frames N]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from ros_kd_perception.structures import Detections
from ros_kd_perception.tracking.byte_tracker import ByteTracker, TrackingSettings

SIZE_PX = np.array([1280.0, 720.0])
FRAME_NS = 100_000_000
MISSED, LOW_SCORE = 0.05, 0.15


class Street:
    """Objects that move, each with a constant speed until it meets an edge of the image."""

    def __init__(self, count: int) -> None:
        self._random = np.random.default_rng(1)
        self._centers = self._random.uniform((0, 200), (1280, 520), (count, 2))
        self._speeds = self._random.normal(0, 8, (count, 2))
        self._sides = self._random.uniform(20, 110, (count, 2))
        self._labels = self._random.integers(0, 4, count).astype(np.int32)

    def next_frame(self) -> Detections:
        """Move on and return the boxes, best score first."""
        count = len(self._centers)
        self._centers += self._speeds
        self._speeds[(self._centers < 0) | (self._centers > SIZE_PX)] *= -1
        centers = self._centers + self._random.normal(0, 1.5, (count, 2))
        boxes = np.hstack((centers - self._sides / 2, centers + self._sides / 2)).astype(np.float32)
        scores = self._random.uniform(0.5, 1.0, count).astype(np.float32)
        scores[self._random.random(count) < LOW_SCORE] = 0.35
        shown = np.flatnonzero(self._random.random(count) >= MISSED)
        shown = shown[np.argsort(-scores[shown])]
        return Detections(boxes[shown], scores[shown], self._labels[shown])


def times_ms(count: int, frames: int) -> np.ndarray:
    """Return the time of each frame, milliseconds."""
    street, tracker, found = Street(count), ByteTracker(TrackingSettings()), []
    for number in range(frames + 20):
        boxes = street.next_frame()
        started = time.perf_counter_ns()
        tracker.update(number * FRAME_NS, boxes)
        found.append((time.perf_counter_ns() - started) / 1e6)
    return np.array(found[20:])


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, nargs="+", default=[10, 50, 100], help="boxes in a frame (10 50 100)")
    parser.add_argument("--frames", type=int, default=300, help="frames to measure (300)")
    options = parser.parse_args()
    if min(options.boxes) < 1 or max(options.boxes) > 1000 or not 1 <= options.frames <= 100_000:
        parser.error("expected 1 to 1000 boxes and 1 to 100000 frames")
    print("boxes  median ms  p95 ms")
    for count in options.boxes:
        found = times_ms(count, options.frames)
        print(f"{count:5d}  {np.median(found):9.3f}  {np.quantile(found, 0.95):6.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
