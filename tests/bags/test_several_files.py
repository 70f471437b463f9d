"""Tests bags of several files: overlapping files are merged by time, others are read one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_bag import START_NS, write_timed_bag
from tiny_student import write_tiny_student

from ros_kd_perception.bags.order import Part, in_time_order
from ros_kd_perception.bags.reader import BagReader, RawMessage
from ros_kd_perception.replay import main


def tenths(camera: str, start_s: float = 0) -> list[tuple[str, float]]:
    """Write ten images, a tenth of a second apart."""
    return [(camera, round(start_s + k / 10, 2)) for k in range(10)]


def write_files(folder: Path, **files: list[tuple[str, float]]) -> Path:
    folder.mkdir()
    for name, images in files.items():
        write_timed_bag(folder / f"{name}.mcap", images)
    return folder


def read(bag: Path, start_s: float | None = None) -> list[tuple[str, float]]:
    """Return camera and time of each image in reading order."""
    start_ns = None if start_s is None else START_NS + round(start_s * 1e9)
    with BagReader(bag) as reader:
        names = {topic: camera for camera, topic in reader.cameras.items()}
        found = reader.raw_messages(names, start_ns)
        return [(names[image.topic], (image.log_time_ns - START_NS) / 1e9) for image in found]


def test_files_with_one_camera_each_are_merged(tmp_path: Path) -> None:
    front, left = tenths("front"), tenths("left", 0.05)
    bag = write_files(tmp_path / "drive", front=front, left=left)
    assert read(bag) == sorted(front + left, key=lambda image: image[1])
    model = write_tiny_student(tmp_path / "tiny.onnx")
    output, video = tmp_path / "out.mcap", tmp_path / "out.mp4"
    assert main([str(bag), "-o", str(output), "--overlay", str(video), "--model", str(model), "--quiet"]) == 0
    results = {camera: f"/perception/{camera}/segmentation" for camera in ("front", "left")}
    with BagReader(output, results) as written:
        times_ns = [message.log_time_ns for _, message in written.frames()]
    assert times_ns == sorted(times_ns)


def test_files_of_a_split_recording_may_overlap_by_some_messages(tmp_path: Path) -> None:
    first, second = tenths("front"), tenths("front", 0.75)
    third = [("front", 5.0), ("front", 5.1)]
    bag = write_files(tmp_path / "drive", drive_0=first, drive_1=second, drive_2=third)
    assert read(bag) == [*sorted(first + second), *third]


def test_a_file_is_opened_only_when_its_first_message_may_be_next() -> None:
    opened: list[int] = []

    def part(number: int) -> Part[RawMessage]:
        def messages() -> tuple[Iterator[RawMessage], int]:
            opened.append(number)
            return iter([RawMessage("/t", "", number * 10 + step, b"") for step in (0, 12)]), 0

        return Part(number * 10, messages)

    merged = in_time_order([part(number) for number in range(9)])
    assert [next(merged).log_time_ns for _ in range(4)] == [0, 10, 12, 20]
    assert opened == [0, 1, 2]


@pytest.mark.parametrize("start_s", [None, 0.45, 0.5])
def test_files_keep_their_order_if_the_clock_was_set_back(start_s: float | None, tmp_path: Path) -> None:
    first, second = tenths("front"), tenths("front", -3600)
    bag = write_files(tmp_path / "drive", drive_0=first, drive_1=second)
    assert read(bag, start_s) == [image for image in first if image[1] >= (start_s or 0)] + second


def test_the_last_image_is_found_before_a_long_recording_without_images(tmp_path: Path) -> None:
    bag = write_timed_bag(tmp_path / "drive.mcap", tenths("front"), recorder_s=500)
    with BagReader(bag) as reader:
        assert reader.last_image_ns == START_NS + 900_000_000
