"""The node publishes for a frame exactly what a replay writes for it: the same pixels and the same numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT

from ros_kd_perception.bags.reader import BagReader, decode_message
from ros_kd_perception.demo.command import threads_for_the_network

LIMIT_S = 180.0
CAMERAS = ("front", "left")


def run(module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", f"ros_kd_perception.{module}", *map(str, arguments)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert outcome.returncode == 0, outcome.stderr


def results_by_frame(path: Path) -> dict[tuple[str, int, int], Any]:
    """Return segmentation and detections by topic and stamp."""
    found = {}
    topics = {f"/perception/{camera}/{kind}" for camera in CAMERAS for kind in ("segmentation", "detections")}
    with BagReader(path, {"front": "/perception/front/segmentation"}) as bag:
        for raw in bag.raw_messages(topics):
            message = decode_message(raw)
            found[raw.topic, message.header.stamp.sec, message.header.stamp.nanosec] = message
    return found


def boxes(message: Any) -> list[tuple[object, ...]]:
    return [
        (
            d.bbox.center.position.x,
            d.bbox.center.position.y,
            d.bbox.size_x,
            d.bbox.size_y,
            d.results[0].hypothesis.class_id,
            d.results[0].hypothesis.score,
        )
        for d in message.detections
    ]


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_live_and_replayed_results_are_equal_to_the_bit(tmp_path: Path, compressed: bool) -> None:
    drive, live, replayed = tmp_path / "drive.mcap", tmp_path / "live", tmp_path / "replayed.mcap"
    rendering = ["-o", drive, "--duration-s", 3, "--rate-hz", 1, "--size", "640x360", "--cameras", *CAMERAS]
    run("render_drive", *rendering, *(["--compressed"] if compressed else []))
    run("demo", "--bag", drive, "--output", live)
    run("replay", drive, "-o", replayed, "--threads", threads_for_the_network(), "--quiet")

    from_node, from_replay = results_by_frame(live / "perception.mcap"), results_by_frame(replayed)
    assert len(from_replay) == 3 * len(CAMERAS) * 2
    # A busy machine may lose a frame. All others must be equal.
    assert len(from_node) >= len(from_replay) / 2
    assert set(from_node) <= set(from_replay)
    for key, lived in from_node.items():
        repeated = from_replay[key]
        assert lived.header.frame_id == repeated.header.frame_id
        if key[0].endswith("segmentation"):
            assert (lived.height, lived.width, lived.encoding) == (repeated.height, repeated.width, repeated.encoding)
            assert np.array_equal(lived.data, repeated.data)
        else:
            assert boxes(lived) == boxes(repeated)
    assert any(
        len(message.data) and np.unique(message.data).size > 3
        for key, message in from_replay.items()
        if key[0].endswith("segmentation")
    )
