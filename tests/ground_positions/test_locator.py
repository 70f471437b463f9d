"""Tests `GroundLocator` and its parameters: classes that hang, calibrations that end, files that are wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_student import CONTRACT, contract_with

from ros_kd_perception.ground_positions.ground_camera import ErrorModel, LeftOut
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.ground_positions.parameters import GroundParameters, ground_parameters_of
from ros_kd_perception.model.letterbox import letterbox_geometry
from ros_kd_perception.parameters.rules import ParameterError
from ros_kd_perception.structures import Detections, Perception, Timing

FILE = """
/**:
  ros__parameters:
    ground_detections: {enabled: true, pitch_error_deg: 1, off_ground_classes: [sign, drone]}
    scan.frame_id: ground
    free_space.ignore_bottom_px: 12
    front: {mounting: {height_m: 1.5}, ground_detections.range_max_m: 20, scan.rectified: true}
    left: {ground_detections.enabled: false}
"""
GEOMETRY = letterbox_geometry(360, 640, 96, 160)


def written(folder: Path, text: str) -> Path:
    path = folder / "vehicle.yaml"
    path.write_text(text)
    return path


def camera_info(focal_px: float = 440.0) -> Any:
    region = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    matrix = [focal_px, 0.0, 320.0, 0.0, focal_px, 180.0, 0.0, 0.0, 1.0]
    return SimpleNamespace(
        width=640, height=360, distortion_model="plumb_bob", d=[], k=matrix, p=[*matrix, 0.0, 0.0, 0.0],
        binning_x=0, binning_y=0, roi=region,
    )  # fmt: skip


def parameters(tmp_path: Path) -> dict[str, GroundParameters]:
    return ground_parameters_of(written(tmp_path, FILE), ["front", "left"])


def perception(labels: list[int], camera: str = "front") -> Perception:
    boxes = np.tile(np.array([300.0, 180.0, 340.0, 250.0], np.float32), (len(labels), 1))
    found = Detections(boxes, np.linspace(0.9, 0.5, len(labels), dtype=np.float32), np.array(labels, np.int32))
    return Perception(camera, 1, "optical", None, found, None, Timing(1.0, 2.0, 3.0))


def test_a_file_gives_the_settings_of_each_camera_that_has_positions(tmp_path: Path) -> None:
    found = parameters(tmp_path)
    assert list(found) == ["front"]
    front = found["front"]
    assert (front.frame_id, front.rectified, front.range_max_m, front.ignore_bottom_px) == ("ground", True, 20.0, 12)
    assert front.errors == ErrorModel(1.0, 0.05, 1.0, 0.5)
    assert front.pose is not None
    assert front.pose.position == (0.0, 0.0, 1.5)
    assert ground_parameters_of(None, ["front"]) == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("height_m: 1.5", "x_m: 1.5"), "front.mounting.height_m.* above 0 for ground_detections.enabled"),
        (("pitch_error_deg: 1", "pitch_error_deg: 45"), "from 0 to 20, got 45"),
        (("pitch_error_deg: 1", "pitch_error_deg: .nan"), "from 0 to 20"),
        (("range_max_m: 20", "range_max_m: far"), "to be a number"),
        (("[sign, drone]", "[]"), "a list of 1 to 256 names"),
    ],
)
def test_what_the_node_would_refuse_is_refused(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        ground_parameters_of(written(tmp_path, FILE.replace(*change)), ["front", "left"])


def test_classes_that_do_not_stand_on_the_ground_have_no_position(tmp_path: Path) -> None:
    ids = {info.name: info.id for info in CONTRACT.detection_classes}
    locator = GroundLocator(parameters(tmp_path), CONTRACT)
    assert locator.positions(perception([0]), GEOMETRY) is None  # not calibrated yet
    locator.calibrate("front", camera_info())

    positions = locator.positions(perception([ids["car"], ids["sign"], ids["pedestrian"]]), GEOMETRY)

    assert positions is not None
    assert positions.found.labels.tolist() == [ids["car"], ids["pedestrian"]]
    assert positions.left_out == LeftOut(off_ground=1)
    empty = locator.positions(perception([]), GEOMETRY)
    assert empty is not None
    assert len(empty) == 0
    assert locator.positions(perception([0], "left"), GEOMETRY) is None


def test_an_unusable_calibration_ends_the_positions(tmp_path: Path) -> None:
    locator = GroundLocator(parameters(tmp_path), CONTRACT)
    locator.calibrate("front", camera_info())
    made = locator.camera("front")
    locator.calibrate("front", camera_info())
    assert locator.camera("front") is made  # the same again costs nothing
    for wrong, sentence in ((camera_info(0.0), "calibrate the camera"), (camera_info(float("nan")), "focal lengths"),
                            (SimpleNamespace(), "AttributeError")):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            locator.calibrate("front", wrong)
        assert locator.camera("front") is None
        locator.calibrate("front", camera_info())


def test_a_model_without_detection_is_refused_only_where_a_camera_has_positions(tmp_path: Path) -> None:
    masks_alone = contract_with(detections=None)
    locator = GroundLocator(parameters(tmp_path), CONTRACT)
    with pytest.raises(ValueError, match=r"a model that does detection for ground_detections\.enabled"):
        locator.take_model(masks_alone)
    assert GroundLocator({}, masks_alone).parameters == {}
