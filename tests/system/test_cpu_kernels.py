"""Tests the search for INT8 instructions in lists of cores as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros_kd_perception.system.cpu_kernels import int8_kernels

X86_CORE = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f {}\nvmx flags\t: avx512_vnni\n\n"
ARM_CORE = "processor\t: 0\nFeatures\t: fp asimd {}\nCPU implementer\t: 0x41\n\n"


@pytest.mark.parametrize(
    ("machine", "cores", "found", "overflow", "words"),
    [
        ("x86_64", [X86_CORE.format("avx512_vnni")] * 2, True, False, "this CPU has avx512_vnni"),
        ("AMD64", [X86_CORE.format("avx_vnni")], True, False, "this CPU has avx_vnni"),
        ("x86_64", [X86_CORE.format("")], False, True, "none of avx512_vnni, avx_vnni, amx_int8"),
        ("aarch64", [ARM_CORE.format("asimddp"), ARM_CORE.format("asimddp i8mm")], True, False, "has asimddp"),
        ("aarch64", [ARM_CORE.format("i8mm"), ARM_CORE.format("")], False, False, "none of asimddp, i8mm"),
        ("x86_64", [], False, True, "unknown whether this CPU"),
        ("riscv64", [ARM_CORE.format("v")], False, False, "unknown whether this CPU"),
    ],
)
def test_every_core_must_have_the_instructions(
    tmp_path: Path, machine: str, cores: list[str], found: bool, overflow: bool, words: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("".join(cores))
    kernels = int8_kernels(cpuinfo, machine)
    assert (kernels.found, kernels.overflow) == (found, overflow)
    assert words in kernels.reason


def test_a_machine_without_the_list_is_unknown(tmp_path: Path) -> None:
    kernels = int8_kernels(tmp_path / "nowhere", "x86_64")
    assert not kernels.found
    assert kernels.overflow
