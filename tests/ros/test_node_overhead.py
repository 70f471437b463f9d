"""The overhead benchmark runs as its docstring says. Its limits need a quiet machine and are not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from checkout import ROOT
from without_gpu import FALLBACK, environment_without_gpu


def test_writes_ratio_overhead_and_stages(tmp_path: Path) -> None:
    output = tmp_path / "overhead.json"
    command = [sys.executable, "benchmarks/node_overhead.py", "--frames", "3", "--json", str(output)]
    outcome = subprocess.run(
        [*command, "--device", "cuda"], cwd=ROOT, env=environment_without_gpu(), capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert FALLBACK in outcome.stdout
    result = json.loads(output.read_text())
    assert result["boxes"] >= 20
    assert result["repeats"] == 5
    assert result["overhead_ratio"] > 0.5
    assert result["run_ms"] > 0
    assert result["overhead_ms"]["p50"] <= result["overhead_ms"]["p95"]
    assert all(value >= 0 for name, value in result["stages_ms"].items() if name != "other")
    assert f"{result['overhead_ratio']:.3f}" in outcome.stdout


def test_figures_beyond_a_limit_are_reported() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from node_overhead import beyond_marks

    kept = {"precision": "fp32", "overhead_ratio": 1.05, "overhead_ms": {"p50": 1.3, "p95": 3.0}}
    assert beyond_marks(kept) == []
    assert [s.split(" of ")[0] for s in beyond_marks({**kept, "overhead_ratio": 1.06})] == ["expected ratio"]
    assert len(beyond_marks({**kept, "overhead_ms": {"p50": 1.4, "p95": 3.1}})) == 2
    quantised = {**kept, "precision": "int8", "overhead_ratio": 1.10}
    assert beyond_marks(quantised) == []
    [sentence] = beyond_marks({**quantised, "overhead_ratio": 1.16})
    assert sentence == "expected ratio of at most 1.10 for int8, got 1.16"


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/node_overhead.py", "--model", str(tmp_path / "none.onnx")]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 2
    assert "none.onnx" in outcome.stderr
