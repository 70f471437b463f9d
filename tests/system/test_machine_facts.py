"""Facts about a machine, read from made folders and from this one."""

from __future__ import annotations

import os
from pathlib import Path

from checkout import ROOT

from ros_kd_perception.system.machine_facts import (
    available_memory_bytes,
    has_gpu_device,
    processor_facts,
    shared_memory_facts,
)

PROFILE = ROOT / "config" / "fastdds_large_images.xml"


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_processor_with_a_quota_and_governors(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    for core, governor in enumerate(("performance", "powersave", "performance")):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_driver", "acpi-cpufreq\n")

    facts = processor_facts(tmp_path)

    assert facts.cores == len(os.sched_getaffinity(0))
    assert facts.quota_cores == 1.5
    assert facts.governors == ("performance", "powersave")
    assert facts.drivers == ("acpi-cpufreq",)


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")

    assert processor_facts(tmp_path).quota_cores is None
    assert processor_facts(tmp_path).governors == ()
    assert available_memory_bytes(tmp_path) is None
    assert not has_gpu_device(tmp_path)


def test_memory_is_limited_by_the_control_group(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n")
    assert available_memory_bytes(tmp_path) == 8_192_000_000
    write(tmp_path, "sys/fs/cgroup/memory.max", "2000000000\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", "500000000\n")
    assert available_memory_bytes(tmp_path) == 1_500_000_000
    # Files that were read, such as a bag, stay in memory until something else needs it.
    write(tmp_path, "sys/fs/cgroup/memory.current", "1900000000\n")
    write(tmp_path, "sys/fs/cgroup/memory.stat", "anon 300000000\nfile 1600000000\ninactive_file 1500000000\n")
    assert available_memory_bytes(tmp_path) == 1_600_000_000
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert available_memory_bytes(tmp_path) == 8_192_000_000


def test_this_machine_has_memory() -> None:
    assert (available_memory_bytes() or 0) > 0


def test_a_gpu_is_seen_by_the_devices_of_its_driver(tmp_path: Path) -> None:
    write(tmp_path, "dev/nvidiactl")
    assert has_gpu_device(tmp_path)


def test_shared_memory_and_its_segments(tmp_path: Path) -> None:
    for name, size in (("fastdds_0123456789abcdef", 5000), ("fastrtps_0123456789abcdef", 700), ("fastdds_port7411", 9)):
        (tmp_path / name).write_bytes(bytes(size))

    facts = shared_memory_facts(PROFILE, tmp_path)

    assert facts.segments_bytes == (700, 5000)
    assert facts.total_bytes >= facts.free_bytes > 0
    assert 32 << 20 < facts.process_bytes < 40 << 20
    assert shared_memory_facts(None, tmp_path).process_bytes == 0


def test_shared_memory_that_cannot_be_used(tmp_path: Path) -> None:
    assert "cannot be written to" in shared_memory_facts(PROFILE, tmp_path / "none").problem
    assert "there is no such file" in shared_memory_facts(tmp_path / "none.xml", tmp_path).problem
