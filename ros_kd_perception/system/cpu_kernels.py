"""Tells whether this CPU has instructions for networks of 8-bit integers.

A CPU without them needs several instructions for each product of bytes. On x86-64, ONNX Runtime then also adds two
products in 16 bits, which overflow: a quantised student gave another class for 3 % of the pixels of real frames.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

INT8_FLAGS = {
    "x86_64": ("avx512_vnni", "avx_vnni", "amx_int8"),
    "aarch64": ("asimddp", "i8mm"),
}
"""Flags of /proc/cpuinfo by machine. Any one of them is enough."""

_MACHINE_OF_NAME = {"amd64": "x86_64", "arm64": "aarch64"}
_FLAG_KEYS = ("flags", "features")
_MAX_BYTES = 4 << 20
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Int8Kernels:
    """Whether every core of this CPU has instructions for products of bytes.

    Attributes:
        found: True if it has. False if it has not, or if this is unknown.
        reason: Why, as a clause such as `this CPU has avx512_vnni`.
        overflow: Whether ONNX Runtime would overflow in 16 bits here, as on x86-64 without these instructions.
    """

    found: bool
    reason: str
    overflow: bool = False


def int8_kernels(cpuinfo: Path = CPUINFO, machine: str = "") -> Int8Kernels:
    """Look for the instructions.

    Args:
        cpuinfo: The kernel's list of the cores.
        machine: Name of the architecture. Empty for the one of this machine.
    """
    machine = (machine or platform.machine()).lower()
    machine = _MACHINE_OF_NAME.get(machine, machine)
    wanted = INT8_FLAGS.get(machine, ())
    cores = _flags_of_cores(cpuinfo)
    found = [flag for flag in wanted if cores and all(flag in core for core in cores)]
    if found:
        return Int8Kernels(True, f"this CPU has {found[0]}")
    reason = f"this CPU has none of {', '.join(wanted)}"
    if not wanted or not cores:
        reason = f"it is unknown whether this CPU ({machine or 'unknown'}) has instructions for INT8"
    return Int8Kernels(False, reason, overflow=machine == "x86_64")


def _flags_of_cores(cpuinfo: Path) -> list[set[str]]:
    try:
        with cpuinfo.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    rows = (line.partition(":") for line in text.splitlines())
    return [set(flags.split()) for key, _, flags in rows if key.strip().lower() in _FLAG_KEYS]
