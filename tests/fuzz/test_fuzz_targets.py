"""Entry points of the fuzzer, without its engine: sound inputs, damaged ones, and those that once found a fault."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from checkout import ROOT
from fuzz_seeds import damaged, seeds_of
from fuzz_targets import TARGETS

FOUND = sorted((Path(__file__).parent / "found").glob("*/*"))
DAMAGED_INPUTS = 60


@pytest.mark.parametrize("target", TARGETS)
def test_sound_inputs_pass(target: str) -> None:
    seeds = seeds_of(target)
    assert seeds
    for seed in seeds:
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_inputs_raise_nothing_but_refusals(target: str) -> None:
    random, seeds = Random(target), seeds_of(target)
    for _ in range(DAMAGED_INPUTS):
        TARGETS[target](damaged(random, random.choice(seeds)))
    for content in (b"", b"\0", b"\xff" * 300):
        TARGETS[target](content)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_inputs_that_once_found_a_fault_find_none(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_an_input_is_fed_again_by_the_command_that_the_fuzzer_prints(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"/**: [")
    command = [sys.executable, "tests/fuzz/fuzz.py", "--only", "parameter_file", "--input", str(tmp_path / "input")]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (outcome.returncode, outcome.stdout) == (0, "parameter_file: no fault\n"), outcome.stderr


def test_an_unknown_entry_point_is_refused() -> None:
    command = [sys.executable, "tests/fuzz/fuzz.py", "--target", "images", "--seconds", "1"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert outcome.returncode == 2
    assert "expected a --target among image, compressed_image" in outcome.stderr


def test_an_input_that_needs_too_much_memory_is_told_from_an_engine_that_does(tmp_path: Path) -> None:
    fits_alone = runpy.run_path(str(ROOT / "tests/fuzz/fuzz.py"))["fits_alone"]
    path = tmp_path / "oom-input"
    path.write_bytes(seeds_of("camera_info")[0])
    assert fits_alone("camera_info", path)
    assert not fits_alone("camera_info", path, memory_mb=64)
