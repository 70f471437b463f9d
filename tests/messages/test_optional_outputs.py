"""Tests how the node and the replay read which optional outputs there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import ROOT

from ros_kd_perception.messages.optional_outputs import OptionalOutputs, optional_outputs_of
from ros_kd_perception.parameters.rules import ParameterError


def parameter_file(folder: Path, *lines: str) -> Path:
    path = folder / "vehicle.yaml"
    path.write_text("\n".join(["/**:", "  ros__parameters:", *(f"    {line}" for line in lines)]), encoding="utf-8")
    return path


def test_nothing_is_on_by_default(tmp_path: Path) -> None:
    assert optional_outputs_of(None) == OptionalOutputs()
    assert optional_outputs_of(ROOT / "config" / "perception.yaml") == OptionalOutputs(False, False)
    assert optional_outputs_of(parameter_file(tmp_path, "model: x")) == OptionalOutputs()


def test_each_output_has_its_parameter(tmp_path: Path) -> None:
    assert optional_outputs_of(parameter_file(tmp_path, "publish_confidence: true")) == OptionalOutputs(confidence=True)
    found = optional_outputs_of(parameter_file(tmp_path, "publish_camera_info: true"))
    assert found == OptionalOutputs(camera_info=True)


def test_values_that_the_node_would_refuse_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="expected parameter publish_confidence to be true or false, got 'often'"):
        optional_outputs_of(parameter_file(tmp_path, "publish_confidence: often"))
