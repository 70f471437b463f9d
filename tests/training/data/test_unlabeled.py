"""Frames without labels: they are taken out of bags and mixed with labelled frames."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from label_sets import CAMVID
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer

from ros_kd_perception.bags.reader import BagReader, BagWriter, message_class
from ros_kd_perception.sample_drive.camera import default_cameras
from ros_kd_perception.sample_drive.drive_bag import DrivePlan, write_drive
from training.data import bag_frames
from training.data.bag_frames import take_frames_out
from training.data.frame_choice import FrameChoice
from training.data.readers.unlabeled import UnlabeledFolder, UnlabeledSource
from training.errors import DataError
from training.recipe import parse_recipe
from training.run.data_module import DrivingData
from training.run.frames import RunFrames

SIZE_PX = (192, 128)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of the front and left cameras, six frames each over three seconds."""
    path = tmp_path_factory.mktemp("drive") / "drive.mcap"
    write_drive(path, DrivePlan(5, "day", 3.0, 2.0, default_cameras(*SIZE_PX)[:2]), processes=1)
    return path


def write_images(path: Path, images: list[np.ndarray], encoding: str = "bgr8") -> Path:
    image_type, header_type, time_type = (
        message_class(name) for name in ("sensor_msgs/msg/Image", "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    )
    with BagWriter(path) as bag:
        for index, pixels in enumerate(images):
            header = header_type(stamp=time_type(sec=1, nanosec=index), frame_id="front")
            height, width, _ = pixels.shape
            message = image_type(
                header=header, height=height, width=width, encoding=encoding, is_bigendian=0, step=3 * width,
                data=pixels.reshape(-1),
            )  # fmt: skip
            bag.write("/front/image_raw", 1_000 + index, message)
    return path


def test_every_frame_of_every_camera_is_extracted(drive: Path, tmp_path: Path) -> None:
    folder = take_frames_out(drive, FrameChoice(change_min=0.0), tmp_path)
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == [f"{camera}_{number:07d}.jpg" for camera in ("front", "left") for number in range(6)]
    image = cv2.imread(str(folder / "images" / names[0]))
    assert image is not None
    assert image.shape == (SIZE_PX[1], SIZE_PX[0], 3)


def test_topics_and_stride_select_frames(drive: Path, tmp_path: Path) -> None:
    choice = FrameChoice(topics=("/left/image_raw",), stride=4, change_min=0.0)
    names = sorted(path.stem for path in (take_frames_out(drive, choice, tmp_path) / "images").iterdir())
    assert names == ["left_0000000", "left_0000004"]


def test_a_car_that_waits_gives_one_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene, other = (cv2.resize(rng.integers(0, 256, (9, 16, 3), np.uint8), SIZE_PX) for _ in range(2))
    noisy = [np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8) for _ in range(5)]
    bag = write_images(tmp_path / "waiting.mcap", [*noisy, other, other, scene])
    folder = take_frames_out(bag, FrameChoice(), tmp_path)
    assert sorted(path.stem for path in (folder / "images").iterdir()) == [
        "front_0000000", "front_0000005", "front_0000007",
    ]  # fmt: skip


def test_the_later_of_two_processes_uses_the_frames_of_the_earlier(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, write, pid = FrameChoice(), bag_frames._write_frames, os.getpid()
    folders: list[Path] = []

    def overtaken(*arguments: Any) -> Any:
        written = write(*arguments)
        if not folders:
            folders.append(tmp_path)  # the faster process must not be overtaken, too
            monkeypatch.setattr(os, "getpid", lambda: pid + 1)
            folders.append(take_frames_out(drive, choice, tmp_path))
            monkeypatch.setattr(os, "getpid", lambda: pid)
        return written

    monkeypatch.setattr(bag_frames, "_write_frames", overtaken)
    assert take_frames_out(drive, choice, tmp_path) == folders[1]
    assert [path.name for path in tmp_path.iterdir()] == [folders[1].name]


def test_frames_are_taken_out_once_for_each_choice(drive: Path, tmp_path: Path) -> None:
    choice = FrameChoice(change_min=0.0)
    first = take_frames_out(drive, choice, tmp_path)
    marker = first / "images" / "front_0000000.jpg"
    marker.unlink()
    assert take_frames_out(drive, choice, tmp_path) == first
    assert not marker.exists()
    assert take_frames_out(drive, FrameChoice(change_min=0.0, stride=2), tmp_path) != first


def test_frames_in_the_log_of_a_killed_recorder_are_extracted_if_the_log_exists(tmp_path: Path) -> None:
    write_images(tmp_path / "drive.mcap", [np.full((40, 60, 3), 80 * index, np.uint8) for index in range(3)])
    with BagReader(tmp_path / "drive.mcap") as bag:
        messages = [(message.log_time_ns, bytes(message.data)) for _, message in bag.frames()]
    recording = tmp_path / "recording.db3"
    with closing(sqlite3.connect(recording, isolation_level=None)) as recorder:
        recorder.execute("PRAGMA journal_mode=WAL")
        recorder.executescript(Sqlite3Writer.SQLITE_SCHEMA)
        recorder.execute("INSERT INTO topics VALUES (1, '/front/image_raw', 'sensor_msgs/msg/Image', 'cdr', '', '')")
        recorder.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", messages[0])
        recorder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for message in messages[1:]:
            recorder.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", message)
        shutil.copy2(recording, tmp_path / "drive.db3")
        shutil.copy2(tmp_path / "recording.db3-wal", tmp_path / "log")
    for frames in (1, 3):
        folder = take_frames_out(tmp_path / "drive.db3", FrameChoice(change_min=0.0), tmp_path / "frames")
        assert len(list((folder / "images").iterdir())) == frames
        if frames == 1:
            shutil.copy2(tmp_path / "log", tmp_path / "drive.db3-wal")


def test_frames_without_labels_are_void_and_without_boxes(drive: Path, tmp_path: Path) -> None:
    source = UnlabeledSource(folder=take_frames_out(drive, FrameChoice(), tmp_path))
    folder = UnlabeledFolder(source, source.mapping_to(CAMVID))
    sample = folder[0]
    assert (sample.mask == 255).all()
    assert not sample.has_boxes
    assert len(sample.boxes_xyxy) == 0


def test_one_run_mixes_labelled_and_unlabelled_frames(
    drive: Path, rendered_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"""
name: mixed
batch_size: 8
data:
  train: [{{kind: rendered, folder: {rendered_samples}}}, {{kind: bag, folder: {drive}, change_min: 0}}]
  samples_per_epoch: 8
  crop_height: 64
  crop_width: 96
  workers: 0
"""
    recipe = parse_recipe(text)
    data = DrivingData(recipe, RunFrames(recipe))
    batch = next(iter(data.train_dataloader()))
    assert int(batch.has_boxes.sum()) == 4
    without_labels = (batch.masks == 255).flatten(1).all(dim=1)
    assert without_labels.tolist() == (~batch.has_boxes).tolist()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "none.mcap", "expected a ROS 2 bag"),
        (lambda folder: write_images(folder / "bad.mcap", [np.zeros((8, 8, 3), np.uint8)], "lies8"), "1 that cannot"),
    ],
)
def test_a_bag_without_frames_is_refused_and_leaves_nothing(make, sentence: str, tmp_path: Path) -> None:
    bag = make(tmp_path)
    with pytest.raises(DataError, match=sentence):
        take_frames_out(bag, FrameChoice(), tmp_path / "frames")
    assert not list((tmp_path / "frames").glob("*"))


def test_a_topic_that_is_not_in_the_bag_is_named(drive: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/rear/image_raw"):
        take_frames_out(drive, FrameChoice(topics=("/rear/image_raw",)), tmp_path)
    assert not list(tmp_path.glob("*"))
