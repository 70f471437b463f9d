"""Merges messages of several chunks or files in the order of their log times."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ros_kd_perception.bags.mcap_records import MAX_CHUNK_BYTES
from ros_kd_perception.bags.storage import StorageFile

MAX_OPEN_BYTES = 2 * MAX_CHUNK_BYTES
"""Memory for chunks that are open at the same time because their log times overlap."""


class _Timed(Protocol):
    @property
    def log_time_ns(self) -> int: ...


MessageT = TypeVar("MessageT", bound=_Timed)


@dataclass(frozen=True)
class Part(Generic[MessageT]):
    """Messages that are already in order, such as those of one chunk or one file.

    Attributes:
        start_ns: Lower bound of the log times.
        open: Returns the messages in order, and how many bytes of memory they use until the last one is taken.
    """

    start_ns: int
    open: Callable[[], tuple[Iterator[MessageT], int]]


def in_time_order(parts: Sequence[Part[MessageT]]) -> Iterator[MessageT]:
    """Merge parts in the order of log times. Open each part only when its first message may be next.

    Raises:
        ValueError: Overlapping parts use more than `MAX_OPEN_BYTES`.
    """
    waiting = deque(sorted(parts, key=lambda part: part.start_ns))
    # A heap of the open parts: time of the next message, number of the part, next message, messages after it, bytes.
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
                    "total; sort the file by time with `mcap sort`"
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
    """Group the files of a bag whose log times overlap. Files without messages are left out.

    Files from several recorders overlap, for example with one recorder for each camera. The files of a split recording
    may overlap by some messages.

    Args:
        files: Files in the order of recording.

    Returns:
        The groups, in the order of their first files.
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
