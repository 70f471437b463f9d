"""Put messages of several chunks or files in the order of their log times."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ros_kd_perception.bags.mcap_records import MAX_CHUNK_BYTES
from ros_kd_perception.bags.storage import StorageFile

MAX_OPEN_BYTES = 2 * MAX_CHUNK_BYTES
"""Of chunks that are in memory at the same time, because their log times overlap."""


class _Timed(Protocol):
    @property
    def log_time_ns(self) -> int: ...


MessageT = TypeVar("MessageT", bound=_Timed)


@dataclass(frozen=True)
class Part(Generic[MessageT]):
    """Messages that are in order among themselves.

    Attributes:
        start_ns: no message of it is earlier.
        open: gives its messages in order, and how many bytes of memory they hold until they are all taken.
    """

    start_ns: int
    open: Callable[[], tuple[Iterator[MessageT], int]]


def in_time_order(parts: Sequence[Part[MessageT]]) -> Iterator[MessageT]:
    """Merge parts, each of which is opened when the first of its messages may be due.

    Raises:
        ValueError: parts that overlap hold more than `MAX_OPEN_BYTES`.
    """
    waiting = deque(sorted(parts, key=lambda part: part.start_ns))
    # Next message of each open part: its time, the number of the part, the message, those behind it, bytes held.
    due: list[tuple[int, int, MessageT, Iterator[MessageT], int]] = []
    open_bytes = 0
    while waiting or due:
        while waiting and (not due or waiting[0].start_ns <= due[0][0]):
            number = len(parts) - len(waiting)
            messages, size = waiting.popleft().open()
            if (first := next(messages, None)) is not None:
                heapq.heappush(due, (first.log_time_ns, number, first, messages, size))
                open_bytes += size
            if open_bytes > MAX_OPEN_BYTES:
                raise ValueError(
                    f"expected chunks one after the other, the log times of {len(due)} overlap, {open_bytes} bytes in "
                    "all; sort the file by time with `mcap sort`"
                )
        if due:
            _, number, message, messages, size = due[0]
            if (following := next(messages, None)) is not None:
                heapq.heapreplace(due, (following.log_time_ns, number, following, messages, size))
            else:
                heapq.heappop(due)
                open_bytes -= size
            yield message


def simultaneous(files: Sequence[StorageFile]) -> list[list[StorageFile]]:
    """Put files of a bag whose log times overlap together, without those that have no messages.

    Files overlap that were written by several recorders, one for each camera for instance. Those of a split recording
    may overlap by some messages.

    Args:
        files: in the order of recording.

    Returns:
        Groups in the order of their first files.
    """
    groups: list[list[StorageFile]] = []
    for file in files:
        if not any(topic.count for topic in file.topics):
            continue
        found = [group for group in groups if any(_overlap(file, other) for other in group)]
        if not found:
            groups.append([file])
            continue
        found[0].extend([*(other for group in found[1:] for other in group), file])
        groups = [group for group in groups if group not in found[1:]]
    return groups


def _overlap(file: StorageFile, other: StorageFile) -> bool:
    return file.start_ns < other.end_ns and other.start_ns < file.end_ns
