"""The node's parameter file as a replay reads it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.ground_plane import CameraPose
from ros_kd_perception.parameter_file import free_space_parameters_of, read_parameter_file
from ros_kd_perception.parameter_rules import ParameterError

VEHICLE = """
/**:
  ros__parameters:
    cameras: [front, left]
    scan.enabled: true
    scan: {range_max_m: 30}
    free_space: {ignore_bottom_px: 12}
    front: {mounting: {height_m: 1.4, x_m: 2, pitch_deg: 3.0}}
/vehicle/perception:
  ros__parameters:
    drivable_classes: [road, pavement]
    left:
      mounting: {height_m: 1.1, yaw_deg: 60.0}
      scan.range_max_m: 12.5
      free_space: {ignore_bottom_px: 0}
/driver:
  ros__parameters:
    scan.frame_id: nobody_asked
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "vehicle.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_sections_and_levels_come_together(tmp_path: Path) -> None:
    found = free_space_parameters_of(written(tmp_path, VEHICLE), ["front", "left"])
    assert found.drivable_classes == ("road", "pavement")
    assert found.ignore_bottom_px == {"front": 12, "left": 0}
    front, left = found.scans["front"], found.scans["left"]
    assert front.pose == CameraPose.from_mounting(2.0, 0.0, 1.4, 0.0, 3.0, 0.0)
    assert (front.frame_id, front.beams.range_max_m, left.beams.range_max_m) == ("base_link", 30.0, 12.5)


def test_the_file_that_comes_with_the_package_has_no_scans() -> None:
    found = free_space_parameters_of(ROOT / "config" / "perception.yaml", ["front"])
    assert (found.drivable_classes, found.max_gap_px, dict(found.scans)) == (("road",), 0, {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**: {ros__parameters: {scan.enabled: 1}}", "scan.enabled to be true or false"),
        ("/**: {ros__parameters: {scan.enabled: true}}", "front.mounting.height_m"),
        ("/**: {ros__parameters: {drivable_classes: road}}", "a list of 1 to 256 names"),
        ("/**: {ros__parameters: {drivable_classes: []}}", "a list of 1 to 256 names"),
        ("/**: {ros__parameters: {free_space: {max_gap_px: 65}}}", "from 0 to 64"),
        ("/**: {ros__parameters: &again {more: *again}}", "levels"),
        ("/**: {ros__parameters: {date: 2020-99-99}}", "to be YAML"),
        ("/**/other: {ros__parameters: {scan.enabled: true}}", r"for the node perception, or /\*\*, got /\*\*/other"),
        ("scan: {enabled: true}", r"for the node perception, or /\*\*, got none with ros__parameters"),
        ("", "got none with ros__parameters"),
        ("{[", "to be YAML"),
        ("!!python/object/apply:os.system [true]", "to be YAML"),
    ],
)
def test_refusals(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        free_space_parameters_of(written(tmp_path, text), ["front"])


def test_namespaces_may_be_nested(tmp_path: Path) -> None:
    text = "robot: {perception: {ros__parameters: {a: 1}}, other: {ros__parameters: {a: 2}}}"
    assert read_parameter_file(written(tmp_path, text), "perception") == {"a": 1}
    text = "/robot/perception: {ros__parameters: {a: {b: 1}}}"
    assert read_parameter_file(written(tmp_path, text), "perception") == {"a.b": 1}


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="No such file"):
        read_parameter_file(tmp_path / "missing.yaml", "perception")
    with pytest.raises(ParameterError, match="at most 1048576 bytes"):
        read_parameter_file(written(tmp_path, "#" * (1 << 20) + "\n"), "perception")
    lines = ["k0: &k0 {a: 1}"]
    for level in range(1, 9):
        nine = ", ".join(f"b{number}: *k{level - 1}" for number in range(9))
        lines.append(f"k{level}: &k{level} {{{nine}}}")
    bomb = "\n".join([*lines, "/**: {ros__parameters: *k8}"])
    with pytest.raises(ParameterError, match="at most 10000 parameters"):
        read_parameter_file(written(tmp_path, bomb), "perception")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "file.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ParameterError):
        read_parameter_file(path, "perception")
