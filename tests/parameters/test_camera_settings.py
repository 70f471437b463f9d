"""The parameters of one camera: their rules, and how they are read from a parameter file."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

from ros_kd_perception.parameters.camera_settings import (
    CAMERA_DECLARATIONS,
    CameraSettings,
    camera_settings_of,
    score_thresholds_of,
)
from ros_kd_perception.parameters.rules import CAMERA_PARAMETERS, ParameterError, problem_with
from ros_kd_perception.structures import RegionOfInterest

REGION = CAMERA_DECLARATIONS["region_of_interest"]
VEHICLE = """
/**:
  ros__parameters:
    cameras: [front, left]
    front: {turn_weight: 2, region_of_interest: [10, 20, 300, 200]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "vehicle.yaml"
    path.write_text(text)
    return path


def test_every_parameter_of_a_camera_is_a_setting_with_its_default() -> None:
    defaults = {f"front.{name}": declaration.default for name, declaration in CAMERA_DECLARATIONS.items()}
    assert CameraSettings().updated("front", defaults) == CameraSettings()
    assert set(CAMERA_PARAMETERS) == {"image_transport", *CAMERA_DECLARATIONS}


def test_a_change_concerns_one_camera_and_keeps_the_rest() -> None:
    values = {"left.turn_weight": 3.0, "front.region_of_interest": array("q", [1, 2, 3, 4]), "max_age_ms": 1.0}
    before = CameraSettings(turn_weight=2.0)
    after = CameraSettings(turn_weight=2.0, region_of_interest=RegionOfInterest(1, 2, 3, 4))
    assert before.updated("front", values) == after


def test_a_file_gives_the_settings_of_each_camera(tmp_path: Path) -> None:
    found = camera_settings_of(written(tmp_path, VEHICLE), ["front", "left"])
    assert found["front"] == CameraSettings(turn_weight=2.0, region_of_interest=RegionOfInterest(10, 20, 300, 200))
    assert found["left"] == CameraSettings()


def test_only_cameras_with_a_threshold_of_their_own_are_listed() -> None:
    cameras = {"front": CameraSettings(score_threshold=0.0), "left": CameraSettings()}
    assert score_thresholds_of(cameras) == {"front": 0.0}


def test_a_value_that_the_node_would_refuse_is_refused_in_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, VEHICLE.replace("[10, 20, 300, 200]", "[10, 20, 300]"))
    with pytest.raises(ParameterError, match=r"vehicle.yaml: expected parameter front\.region_of_interest"):
        camera_settings_of(path, ["front"])


@pytest.mark.parametrize("value", [[0, 0, 0, 0], (1, 0, 5, 5), array("q", [0, 0, 16384, 16384])])
def test_a_rectangle_of_four_integers_is_a_region(value: Any) -> None:
    assert problem_with("front.region_of_interest", value, REGION) is None


@pytest.mark.parametrize(
    "value",
    [None, [], [1, 2, 3], [0, 0, 5, 5, 5], [0.0, 0.0, 5.0, 5.0], "0 0 5 5", [0, 0, True, 5], 5, ["a"] * 4, {"x": 1}],
)
def test_a_value_that_is_no_list_of_four_integers_is_refused(value: Any) -> None:
    problem = problem_with("front.region_of_interest", value, REGION)
    assert problem is not None
    assert "front.region_of_interest to be a list of four integers, [x, y, width, height]" in problem


@pytest.mark.parametrize("value", [[-1, 0, 5, 5], [0, 0, 5, 0], [7, 7, 0, 0], [0, 0, -3, 4]])
def test_a_rectangle_without_pixels_is_refused(value: list[int]) -> None:
    problem = problem_with("front.region_of_interest", value, REGION)
    assert problem is not None
    assert problem.startswith("parameter front.region_of_interest: expected a region of interest")
    assert str(value) in problem
