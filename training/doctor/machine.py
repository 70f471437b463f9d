"""Findings about the machine: processors, GPUs, memory, disk and shared memory."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY
from training.doctor.finding import Finding
from training.doctor.probe import Facts

DEVICES, RESOURCES = "Devices", "Memory and disk"
DISK_MIN_BYTES = 5_000_000_000  # an environment, rendered frames and the checkpoints of a few runs
SHARED_MEMORY_MIN_BYTES = 256_000_000  # four batches of two workers in a large recipe
MEMORY_MIN_BYTES = 4_000_000_000
# Flags of /proc/cpuinfo that decide how fast a network runs.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_INT8_FLAGS, _BF16_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}, {"avx512_bf16", "amx_bf16"}


def device_findings(torch_facts: Facts, runtime_facts: Facts) -> list[Finding]:
    """Return the processors and GPUs, as the system, torch and ONNX Runtime see them.

    Args:
        torch_facts: Facts of the probe `torch`.
        runtime_facts: Facts of the probe `onnxruntime`.
    """
    return [_processor(), *_torch(torch_facts), *_runtime(runtime_facts)]


def resource_findings(folder: Path) -> list[Finding]:
    """Return the free memory, disk and shared memory.

    Args:
        folder: Where training writes.
    """
    found = [
        _memory(),
        _room("free disk", folder, DISK_MIN_BYTES, "make room, or set output of recipes to another disk"),
    ]
    remedy = "give a container more with --shm-size=1g or --ipc=host, or set data.workers to 0"
    return [*found, _room("shared memory", SHARED_MEMORY, SHARED_MEMORY_MIN_BYTES, remedy)]


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = _cpu_flags()
    found = f"{cores} threads"
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        found += f", of which a container limit leaves {int(quota) / int(period):.1f}" if quota != "max" else ""
    found += f"; {' '.join(flag for flag in _CPU_FLAGS if flag in flags) or 'no AVX2'}" if flags else ""
    slow = [what for what, wanted in (("INT8 files", _INT8_FLAGS), ("bf16-mixed", _BF16_FLAGS)) if not flags & wanted]
    found += f"; no fast arithmetic for {' and '.join(slow)}" if flags and slow else ""
    return Finding(DEVICES, "CPU", "ok", found)


def _cpu_flags() -> set[str]:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def _torch(facts: Facts) -> list[Finding]:
    if "threads" not in facts:  # the findings about packages say why
        return []
    reinstall = "install the torch that setup.py pins, built for this machine"
    found = [_ran("torch on the CPU", f"{facts['threads']} threads", facts["error"], reinstall, required=True)]
    for index, gpu in enumerate(facts["gpus"]):
        what = f"{gpu['name']}, {gpu['memory_bytes'] / 1e9:.1f} GB, {gpu['free_bytes'] / 1e9:.1f} GB free"
        found.append(_ran(f"torch on cuda:{index}", what, gpu["error"], f"{reinstall}, or set --accelerator cpu"))
    if not facts["gpus"]:
        build = facts["cuda_build"]
        what = f"no GPU found, built for CUDA {build}" if build else "built without CUDA"
        remedy = (
            "check nvidia-smi, and that its driver knows this CUDA" if build else "install torch from its CUDA index"
        )
        found.append(
            Finding(DEVICES, "torch on CUDA", "missing", what, f"training runs on the CPU; for a GPU {remedy}")
        )
    return found


def _runtime(facts: Facts) -> list[Finding]:
    if "providers" not in facts:
        return []
    remedies = {
        "cpu": "restore models/student.onnx, or install the onnxruntime that constraints.txt pins",
        "cuda": "install the CUDA and cuDNN that docs/vehicle.md names for this ONNX Runtime, or use device cpu",
    }
    found = [
        _ran(f"ONNX Runtime on {device}", result.get("runs", ""), result["error"], remedies[device])
        for device, result in facts["devices"].items()
    ]
    if "cuda" not in facts["devices"]:
        remedy = "inference runs on the CPU; for a GPU install onnxruntime-gpu instead of onnxruntime"
        found.append(
            Finding(DEVICES, "ONNX Runtime on cuda", "missing", f"has {', '.join(facts['providers'])}", remedy)
        )
    return found


def _ran(name: str, what: str, error: str, remedy: str, required: bool = False) -> Finding:
    if error:
        return Finding(DEVICES, name, "broken", f"{what}; {error}".lstrip("; "), remedy, required)
    return Finding(DEVICES, name, "ok", what, required=required)


def _memory() -> Finding:
    sizes = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            sizes[key] = int(value.split()[0]) * 1024
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    found = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB available"
    if not total:
        return Finding(RESOURCES, "memory", "ok", "not known on this system")
    if free < MEMORY_MIN_BYTES:
        return Finding(RESOURCES, "memory", "note", found, "end other programs, or lower batch_size and data.workers")
    return Finding(RESOURCES, "memory", "ok", found)


def _room(name: str, folder: Path, least_bytes: int, remedy: str) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(RESOURCES, name, "missing", f"{folder}: {error.strerror}", remedy)
    found = f"{free / 1e9:.1f} GB in {folder}"
    return Finding(RESOURCES, name, "note" if free < least_bytes else "ok", found, remedy if free < least_bytes else "")
