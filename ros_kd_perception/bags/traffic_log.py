"""Which message crossed the graph when, on the clock that all processes of one machine share.

The player writes down when it handed each camera message over, the recorder when each result reached it. Both read
CLOCK_MONOTONIC (`time.monotonic_ns`), which is the same in every process and is set by nobody, so that the difference
of two lines is a latency, whatever /clock and the header stamps say.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_COLUMNS = ("steady_ns", "kind", "camera", "stamp_ns")


@dataclass(frozen=True)
class TrafficEntry:
    """One message that left or reached a process.

    Attributes:
        steady_ns: when, nanoseconds of CLOCK_MONOTONIC.
        kind: what: `image`, `segmentation`, `detections`, `diagnostics` ...
        camera: name of its camera, empty where it has none.
        stamp_ns: stamp of its header.
    """

    steady_ns: int
    kind: str
    camera: str
    stamp_ns: int


class TrafficLog:
    """Write entries to a CSV file, each as it happens, so that another process can follow the file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="", buffering=1)
        self._rows = csv.writer(self._file)
        self._rows.writerow(_COLUMNS)

    def write(self, entry: TrafficEntry) -> None:
        """Append one line."""
        self._rows.writerow((entry.steady_ns, entry.kind, entry.camera, entry.stamp_ns))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TrafficLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_traffic(path: Path) -> Iterator[TrafficEntry]:
    """Read a log, one that is still being written too: a line that is not complete yet is left out.

    Raises:
        ValueError: a complete line is not one of a traffic log.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = file.read().splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    for row in csv.DictReader(complete):
        yield TrafficEntry(int(row["steady_ns"]), row["kind"], row["camera"], int(row["stamp_ns"]))
