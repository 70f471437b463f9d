"""An interrupt at any moment in which an output is begun leaves no file behind."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tiny_student import contract_with

from ros_kd_perception.bags.errors import BagError
from ros_kd_perception.bags.mcap_storage import McapBagWriter
from ros_kd_perception.bags.writer import BagWriter
from ros_kd_perception.demo.command import _work_folder
from ros_kd_perception.differences.output import OutputFolder
from ros_kd_perception.drawing.rerun_file import RerunFile
from ros_kd_perception.drawing.video import VideoWriter
from ros_kd_perception.system.interruption import one_interrupt

Start = Callable[[Path], AbstractContextManager[Any]]
OUTPUTS: dict[str, Start] = {
    "bag": lambda folder: BagWriter(folder / "new" / "drive.mcap"),
    "recording": lambda folder: BagWriter(folder / "new" / "drive", irreplaceable=True),
    "video": lambda folder: VideoWriter(folder / "drive.mp4", 5),
    "rerun": lambda folder: RerunFile(folder / "drive.rrd", ["front"], contract_with()),
    "report": lambda folder: OutputFolder(folder / "new" / "report"),
    "demo": lambda folder: _work_folder(folder / "new" / "demo"),
}
BEGINNINGS = ("__init__", "_begin", "_work_folder")


def interrupt_before_line(number: int) -> Callable[..., Any]:
    """Return a function for `sys.settrace`: a signal comes before the given line, counted from 0 as they run."""
    left = [number]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_name not in BEGINNINGS or "/ros_kd_perception/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == -1:
                signal.raise_signal(signal.SIGTERM)
        return trace

    return trace


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_interrupt_before_any_line_leaves_nothing(kind: str, tmp_path: Path) -> None:
    before, lines = sys.gettrace(), 0
    while True:
        try:
            with one_interrupt():
                sys.settrace(interrupt_before_line(lines))
                try:
                    with OUTPUTS[kind](tmp_path):
                        sys.settrace(before)
                        raise InterruptedError
                finally:
                    sys.settrace(before)
        except KeyboardInterrupt:
            assert list(tmp_path.iterdir()) == [], f"after the interrupt before line {lines} of its beginning"
            lines += 1
        except InterruptedError:
            break
    assert lines > 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["bag", "recording"])
def test_a_bag_that_cannot_be_begun_leaves_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: McapBagWriter, opened: Callable[[McapBagWriter], None] = McapBagWriter.open) -> None:
        opened(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(McapBagWriter, "open", full)
    with pytest.raises(BagError, match="No space left on device"):
        OUTPUTS[kind](tmp_path)
    assert list(tmp_path.iterdir()) == []
