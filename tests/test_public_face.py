"""`from ros_kd_perception import Perceiver, Frame` works, and costs nothing before a name is used."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT
from tiny_student import write_tiny_student

import ros_kd_perception
from ros_kd_perception import Frame, Perceiver, draw_overlay
from ros_kd_perception.model.onnx_model import ModelError

STREET = ROOT / "docs" / "images" / "street.jpg"


def test_every_public_name_is_there_and_listed() -> None:
    for name in ros_kd_perception.__all__:
        assert getattr(ros_kd_perception, name).__name__ == name
    assert set(ros_kd_perception.__all__) <= set(dir(ros_kd_perception))
    with pytest.raises(AttributeError, match=r"no attribute 'Perceivr'"):
        ros_kd_perception.Perceivr  # noqa: B018


def test_importing_the_package_loads_none_of_its_libraries() -> None:
    script = "import sys, ros_kd_perception; print(*sorted({'numpy', 'cv2', 'onnxruntime', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_shipped_student_finds_cars_in_the_picture_of_the_readme() -> None:
    perceiver = Perceiver.open(device="cpu", intra_op_threads=1)
    frame = Frame.from_image(cv2.imread(str(STREET)), camera="front", stamp_ns=5)
    [perception] = perceiver.perceive([frame])

    names = {c.id: c.name for c in perceiver.model.contract.detections.classes}
    assert (perception.camera, perception.stamp_ns) == ("front", 5)
    assert "car" in {names[label] for label in perception.detections.labels.tolist()}
    picture = draw_overlay(frame.image_bgr, perception, perceiver.model.contract)
    assert picture.shape == frame.image_bgr.shape
    assert not np.array_equal(picture, frame.image_bgr)


def test_a_model_of_ones_own_is_opened_with_the_options_of_the_node(tmp_path: Path) -> None:
    model = write_tiny_student(tmp_path / "tiny.onnx")
    assert Perceiver.open(model, device="cpu").model.contract.name == Perceiver.open(str(model)).model.contract.name
    with pytest.raises(ModelError, match="expected"):
        Perceiver.open(tmp_path / "missing.onnx")


def test_a_picture_that_opencv_could_not_read_is_named_as_the_cause() -> None:
    with pytest.raises(ValueError, match=r"got NoneType; cv2.imread returns None where a file is missing"):
        Frame.from_image(cv2.imread("missing.png"))
