"""A node that tries a model, runs it and compares it with a shadow writes no telemetry and looks up no host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ros_graph import Peer
from telemetry_watch import TelemetryWatch


def test_a_node_writes_no_telemetry(
    peer: Peer, start_node: Any, environment: dict[str, str], tiny_student: Path, tmp_path: Path
) -> None:
    watch = TelemetryWatch(tmp_path / "watch", environment)
    environment.clear()
    environment.update(watch.environment)
    with start_node(shadow_model=tiny_student) as node:
        peer.until_active()
        assert node.end() == 0
    assert (watch.files(), watch.lookups()) == ([], [])
