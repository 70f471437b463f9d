"""Tests child processes of the node: they end with it, even if it is killed, and import only our modules."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT
from tiny_student import compute_for_long, write_tiny_student

TIMEOUT_S = 30.0
TRY = """
import sys
from ros_kd_perception.candidates.check import check_in_child
check_in_child(sys.argv[1], {"device": "cpu", "intra_op_threads": 1})
"""
SHADOW = """
import sys
from ros_kd_perception.candidates.shadow_process import ShadowProcess
ShadowProcess(sys.argv[1]).wait_until_ready()
"""


def children_of(process: int) -> list[str]:
    return " ".join(p.read_text() for p in Path(f"/proc/{process}/task").glob("*/children")).split()


def runs(process: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
@pytest.mark.parametrize("script", [TRY, SHADOW], ids=["trial", "shadow"])
def test_a_child_that_is_opening_a_model_ends_with_a_killed_node(script: str, tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "slow.onnx", change_graph=compute_for_long)
    with subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT) as parent:
        try:
            give_up = time.monotonic() + TIMEOUT_S
            while not (found := children_of(parent.pid)):
                assert time.monotonic() < give_up
                time.sleep(0.01)
            (child,) = found
            # The child has run its first lines when it has mapped ONNX Runtime.
            while "onnxruntime" not in Path(f"/proc/{child}/maps").read_text():
                assert time.monotonic() < give_up
                time.sleep(0.01)
        finally:
            parent.kill()
    started = time.monotonic()
    while runs(child):
        assert time.monotonic() - started < 5, "the child has outlived the process that was to limit it"
        time.sleep(0.01)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_child_whose_parent_ended_before_it_started_ends() -> None:
    script = "from ros_kd_perception.system.child_processes import end_with; end_with(1 << 22); print('on')"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-9, "")


@pytest.mark.parametrize("script", [TRY, SHADOW], ids=["trial", "shadow"])
def test_modules_in_the_working_directory_are_not_imported(script: str, tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "tiny.onnx")
    for name in ("numpy", "json", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w').close()\nraise SystemExit(7)\n")
    entry = f"import sys; sys.path[:] = [{str(ROOT)!r}, *filter(None, sys.path)]\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", entry, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "taken").exists()
