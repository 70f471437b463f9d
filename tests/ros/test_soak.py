"""A short soak run: cameras restart, memory and open files of the node do not grow, every image is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from without_gpu import FALLBACK, environment_without_gpu


@pytest.mark.slow
def test_memory_and_open_files_do_not_grow_and_every_image_is_counted(tmp_path: Path, tiny_student: Path) -> None:
    output = tmp_path / "soak.json"
    command = [sys.executable, "benchmarks/soak.py", "--model", str(tiny_student), "--seconds", "20", "--rate", "3"]
    # One leaked mask in five would exceed the limit: there are about 240 masks of 0.9 MiB.
    command += ["--restart-every", "5", "--max-growth-mib", "48", "--json", str(output), "--device", "cuda"]
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment_without_gpu(), capture_output=True, text=True, timeout=280, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert FALLBACK in outcome.stdout
    result = json.loads(output.read_text())
    assert result["failures"] == []
    assert result["cameras"] == 4
    assert result["restarts"] >= 2
    assert result["rss_mib"]["highest"] > 50
    assert result["processes"]["highest"] >= 1
    for camera, counts in result["counts"].items():
        assert counts["published"] > 0, camera
        assert counts["dropped.failed"] == 0, camera
    assert "memory, MiB" in outcome.stdout
