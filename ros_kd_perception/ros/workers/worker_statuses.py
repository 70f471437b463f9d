"""The statuses that worker processes tell of their sinks, as the node shows them on `/diagnostics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ros_kd_perception.health.status import Level, Status


class StatusTeller(Protocol):
    """A worker process, with its latest statuses as it sent them."""

    statuses: list[dict[str, Any]]


def worker_statuses(
    processes: Sequence[StatusTeller], process_of: Callable[[str], StatusTeller | None], groups: int
) -> list[Status]:
    """Return the statuses of all cameras that are served.

    A status keeps its name whatever happens to the processes, because one that is not sent again stays on the screens
    of people as it was.

    Args:
        processes: The processes.
        process_of: Returns the process that serves a camera now. Another one may still have statuses of it.
        groups: Number of groups of cameras.
    """
    return [
        _status(told, groups)
        for process in processes
        for told in process.statuses
        if process_of(told["cameras"][0]) is process
    ]


def _status(told: dict[str, Any], groups: int) -> Status:
    name, cameras = told["name"], told["cameras"]
    # Each group has a status of this name if it is not that of one camera. The cameras tell them apart.
    if groups > 1 and not any(name.startswith(f"{camera} ") for camera in cameras):
        name = f"{name} of {', '.join(cameras)}"
    values = tuple((key, value) for key, value in told["values"])
    return Status(Level(told["level"]), name, told["message"], told["hardware_id"], values)
