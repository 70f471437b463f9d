"""The parameters of tracking in a file: the replay reads them like the node does."""

from pathlib import Path

import pytest

from ros_kd_perception.parameters.rules import ParameterError
from ros_kd_perception.tracking.byte_tracker import TrackingSettings
from ros_kd_perception.tracking.parameters import tracking_settings_of


def parameter_file(folder: Path, *lines: str) -> Path:
    path = folder / "vehicle.yaml"
    path.write_text("\n".join(["/perception:", "  ros__parameters:", *(f"    {line}" for line in lines)]) + "\n")
    return path


def test_objects_are_not_tracked_unless_asked_for(tmp_path: Path) -> None:
    assert tracking_settings_of(None) is None
    assert tracking_settings_of(parameter_file(tmp_path, "tracking.iou_min: 0.3")) is None
    assert tracking_settings_of(None, wanted=True) == TrackingSettings()


def test_a_file_asks_for_it_and_sets_it(tmp_path: Path) -> None:
    lines = ("tracking.high_score: 0.7", "tracking.iou_min: 0.3", "tracking.max_lost_s: 2")
    expected = TrackingSettings(0.7, 0.3, 2.0)
    assert tracking_settings_of(parameter_file(tmp_path, "track_objects: true", *lines)) == expected
    assert tracking_settings_of(parameter_file(tmp_path, *lines), wanted=True) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("tracking.high_score: 1.5", "expected parameter tracking.high_score to be from 0 to 1, got 1.5"),
        ("tracking.max_lost_s: .nan", "expected parameter tracking.max_lost_s to be from 0.05 to 30, got nan"),
        ("track_objects: 1", "expected parameter track_objects to be true or false, got 1"),
    ],
)
def test_a_value_that_the_node_would_refuse_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        tracking_settings_of(parameter_file(tmp_path, line), wanted=True)
