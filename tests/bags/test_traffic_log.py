"""Test the logs of what was sent and received."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros_kd_perception.bags.traffic_log import TrafficEntry, TrafficLog, TrafficLogError, read_traffic


def test_entries_are_read_as_they_were_written(tmp_path: Path) -> None:
    entries = [TrafficEntry(5, "image", "front", 7), TrafficEntry(6, "diagnostics", "", 0)]
    with TrafficLog(tmp_path / "log.csv") as log:
        for entry in entries:
            log.write(entry)
    assert list(read_traffic(tmp_path / "log.csv")) == entries


@pytest.mark.parametrize("place", [".", "none/log.csv", "file/log.csv"])
def test_a_log_that_cannot_be_written_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrafficLogError, match=r"expected to write the traffic log .*, got: .*; name a file"):
        TrafficLog(tmp_path / place)
