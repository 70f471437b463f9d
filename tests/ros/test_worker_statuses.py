"""The statuses of worker processes on `/diagnostics`: each of one name, while cameras go from process to process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ros_kd_perception.ros.workers.worker_statuses import worker_statuses

GROUPS = (("front", "rear"), ("left",))


@dataclass(eq=False)
class Process:
    """What a process has told last. It may serve other cameras by now."""

    statuses: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, *groups: Sequence[str]) -> None:
        self.statuses = [
            {"level": 1, "name": name, "message": "text", "hardware_id": "", "values": [["key", "1"]], "cameras": group}
            for group in groups
            for name in (*(f"{camera} scan" for camera in group), "shadow")
        ]


def names(served_by: dict[str, Process], *processes: Process) -> list[str]:
    return sorted(status.name for status in worker_statuses(processes, served_by.get, len(GROUPS)))


def test_names_stay_the_same_while_a_group_moves_and_while_another_has_no_process() -> None:
    crowded, idle = Process(), Process()
    crowded.tell(*GROUPS)
    served_by = dict.fromkeys(("front", "rear", "left"), crowded)
    all_names = ["front scan", "left scan", "rear scan", "shadow of front, rear", "shadow of left"]
    assert names(served_by, crowded, idle) == all_names

    # The group of `left` has moved. The process that had it tells so with its next statuses only.
    served_by["left"] = idle
    idle.tell(GROUPS[1])
    assert names(served_by, crowded, idle) == all_names
    crowded.tell(GROUPS[0])
    assert names(served_by, crowded, idle) == all_names

    # The process of `left` has ended.
    del served_by["left"]
    assert names(served_by, crowded) == ["front scan", "rear scan", "shadow of front, rear"]


def test_a_single_group_needs_no_cameras_in_its_names() -> None:
    process = Process()
    process.tell(GROUPS[0])
    [front, rear, shadow] = worker_statuses([process], lambda camera: process, groups=1)
    assert [status.name for status in (front, rear, shadow)] == ["front scan", "rear scan", "shadow"]
    assert front.values == (("key", "1"),)
