"""Test the benchmark that compares ways to quantise, on a tiny network and rendered frames."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from checkout import ROOT
from tiny_student import write_tiny_student


def test_each_way_has_a_row_beside_the_file_in_fp32(rendered_samples: Path, tmp_path: Path) -> None:
    model, output = write_tiny_student(tmp_path / "tiny.onnx"), tmp_path / "figures.json"
    command = [sys.executable, "benchmarks/quantisers.py", "--model", str(model), "--json", str(output)]
    command += ["--calibration", str(rendered_samples), "--frames", f"drive=rendered:{rendered_samples}"]
    command += ["--row", "minmax", "--row", "per_tensor", "--count", "8", "--limit", "2", "--rounds", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(output.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == ["fp32", "minmax", "per_tensor"]
    assert [row["precision"] for row in rows.values()] == ["fp32", "int8", "int8"]
    assert 0.5 < rows["minmax"]["scores"]["drive"]["agreement"] <= 1
    assert "ratio" in done.stdout
    assert "per_tensor" in done.stdout
