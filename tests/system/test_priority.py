"""Tests that child processes of the node are the first to be killed when memory runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

SCORE = Path("/proc/self/oom_score_adj")


@pytest.mark.skipif(not SCORE.exists(), reason="Linux only")
@pytest.mark.parametrize("module", ["candidates.check", "candidates.shadow_process"])
def test_a_child_that_opens_a_model_is_killed_before_the_node(module: str) -> None:
    before = SCORE.read_text()
    script = (
        "import os, sys\n"
        "from ros_kd_perception.model import onnx_model\n"
        "def tell(*_, **__):\n"
        f"    os.write(2, b'score ' + open({str(SCORE)!r}, 'rb').read())\n"
        "    raise onnx_model.ModelError('enough')\n"
        "onnx_model.OnnxModel.open = tell\n"
        f"from ros_kd_perception.{module} import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    request = '{"path": "x.onnx", "options": {}, "low_priority": true}' if module == "candidates.check" else "x.onnx"
    child = subprocess.run(
        [sys.executable, "-c", script, request],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input="",
    )
    assert "score 1000" in child.stderr, child.stderr
    assert SCORE.read_text() == before
