"""Tests how a replay reads the node's parameter file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import GroundPointParameters, free_space_parameters_of
from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import ParameterError

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


def test_sections_and_nested_names_are_merged(tmp_path: Path) -> None:
    found = free_space_parameters_of(written(tmp_path, VEHICLE), ["front", "left"])
    assert found.drivable_classes == ("road", "pavement")
    assert found.ignore_bottom_px == {"front": 12, "left": 0}
    front, left = found.scans["front"], found.scans["left"]
    assert front.pose == CameraPose.from_mounting(2.0, 0.0, 1.4, 0.0, 3.0, 0.0)
    assert (front.frame_id, front.beams.range_max_m, left.beams.range_max_m) == ("base_link", 30.0, 12.5)


def test_points_on_the_ground_have_the_mounting_and_the_range_of_the_scan(tmp_path: Path) -> None:
    more = "    ground_points: {enabled: true, stride_px: 8}\n    left.ground_points.enabled: false\n"
    text = VEHICLE.replace("    scan.enabled: true\n", more)
    found = free_space_parameters_of(written(tmp_path, text), ["front", "left"])
    pose = CameraPose.from_mounting(2.0, 0.0, 1.4, 0.0, 3.0, 0.0)
    assert found.grounds == {"front": GroundPointParameters("base_link", False, pose, 8, 30.0)}
    assert (dict(found.scans), set(found.mounted), found.asked_for) == ({}, {"front"}, True)
    assert found.needs_mounting("front") == "points on the ground"
    text = VEHICLE.replace("scan.enabled", "ground_points.enabled: true\n    scan.enabled")
    both = free_space_parameters_of(written(tmp_path, text), ["front", "left"])
    assert both.needs_mounting("left") == "scan and no points on the ground"


def test_a_misspelt_parameter_of_the_ground_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    text = VEHICLE.replace("    scan.enabled: true\n", "    front.ground_points.enable: true\n")
    found = free_space_parameters_of(written(tmp_path, text), ["front", "left"], warn=told.append)
    assert not found.grounds
    [sentence] = told
    assert "did you mean front.ground_points.enabled?" in sentence


def test_the_shipped_file_enables_no_scans_and_no_points() -> None:
    found = free_space_parameters_of(ROOT / "config" / "perception.yaml", ["front"])
    assert (found.drivable_classes, found.max_gap_px, dict(found.scans)) == (("auto",), 0, {})
    assert dict(found.grounds) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**: {ros__parameters: {scan.enabled: 1}}", "scan.enabled to be true or false"),
        ("/**: {ros__parameters: {scan.enabled: true}}", "front.mounting.height_m"),
        ("/**: {ros__parameters: {drivable_classes: road}}", "a list of 1 to 256 names"),
        ("/**: {ros__parameters: {drivable_classes: []}}", "a list of 1 to 256 names"),
        ("/**: {ros__parameters: {free_space: {max_gap_px: 65}}}", "from 0 to 64"),
        ("/**: {ros__parameters: &again {more: *again}}", "without YAML aliases"),
        ("/**: {ros__parameters: " + "{a: " * 20 + "1" + "}" * 21, "levels"),
        ("/**: {ros__parameters: {date: 2020-99-99}}", "to be YAML"),
        ("/**/other: {ros__parameters: {scan.enabled: true}}", r"for the node perception, or /\*\*, got /\*\*/other"),
        ("scan: {enabled: true}", r"for the node perception, or /\*\*, got none with ros__parameters"),
        ("", "got none with ros__parameters"),
        ("{[", "to be YAML"),
        ("/**: {ros__parameters: {cameras: []}}", "cameras to be a list of at least one name, got an empty list"),
        ("/**: {ros__parameters: {cameras: }}", "cameras to be a list of at least one name, got an empty list"),
        ("/**: {ros__parameters: [cameras]}", r"values below ros__parameters of /\*\* in .*, got \['cameras'\]"),
        ("/**: {ros__parameters: {cameras: front}}", "cameras to be a list of at least one name, got 'front'"),
        ("/**: {ros__parameters: {a: 1}}\n/**: {ros__parameters: {b: 1}}", "got '/\\*\\*' twice"),
        ("/**: {ros__parameters: {front: {a: 1}, x: 2, front: {b: 1}}}", "got 'front' twice"),
        ("!!python/object/apply:os.system [true]", "to be YAML"),
    ],
)
def test_invalid_values_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        free_space_parameters_of(written(tmp_path, text), ["front"])


def test_namespaces_may_be_nested(tmp_path: Path) -> None:
    text = "robot: {perception: {ros__parameters: {a: 1}}, other: {ros__parameters: {a: 2}}}"
    assert read_parameter_file(written(tmp_path, text)) == {"a": 1}
    text = "/robot/perception: {ros__parameters: {a: {b: 1}}}"
    assert read_parameter_file(written(tmp_path, text)) == {"a.b": 1}


TWO_VEHICLES = """
/**: {ros__parameters: {scan.enabled: true, front.mounting.height_m: 1.0}}
/car1/perception: {ros__parameters: {front.mounting.height_m: 1.1}}
/car2/perception: {ros__parameters: {front.mounting.height_m: 2.2}}
"""


def heights_m(path: Path, node: str | None) -> float:
    return read_parameter_file(path, node)["front.mounting.height_m"]


def test_a_file_for_two_vehicles_needs_the_name_of_a_node(tmp_path: Path) -> None:
    path = written(tmp_path, TWO_VEHICLES)
    with pytest.raises(ParameterError, match="got those of /car1/perception, /car2/perception; choose one with --node"):
        read_parameter_file(path)
    assert [heights_m(path, node) for node in ("/car1/perception", "car2/perception/")] == [1.1, 2.2]
    assert heights_m(path, "/car3/perception") == 1.0  # like the node, from the section for all nodes


@pytest.mark.parametrize(
    "sections",
    [
        ("/perception", "/car1/perception"),
        ("/car1/**", "/car2/**"),
        ("/car1/*", "/**/car2/perception"),
        ("car1: {perception: {ros__parameters: {a: 1}}, x", "/car2/perception"),
        ("/*", "/*/perception"),
    ],
)
def test_settings_of_two_nodes_are_told_apart_with_any_headings(tmp_path: Path, sections: tuple[str, str]) -> None:
    text = "".join(f'"{s}": {{ros__parameters: {{a: 1}}}}\n' if ":" not in s else f"{s}: 1}}\n" for s in sections)
    with pytest.raises(ParameterError, match="expected the settings of one node"):
        read_parameter_file(written(tmp_path, text))


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (("/**", "/car1/perception", "/car2/lidar"), ["/**", "/car1/perception"]),
        (("/car1/**", "/car1/perception", "/*/lidar"), ["/car1/**", "/car1/perception"]),
        (("/perception", "perception/sub"), ["/perception"]),
        (("/**/perception", "/car1/**"), ["/**/perception", "/car1/**"]),
        (("/*/perception", "/**"), ["/*/perception", "/**"]),
    ],
)
def test_one_vehicle_has_its_own_sections_and_those_for_all(
    tmp_path: Path, sections: tuple[str, ...], expected: list[str]
) -> None:
    text = "".join(f'"{s}": {{ros__parameters: {{"{number}": 1}}}}\n' for number, s in enumerate(sections))
    taken = read_parameter_file(written(tmp_path, text))
    assert [sections[int(number)] for number in taken] == expected


@pytest.mark.parametrize("node", ["/car9/perception", "/car1", "/car1/perception/left"])
def test_a_node_without_a_section_is_refused(tmp_path: Path, node: str) -> None:
    text = "/car1/perception: {ros__parameters: {a: 1}}"
    with pytest.raises(ParameterError, match=f"for the node {node}, or .*, got /car1/perception"):
        read_parameter_file(written(tmp_path, text), node)


@pytest.mark.parametrize("node", ["", "/", "/car 1/perception", "/**", "/1/x"])
def test_an_invalid_node_name_is_refused(tmp_path: Path, node: str) -> None:
    with pytest.raises(ParameterError, match="expected the full name of a node"):
        read_parameter_file(written(tmp_path, VEHICLE), node)


def test_a_misspelt_parameter_is_reported_with_the_most_similar_one(tmp_path: Path) -> None:
    text = """
/**:
  ros__parameters:
    max_age_ms: 100.0
    rear: {mounting: {pitch: 1.0}}
    drivable_class: [road]
    scan: {enable: false}
    front: {mounting: {height_m: 1.0, pitch: 2.0}, turn_weight: 2.0, image_transport: raw, scan: {enabled: true}}
    mounting: {yaw_deg: 3.0}
"""
    told: list[str] = []
    found = free_space_parameters_of(written(tmp_path, text), ["front"], warn=told.append)
    assert found.scans["front"].pose == CameraPose.from_mounting(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    assert [sentence.partition("got ")[2] for sentence in told] == [
        "drivable_class, which has no effect; did you mean drivable_classes?",
        "scan.enable, which has no effect; did you mean scan.enabled?",
        "front.mounting.pitch, which has no effect; did you mean front.mounting.pitch_deg?",
        "mounting.yaw_deg, which has no effect; did you mean front.mounting.yaw_deg?",
    ]


def test_files_that_are_not_parameter_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="No such file"):
        read_parameter_file(tmp_path / "missing.yaml")
    with pytest.raises(ParameterError, match="at most 1048576 bytes"):
        read_parameter_file(written(tmp_path, "#" * (1 << 20) + "\n"))
    lines = ["k0: &k0 {a: 1}"]
    for level in range(1, 9):
        nine = ", ".join(f"b{number}: *k{level - 1}" for number in range(9))
        lines.append(f"k{level}: &k{level} {{{nine}}}")
    bomb = "\n".join([*lines, "/**: {ros__parameters: *k8}"])
    with pytest.raises(ParameterError, match="without YAML aliases"):
        read_parameter_file(written(tmp_path, bomb))
    many = ", ".join(f"a{number}: 1" for number in range(10_001))
    with pytest.raises(ParameterError, match="at most 10000 parameters"):
        read_parameter_file(written(tmp_path, f"/**: {{ros__parameters: {{{many}}}}}"))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "file.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ParameterError):
        read_parameter_file(path)


@pytest.mark.parametrize("text", ["ros__parameters: {a: 1}\n", "/**:\n  ros__parameters: {a: 1}\nros__parameters:\n"])
def test_parameters_without_the_name_of_a_node_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "parameters.yaml").write_text(text)
    with pytest.raises(
        ParameterError, match=r"expected ros__parameters below the name of a node .*; write /\*\*: above"
    ):
        read_parameter_file(tmp_path / "parameters.yaml")
