"""The benchmarks of the node's cost run as their docstrings say. Figures need a quiet machine and are not tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from without_gpu import FALLBACK, environment_without_gpu

PARTS = (  # of several benchmarks
    "cpu_by_thread.py",
    "device_option.py",
    "foreign_families.py",
    "gpu_networks.py",
    "node_process.py",
    "process_memory.py",
    "throughput_cameras.py",
    "throughput_measurement.py",
    "throughput_node.py",
    "throughput_report.py",
)
WITHOUT_NETWORK = ("tracking.py", "ground_points.py")
BENCHMARKS = sorted(
    path.name for path in (ROOT / "benchmarks").glob("*.py") if path.name not in PARTS + WITHOUT_NETWORK
)


def run_on_gpu_that_is_not_there(script: str, *more: str | Path) -> str:
    """Run a benchmark with a device that the machine lacks. Its model or node must report what runs instead."""
    command = [sys.executable, f"benchmarks/{script}", *map(str, more), "--device", "cuda"]
    environment = environment_without_gpu()
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert FALLBACK in outcome.stdout
    return outcome.stdout


def run(script: str, model: Path, output: Path, *more: str) -> tuple[Any, str]:
    printed = run_on_gpu_that_is_not_there(script, "--model", model, "--json", output, *more)
    return json.loads(output.read_text()), printed


@pytest.mark.parametrize("script", BENCHMARKS)
def test_every_benchmark_lets_the_device_be_chosen(script: str) -> None:
    job = ["swap"] if script == "model_changes.py" else []
    command = [sys.executable, f"benchmarks/{script}", *job, "--help"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert "--device {auto,tensorrt,cuda,cpu}" in " ".join(outcome.stdout.split())
    outcome = subprocess.run([*command[:-1], "--device", "gpu"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 2
    assert "invalid choice: 'gpu'" in outcome.stderr


def test_pool_and_free_space_run_the_network_on_the_requested_device(tiny_student: Path) -> None:
    run_on_gpu_that_is_not_there("preparation.py", "--model", tiny_student, "--images", "2")
    run_on_gpu_that_is_not_there("free_space.py", "--model", tiny_student, "--frames", "1")


def test_points_on_the_ground_are_timed_and_compared_with_the_true_ground() -> None:
    command = [sys.executable, "benchmarks/ground_points.py", "--frames", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "cost of one 1280x720 frame with 320x180 points" in outcome.stdout
    assert re.search(r"all of them +p50 \d+\.\d{3}  p95 \d+\.\d{3}", outcome.stdout)
    [near] = re.findall(r"free ground +0-5 m +\d+ +(-?[\d.]+) +(-?[\d.]+) +(-?[\d.]+)", outcome.stdout)
    assert all(abs(float(error_m)) < 0.2 for error_m in near)


def test_signatures_are_timed(tiny_student: Path, tmp_path: Path) -> None:
    result, _ = run("model_signatures.py", tiny_student, tmp_path / "ms.json", "--megabytes", "0.1", "--rounds", "1")
    assert len(result) == 5
    assert all(milliseconds > 0 for milliseconds in result.values())


def test_a_swap_of_models_is_timed(tiny_student: Path) -> None:
    models = ("--model", tiny_student, "--other", tiny_student)
    printed = run_on_gpu_that_is_not_there("model_changes.py", "swap", *models, "--rate", "10", "--swaps", "1")
    assert json.loads(printed)["job"] == "swap"


def test_cpu_time_of_the_idle_and_the_busy_node(tiny_student: Path, tmp_path: Path) -> None:
    result, printed = run("node_cpu.py", tiny_student, tmp_path / "cpu.json", "--seconds", "2", "--rate", "10")
    inactive, waiting, busy = result["states"].values()
    assert list(result["states"]) == ["inactive", "active, no frames", "active, 10 Hz"]
    assert all(state["own_percent"] <= state["cpu_percent"] for state in (inactive, waiting, busy))
    assert busy["sent"] == 20
    assert busy["received"] > 0
    assert busy["network_percent"] > 0
    assert busy["own_ms_per_received_frame"] > 0
    # Idle threads wait without a timeout. Only the executor wakes up, once a second for the diagnostics.
    for state in (inactive, waiting):
        assert not {"perception", "preparation 0", "overlay", "PNG mask"} & set(state["wake_ups_per_s"]), state
    assert waiting["wake_ups_per_s"].get("executor", 0) < 5
    assert "active, no frames" in printed


def test_network_threads_that_wait_in_different_ways_are_compared(tiny_student: Path, tmp_path: Path) -> None:
    output = tmp_path / "threads.json"
    command = [sys.executable, "benchmarks/network_threads.py", "--model", str(tiny_student), "--seconds", "0.2"]
    outcome = subprocess.run(
        [*command, "--json", str(output), "--device", "cuda"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "cuda has no such threads" in outcome.stdout
    for name, row in json.loads(output.read_text()).items():
        assert row["runs"] > 0
        assert row["cpu_ms_per_run"] > 0
        assert 0 < row["run_ms"]["p50"] <= row["run_ms"]["p95"]
        assert name in outcome.stdout


def test_ways_of_taking_an_image_are_compared(tmp_path: Path) -> None:
    output = tmp_path / "taking.json"
    command = [sys.executable, "benchmarks/taking.py", "--size", "320x240", "--images", "3", "--json", str(output)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stderr
    ways = json.loads(output.read_text())
    assert [name for name, row in ways.items() if row["cpu_ratio"] == 1] == ["executor, message object"]
    for name, row in ways.items():
        assert row["images"] == 3
        assert row["cpu_ms"] > 0
        assert 0 < row["wall_ms"] <= row["wall_p95_ms"]
        assert name in outcome.stdout
    assert "librcl through ctypes" in ways


def test_every_copy_of_a_frame_that_remains_is_listed(tiny_student: Path, tmp_path: Path) -> None:
    steps, printed = run("frame_copies.py", tiny_student, tmp_path / "copies.json", "--repeats", "3")
    copied = {step["name"]: step["copied"] for step in steps}
    without = ("read the message", "decode bgr8", "hand to the network", "mask message")
    assert not any(copied[name] for name in without), copied
    assert all(step["cpu_ms"] > 0 for step in steps)
    assert all(step["plain_copy_ms"] > 0 for step in steps if step["copied"])
    assert "decode bgr8" in printed


def test_the_rate_of_a_replay_is_compared_with_that_of_the_bare_network(tiny_student: Path, tmp_path: Path) -> None:
    result, printed = run("replay_rate.py", tiny_student, tmp_path / "rate.json", "--frames", "4", "--threads", "2")
    assert list(result["bare_hz"]) == ["1", "2"]
    for row in result["replays"].values():
        assert row["ratio"] > 0
        assert all(value > 0 for name, value in row["cpu_ms"].items() if name != "other"), row
    assert "replay of jpeg" in printed


@pytest.mark.parametrize("script", ["node_cpu.py", "network_threads.py", "frame_copies.py", "replay_rate.py"])
def test_a_missing_model_is_refused(script: str, tmp_path: Path) -> None:
    command = [sys.executable, f"benchmarks/{script}", "--model", str(tmp_path / "none.onnx")]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 2
    assert "none.onnx" in outcome.stderr
