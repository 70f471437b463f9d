"""Fixtures of quantisation: a student of plain convolutions, which is trained, and rendered frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.structures import Frame, UInt8Array

FRAMES = 3


@pytest.fixture(scope="session")
def parent() -> Path:
    """The student of plain convolutions. A trained network loses little, so that a mistake shows."""
    return ROOT / "models" / "student_plain.onnx"


@pytest.fixture(scope="session")
def network_inputs(parent: Path) -> list[UInt8Array]:
    """Network inputs of that student, all different."""
    perceiver = Perceiver(OnnxModel.open(parent, device="cpu", verify_golden=False))
    drive = SampleDrive(7, "day")
    frames = [Frame("front", 0, "", drive.render("front", float(second)).image_bgr) for second in range(FRAMES)]
    return [np.array(perceiver.prepare(frame).network_input) for frame in frames]
