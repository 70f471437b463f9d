"""Test the overlay video of a replay: it has the time of the cameras, and the same bytes in every run."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from small_bag import write_small_bag, write_timed_bag
from tiny_student import write_tiny_student

from ros_kd_perception.replay import main

FRONT_ON = [("front", k / 10) for k in range(30)]


@pytest.fixture(scope="module")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx")


def replay_with_video(bag: Path, model: Path, folder: Path) -> Path:
    folder.mkdir()
    command = [bag, "-o", folder / "out.mcap", "--overlay", folder / "out.mp4", "--model", model, "--quiet"]
    assert main([str(part) for part in command]) == 0
    return folder / "out.mp4"


def rate_and_length(video: Path) -> tuple[float, float]:
    """Return the frame rate of a video in frames a second, and its length in seconds."""
    capture = cv2.VideoCapture(str(video))
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate, capture.get(cv2.CAP_PROP_FRAME_COUNT) / rate


def test_the_same_bag_and_model_give_the_same_video(tiny_student: Path, tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=5)
    first, second = (replay_with_video(bag, tiny_student, tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("images", "expected_s", "sentence"),
    [
        (FRONT_ON, 3.0, None),
        ([*FRONT_ON, *(("front", 90 + k / 10) for k in range(10))], 4.9, "87.1 s without a frame of any camera"),
        ([*FRONT_ON, *(("left", 97 + k / 10) for k in range(30))], 6.9, "94.1 s without a frame of any camera"),
        ([("front", -1.7e9 + 1), *FRONT_ON], 4.0, "days without a frame of any camera after 0.0 s"),
        ([*FRONT_ON, ("front", 8)], 8.1, None),
    ],
    ids=["starts late", "on twice", "one after the other", "since 1970", "a pause of some seconds"],
)
def test_the_video_is_as_long_as_the_cameras_have_images(
    tiny_student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    images: list[tuple[str, float]],
    expected_s: float,
    sentence: str | None,
) -> None:
    first_s = min(second for _, second in images)
    bag = write_timed_bag(tmp_path / "drive.mcap", images, recorder_s=max(-1.7e9, first_s - 70))
    rate, length_s = rate_and_length(replay_with_video(bag, tiny_student, tmp_path / "results"))
    assert rate == pytest.approx(10, abs=1)
    assert length_s == pytest.approx(expected_s, abs=0.2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("overlay video: ")]
    assert len(lines) == (sentence is not None)
    assert sentence is None or sentence in lines[0]


def test_the_second_file_of_a_recording_may_have_earlier_times(
    tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = tmp_path / "split"
    split.mkdir()
    write_timed_bag(split / "split_0.mcap", FRONT_ON)
    write_timed_bag(split / "split_1.mcap", [(camera, second - 3600) for camera, second in FRONT_ON])
    _, length_s = rate_and_length(replay_with_video(split, tiny_student, tmp_path / "results"))
    assert length_s == pytest.approx(6.8, abs=0.2)  # without the frames that show that the stamps started over
    assert "the clock of the recording goes back by 60.0 min after 2.9 s" in capsys.readouterr().err
