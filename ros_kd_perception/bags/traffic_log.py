"""Logs when messages were sent and received, on a clock that all processes of one machine share.

The player logs when it published each camera message, and the recorder when it received each result. Both use
CLOCK_MONOTONIC (`time.monotonic_ns`), which is the same in all processes and is never set. The difference of two lines
is therefore a latency, independent of /clock and of header stamps.
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
    """One message that a process published or received.

    Attributes:
        steady_ns: Time of the event, nanoseconds of CLOCK_MONOTONIC.
        kind: Kind of the message: `image`, `segmentation`, `detections`, `diagnostics` ...
        camera: Name of its camera. Empty if it belongs to no camera.
        stamp_ns: Stamp of its header.
    """

    steady_ns: int
    kind: str
    camera: str
    stamp_ns: int


class TrafficLogError(ValueError):
    """A traffic log cannot be written. The text is one sentence."""


class TrafficLog:
    """Writes entries to a CSV file, each one at once, so that another process can follow the file."""

    def __init__(self, path: Path) -> None:
        """Begin a file, in the place of an earlier one.

        Raises:
            TrafficLogError: The file cannot be written.
        """
        try:
            self._file = path.open("w", encoding="utf-8", newline="", buffering=1)
        except OSError as error:
            raise TrafficLogError(
                f"expected to write the traffic log {path}, got: {error.strerror}; name a file in a folder that exists "
                "and can be written to"
            ) from None
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
    """Read a log, which may still be written to. An incomplete last line is left out.

    Raises:
        ValueError: A complete line is not a line of a traffic log.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = file.read().splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    for row in csv.DictReader(complete):
        yield TrafficEntry(int(row["steady_ns"]), row["kind"], row["camera"], int(row["stamp_ns"]))
