"""Reads facts about this machine for `check_vehicle`: cores, clock governor, memory, shared memory, GPU devices."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ros_kd_perception.system.fastdds_settings import segment_bytes
from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY
from ros_kd_perception.system.segment_room import NoSharedMemory, free_bytes, room_bytes

_SEGMENT_NAME = re.compile(r"fast(?:dds|rtps)_[0-9a-f]{16}")
_GPU_DEVICES = ("dev/nvidiactl", "dev/nvhost-gpu", "dev/nvgpu")
ROOT = Path("/")


@dataclass(frozen=True)
class ProcessorFacts:
    """The CPU that this process may use.

    Attributes:
        cores: Number of cores.
        quota_cores: Limit of the control group in cores, as of a container. None without a limit.
        governors: Names of the frequency governors of all cores, sorted. Empty where they cannot be seen.
        drivers: Names of their drivers, sorted.
    """

    cores: int
    quota_cores: float | None = None
    governors: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()


@dataclass(frozen=True)
class SharedMemoryFacts:
    """The shared memory of Fast DDS.

    Attributes:
        total_bytes: Size of /dev/shm.
        free_bytes: Free room in it.
        process_bytes: Room that one process with the profile takes. 0 if no profile with shared memory is used.
        segments_bytes: Sizes of the segments that processes of this machine have.
        problem: Why it cannot be used. Empty if it can.
    """

    total_bytes: int
    free_bytes: int
    process_bytes: int
    segments_bytes: tuple[int, ...] = ()
    problem: str = ""


def processor_facts(root: Path = ROOT) -> ProcessorFacts:
    """Read cores, quota and governors.

    Args:
        root: Folder that stands for /, for tests.
    """
    frequency = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
    return ProcessorFacts(
        len(os.sched_getaffinity(0)),
        _quota_cores(root),
        _words(root, f"{frequency}/scaling_governor"),
        _words(root, f"{frequency}/scaling_driver"),
    )


def available_memory_bytes(root: Path = ROOT) -> int | None:
    """Return the memory that processes can still take, within the limit of the control group. None if it is unknown.

    Args:
        root: Folder that stands for /, for tests.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    rooms = [int(found[1]) * 1024] if found else []
    group = root / "sys/fs/cgroup"
    limit, used = (_text(group / name).strip() for name in ("memory.max", "memory.current"))
    if limit.isdecimal() and used.isdecimal():
        # The kernel gives up the cache of files that were read a while ago. /proc/meminfo counts it as available, too.
        cached = re.search(r"^inactive_file (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
        rooms.append(max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0)))
    return min(rooms, default=None)


def shared_memory_facts(profile: Path | None, folder: Path = SHARED_MEMORY) -> SharedMemoryFacts:
    """Read the room in shared memory, after the segments of killed processes were removed.

    Args:
        profile: The Fast DDS profile that processes use. None if they use none.
        folder: The folder of the shared memory.
    """
    try:
        free = free_bytes(folder)
        needed = room_bytes(segment_bytes(profile)) if profile else 0
    except NoSharedMemory as error:
        return SharedMemoryFacts(0, 0, 0, problem=str(error))
    except (OSError, ValueError) as error:
        return SharedMemoryFacts(0, 0, 0, problem=f"expected the XML of its settings in {profile}, got: {error}")
    return SharedMemoryFacts(shutil.disk_usage(folder).total, free, needed, _segment_sizes(folder))


def has_gpu_device(root: Path = ROOT) -> bool:
    """Return whether the driver of an NVIDIA GPU is loaded and visible here.

    Args:
        root: Folder that stands for /, for tests.
    """
    return any((root / name).exists() for name in _GPU_DEVICES)


def _segment_sizes(folder: Path) -> tuple[int, ...]:
    sizes = []
    for path in folder.iterdir():
        if _SEGMENT_NAME.fullmatch(path.name):
            with suppress(OSError):
                sizes.append(path.stat().st_size)
    return tuple(sorted(sizes))


def _quota_cores(root: Path) -> float | None:
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        return int(quota) / int(period)
    return None


def _words(root: Path, pattern: str) -> tuple[str, ...]:
    return tuple(sorted({word for path in root.glob(pattern) if (word := _text(path).strip())}))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
