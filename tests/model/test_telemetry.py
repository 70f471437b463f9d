"""Tests that ONNX Runtime's telemetry is off in the processes of this package.

A process whose user turned it on proves that `TelemetryWatch` would see it. `test_doc_blocks` watches the processes of
training and of the other documented commands, `ros/test_node_telemetry` watches a node.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_bag import write_small_bag
from telemetry_watch import TelemetryWatch
from tiny_student import write_tiny_student

from ros_kd_perception.model.onnx_runtime import TELEMETRY_VARIABLE, onnxruntime

TIMEOUT_S = 60.0
FIRST_VERSION = (1, 31)  # the first Linux wheels with telemetry
HOLD_A_MODEL = """
import sys
from ros_kd_perception.model.onnx_model import OnnxModel
model = OnnxModel.open(sys.argv[1], device="cpu")
sys.stdin.read()
"""
TRY_AND_SHADOW = """
import sys
from ros_kd_perception.candidates.check import check_in_child
from ros_kd_perception.candidates.shadow_process import ShadowProcess
check_in_child(sys.argv[1], {"device": "cpu"})
shadow = ShadowProcess(sys.argv[1])
shadow.wait_until_ready()
shadow.close()
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the wheels for Linux have it")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_student(tmp_path / "tiny.onnx")


def run(watch: TelemetryWatch, *arguments: str | Path) -> None:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=watch.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_replay(model: Path, tmp_path: Path) -> None:
    watch = TelemetryWatch(tmp_path / "watch")
    bag = write_small_bag(tmp_path / "drive.mcap", frames=2)
    run(watch, "-m", "ros_kd_perception.replay", bag, "-o", tmp_path / "perceived.mcap", "--model", model)
    assert (watch.files(), watch.lookups()) == ([], [])


def test_processes_that_try_and_shadow_a_model(model: Path, tmp_path: Path) -> None:
    watch = TelemetryWatch(tmp_path / "watch")
    run(watch, "-c", TRY_AND_SHADOW, model)
    assert (watch.files(), watch.lookups()) == ([], [])


@pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < FIRST_VERSION, reason="a version without telemetry"
)
def test_a_long_running_process_contacts_no_server_unless_the_user_wants_it(model: Path, tmp_path: Path) -> None:
    """Takes ten seconds, because ONNX Runtime waits that long before it contacts its server."""
    off, on = TelemetryWatch(tmp_path / "off"), TelemetryWatch(tmp_path / "on")
    on.environment[TELEMETRY_VARIABLE] = "0"
    command = [sys.executable, "-c", HOLD_A_MODEL, str(model)]
    with (
        subprocess.Popen(command, env=off.environment, stdin=subprocess.PIPE) as silent,
        subprocess.Popen(command, env=on.environment, stdin=subprocess.PIPE) as sending,
    ):
        try:
            give_up = time.monotonic() + TIMEOUT_S
            while not on.lookups():
                assert time.monotonic() < give_up, "telemetry that is on looks nothing up"
                time.sleep(0.05)
            assert silent.poll() is None
        finally:
            silent.communicate()
            sending.communicate()
    assert on.files()
    assert (off.files(), off.lookups()) == ([], [])
    assert (silent.returncode, sending.returncode) == (0, 0)
