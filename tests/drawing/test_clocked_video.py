"""Test the video of a canvas: its length follows the recording, and an error leaves no file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_kd_perception.drawing.clocked_video import ClockedVideo
from ros_kd_perception.drawing.video import VideoError, VideoWriter


def test_the_canvas_is_shown_until_the_next_frame(tmp_path: Path) -> None:
    canvas = np.zeros((48, 64, 3), np.uint8)
    with ClockedVideo(tmp_path / "out.mp4", canvas, 10) as video:
        for time_s, value in ((0.0, 40), (0.3, 200)):
            assert video.advance(round(1e18 + time_s * 1e9)) == round(time_s * 1e9)
            canvas[:] = value
    shown = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    means = []
    while (read := shown.read())[0]:
        means.append(round(float(read[1].mean()) / 40))
    assert means == [1, 1, 1, 5]


def test_a_disk_that_is_full_at_the_end_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise VideoError("expected to write out.mp4, got: No space left on device; make room and try again")

    def write() -> None:
        with ClockedVideo(tmp_path / "out.mp4", np.zeros((48, 64, 3), np.uint8), 10) as video:
            video.advance(0)
            monkeypatch.setattr(VideoWriter, "write", full)

    with pytest.raises(VideoError, match="No space left"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with ClockedVideo(tmp_path / "out.mp4", np.zeros((48, 64, 3), np.uint8), 10):
        pass
    assert list(tmp_path.iterdir()) == []
