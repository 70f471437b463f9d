"""Test a cv_bridge whose import fails with any error: only the frames that need it are dropped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_bag import START_NS, image_message, moving_picture
from tiny_student import write_tiny_student

from ros_kd_perception.bags.reader import BagWriter

DECODE_THREE_TIMES = """
from types import SimpleNamespace
from ros_kd_perception.images.message import decode_image
from ros_kd_perception.structures import BadFrame
message = SimpleNamespace(height=2, width=2, encoding="bgr16", step=12, is_bigendian=0, data=bytes(24))
for _ in range(3):
    try:
        decode_image(message)
    except BadFrame as error:
        print(error.reason, error)
"""
FAILURES = {
    "ImportError": "raise ImportError('libboost_python.so: cannot open shared object file')",
    "SystemError": "raise SystemError('initialization of cv_bridge_boost raised unreported exception')",
    "AttributeError": "raise AttributeError('_ARRAY_API not found')",
    "SystemExit": "raise SystemExit(3)",
    "BaseException": "raise BaseException('a panic of a library in Rust')",
    "SyntaxError": "raise SyntaxError('print \"of another Python\"')",
    "ImportError: cannot import name": "CvBridge_of_another_version = None",
    "ModuleNotFoundError": "import a_part_that_is_missing",
}


def broken_cv_bridge(folder: Path, failure: str) -> dict[str, str]:
    """Environment in which each import of cv_bridge fails and adds a line to `imports`."""
    package = folder / "cv_bridge"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(folder / 'imports')!r}, 'a').write('once\\n')\n{failure}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failed_import_drops_the_frame_and_is_not_repeated(kind: str, tmp_path: Path) -> None:
    environment = broken_cv_bridge(tmp_path, FAILURES[kind])
    outcome = subprocess.run(
        [sys.executable, "-c", DECODE_THREE_TIMES], env=environment, capture_output=True, text=True, check=False
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    lines = outcome.stdout.splitlines()
    assert len(lines) == 3
    assert set(lines) == {lines[0]}
    assert lines[0].startswith("unknown_encoding expected one of the encodings bgr8")
    assert f"got 'bgr16'; cv_bridge, which reads others, cannot be imported: {kind}" in lines[0]
    assert "NumPy that it was built for" in lines[0]
    assert (tmp_path / "imports").read_text() == "once\n"


def test_an_interrupt_during_the_import_ends_the_process(tmp_path: Path) -> None:
    environment = broken_cv_bridge(tmp_path, "raise KeyboardInterrupt")
    outcome = subprocess.run(
        [sys.executable, "-c", DECODE_THREE_TIMES], env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode != 0
    assert outcome.stdout == ""


@pytest.mark.parametrize("kind", ["SystemError", "SystemExit"])
def test_a_camera_that_needs_cv_bridge_does_not_affect_the_others(kind: str, tmp_path: Path) -> None:
    model, bag = write_tiny_student(tmp_path / "tiny.onnx"), tmp_path / "drive.mcap"
    with BagWriter(bag) as writer:
        for number in range(3):
            time_ns = START_NS + number * 10**8
            writer.write(
                "/front/image_raw", time_ns, image_message("front", time_ns, moving_picture((96, 160), number))
            )
            deep = image_message("rear", time_ns, np.zeros((8, 8, 3), np.uint16))
            deep.encoding, deep.step, deep.data = "bgr16", 48, deep.data.view(np.uint8)
            writer.write("/rear/image_raw", time_ns, deep)
    command = [sys.executable, "-m", "ros_kd_perception.replay", bag, "-o", tmp_path / "out.mcap", "--model", model]
    outcome = subprocess.run(
        [*map(str, command), "--threads", "1", "--quiet"],
        env=broken_cv_bridge(tmp_path, FAILURES[kind]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Traceback" not in outcome.stderr
    [line] = outcome.stderr.splitlines()
    assert line.startswith("rear: dropped a frame, unknown_encoding: ")
    assert f"cannot be imported: {kind}" in line
    assert "unknown_encoding 3" in outcome.stdout
