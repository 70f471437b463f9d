"""Fixtures of quantisation: the shipped student, which is trained, and rendered frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.structures import Frame, UInt8Array
from ros_kd_perception.system.shipped_files import SHIPPED_STUDENT, shipped_file

FRAMES = 3


@pytest.fixture(scope="session")
def parent() -> Path:
    """The shipped student. A trained network loses little, so that a mistake shows."""
    return shipped_file(SHIPPED_STUDENT)


@pytest.fixture(scope="session")
def network_inputs(parent: Path) -> list[UInt8Array]:
    """Network inputs of the shipped student, all different."""
    perceiver = Perceiver(OnnxModel.open(parent, device="cpu", verify_golden=False))
    drive = SampleDrive(7, "day")
    frames = [Frame("front", 0, "", drive.render("front", float(second)).image_bgr) for second in range(FRAMES)]
    return [np.array(perceiver.prepare(frame).network_input) for frame in frames]
