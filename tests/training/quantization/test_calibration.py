"""Test calibration frames: spread evenly, fitted as the contract says, and refused if they show too little."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from small_bag import write_small_bag
from tiny_student import CONTRACT, HEIGHT, WIDTH, contract_with, write_tiny_model

from ros_kd_perception.model.contract import InputSpec, ModelContract
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from training.errors import DataError
from training.quantization.calibration import CalibrationFrames, evenly_spread
from training.quantization.settings import CalibrationSettings

RNG = np.random.default_rng(4)


def perceiver(folder: Path, contract: ModelContract = CONTRACT) -> Perceiver:
    return Perceiver(OnnxModel.open(write_tiny_model(folder / "tiny.onnx", contract), device="cpu"))


def settings(folder: Path, count: int = 8, kind: str = "unlabeled") -> CalibrationSettings:
    return CalibrationSettings.model_validate({"frames": {"kind": kind, "folder": str(folder)}, "count": count})


def write_frames(folder: Path, count: int, noise: int = 255, height: int = 90) -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        blocks = RNG.integers(0, noise + 1, (3, 4, 3), dtype=np.uint8)
        image = cv2.resize(blocks, (160, height), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"images/frame_{number:02d}.png"), image)
    return folder


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert evenly_spread(21, 5) == [0, 5, 10, 15, 20]
    assert evenly_spread(3, 8) == [0, 1, 2]


def test_frames_are_letterboxed_or_stretched_as_the_contract_says(tmp_path: Path) -> None:
    source = write_frames(tmp_path / "frames", 8, height=40)
    boxed = CalibrationFrames(settings(source), perceiver(tmp_path))
    stretched = contract_with(input=InputSpec(HEIGHT, WIDTH, channels="rgb", resize="stretch"))
    filled = CalibrationFrames(settings(source), perceiver(tmp_path, stretched))

    assert boxed[0].shape == filled[0].shape == (HEIGHT, WIDTH, 3)
    assert (boxed[0][30:] == 114).all()
    assert not (filled[0][30:] == 114).all()
    np.testing.assert_array_equal(filled[0][0, 0], boxed[0][0, 0, ::-1])
    assert len(boxed[:]) == len(boxed) == 8
    assert boxed.notes == []


def test_the_fingerprint_follows_the_pixels(tmp_path: Path) -> None:
    source = write_frames(tmp_path / "frames", 9)
    frames = [CalibrationFrames(settings(source), perceiver(tmp_path)) for _ in range(2)]
    cv2.imwrite(str(source / "images/frame_00.png"), np.zeros((90, 160, 3), np.uint8))
    changed = CalibrationFrames(settings(source), perceiver(tmp_path))

    assert frames[0].sha256 == frames[1].sha256 != changed.sha256
    assert len(changed.sha256) == 64


def test_fewer_frames_than_asked_for_are_told(tmp_path: Path) -> None:
    frames = CalibrationFrames(settings(write_frames(tmp_path / "frames", 9), 20), perceiver(tmp_path))

    assert len(frames) == 9
    assert frames.notes == [f"{tmp_path}/frames: 20 calibration frames are asked for, there are 9"]


def test_very_few_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least 8 frames to calibrate on, there are 7"):
        CalibrationFrames(settings(write_frames(tmp_path / "frames", 7)), perceiver(tmp_path))


def test_missing_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        CalibrationFrames(settings(tmp_path / "nowhere"), perceiver(tmp_path))


def test_one_picture_again_and_again_is_refused(tmp_path: Path) -> None:
    source = write_frames(tmp_path / "frames", 8, noise=0)
    with pytest.raises(DataError, match="all 8 are the same picture"):
        CalibrationFrames(settings(source), perceiver(tmp_path))


def test_frames_of_a_parked_car_are_told(tmp_path: Path) -> None:
    frames = CalibrationFrames(settings(write_frames(tmp_path / "frames", 8, noise=3)), perceiver(tmp_path))

    (note,) = frames.notes
    assert "nearly alike, as of a parked car" in note


def test_a_bag_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bag = write_small_bag(tmp_path / "drive.mcap", frames=9)
    frames = CalibrationFrames(
        CalibrationSettings.model_validate(
            {"frames": {"kind": "bag", "folder": str(bag), "change_min": 0}, "count": 8}
        ),
        perceiver(tmp_path),
    )

    assert len(frames) == 8
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
