"""The script for machines with a GPU runs here on the CPU, on the same path with lower rates, and writes its JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from without_gpu import environment_without_gpu

sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu_networks import machine
from gpu_report import Report, all_perceived, at_most, enough_published

SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"
POINT = {"offered_per_s": 240.0, "published_per_s": 239.5, "age_ms": {"p50": 8.0, "p95": 12.0, "p99": 20.0}}


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *options]
    inherited = {**environment_without_gpu(), "PYTHON": sys.executable}
    return subprocess.run(
        command, cwd=folder, env=inherited | environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
def test_the_script_measures_the_cpu_where_there_is_no_gpu(tmp_path: Path) -> None:
    short = ("--cameras", "1", "--seconds", "1", "--frames", "2", "--processes", "1", "--json", "on_gpu.json")
    outcome = run(tmp_path, *short)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    result = json.loads((tmp_path / "on_gpu.json").read_text())
    check_machine(result["machine"])
    [network] = result["networks"].values()
    assert (network["provider"], network["fell_back"]) == ("CPUExecutionProvider", False)
    assert 0 < network["run_ms"]["1"] < 100
    assert {entry["what"] for entry in result["left_out"]} == {"cuda", "tensorrt"}
    assert result["failed"] == []
    found = [(one["load"], one["preparation_processes"]) for one in result["measurements"]]
    assert found == [("one camera, 720p, raw", "0"), ("1 x 8 Hz of 1080p, raw", "1"), ("1 x 16 Hz of 720p, raw", "1")]
    for one in result["measurements"]:
        for mark in one["marks"].values():
            assert mark["value"] > 0
            assert isinstance(mark["met"], bool)
    in_workers = result["measurements"][1]["figures"]
    assert in_workers["published_per_s"] > 0
    assert len(in_workers["cores_by_thread"]) > 1  # the node and its worker processes
    assert "callback_to_publish_p50_ms" in outcome.stdout


def check_machine(found: dict[str, Any]) -> None:
    assert found["cores"] >= 1
    assert "CPUExecutionProvider" in found["providers"]
    assert set(found) == {
        *("gpus", "cpu", "cores", "shared_memory_mib"),
        *("python", "onnxruntime", "providers", "tensorrt"),
    }


def test_the_machine_is_described() -> None:
    check_machine(machine())


def test_a_device_that_is_not_there_is_named_and_nothing_is_measured(tmp_path: Path) -> None:
    outcome = run(tmp_path, "--device", "tensorrt", "--json", "on_gpu.json")
    assert outcome.returncode == 1, outcome.stderr
    result = json.loads((tmp_path / "on_gpu.json").read_text())
    assert (result["networks"], result["measurements"]) == ({}, [])
    [left_out] = result["left_out"]
    assert left_out["what"] == "tensorrt"
    assert "TensorrtExecutionProvider" in left_out["why"]
    assert "left out: tensorrt" in outcome.stdout


def test_missing_packages_and_interpreters_are_named(tmp_path: Path) -> None:
    outcome = run(tmp_path, PYTHON=str(tmp_path / "none"))
    assert outcome.returncode == 2
    assert "expected a Python interpreter" in outcome.stderr
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    outcome = run(tmp_path, PYTHON=str(bare))
    assert outcome.returncode == 2
    assert "onnxruntime, rclpy" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_options_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    for options, words in ((("--cameras", "0"), "64 cameras"), (("--seconds", "0"), "1 second")):
        outcome = run(tmp_path, *options)
        assert outcome.returncode == 2
        assert words in outcome.stderr


def test_a_figure_is_compared_with_its_mark() -> None:
    marks = all_perceived(POINT)
    assert marks["published_share"] == {"value": 0.9979, "mark": 0.98, "met": True}
    assert marks["age_p99_ms"] == {"value": 20.0, "mark": 33.0, "met": True}
    assert not all_perceived({**POINT, "published_per_s": 200.0})["published_share"]["met"]
    many = {**POINT, "offered_per_s": 480.0, "published_per_s": 399.0}
    assert enough_published(many)["published_per_s"] == {"value": 399.0, "mark": 400.0, "met": False}
    assert at_most(None, 33.0) == {"value": None, "mark": 33.0, "met": False}


def test_a_step_gets_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that hangs is ended with all processes that it started, and one that is too long does not begin."""
    (tmp_path / "hang.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr("gpu_report.__file__", str(tmp_path / "gpu_report.py"))
    report = Report(tmp_path / "out.json", 3.0, tmp_path)
    assert report.run("hang.py", [], 60.0).startswith("needs 60 s")
    assert "the time was up" in report.run("hang.py", [str(tmp_path / "pid")], 1.0)
    assert not is_running(int((tmp_path / "pid").read_text()))
    report.save()
    assert json.loads((tmp_path / "out.json").read_text())["took_s"] >= 3


def is_running(process_id: int) -> bool:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state == "Z":
            return False
        os.sched_yield()
    return True
