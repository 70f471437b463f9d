"""The RViz configuration and the Foxglove layout: every topic in them is one of the node, with the default cameras."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.messages.result_topics import FRAME_TOPICS, IMAGE
from ros_kd_perception.parameters.camera_names import COMPRESSED_IMAGE
from ros_kd_perception.parameters.rviz_view import DEFAULT_CAMERAS, cameras_to_show, rviz_view
from ros_kd_perception.ros.node_parameters import PARAMETERS

TEMPLATE = (ROOT / "config" / "perception.rviz").read_text(encoding="utf-8")
LAYOUT = json.loads((ROOT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))
SINKS = ROOT / "ros_kd_perception" / "ros" / "topics"
NODE = "/perception"
# The types that RViz's own displays can show, and that a panel can.
RVIZ_TYPES = {
    "rviz_default_plugins/Image": (IMAGE, COMPRESSED_IMAGE),
    "rviz_default_plugins/MarkerArray": ("visualization_msgs/msg/MarkerArray",),
}
# Off by default. RViz waits for markers, which have no other use.
OFF_BY_DEFAULT = {
    "scan", "confidence", "camera_info", "ground/points", "ground/segmentation", "ground/confidence",
    "ground/camera_info", "ground_detections",
}  # fmt: skip


def published() -> dict[str, str]:
    """Return the types of the node's topics for the default cameras, from the code that publishes them."""
    types = {topic.name: topic.type_name for topic in FRAME_TOPICS if topic.name not in OFF_BY_DEFAULT}
    pictures = re.findall(r'self\._topics\((\w+), "([\w/]+)"\)', (SINKS / "pictures.py").read_text())
    assert {name for _, name in pictures} >= {"overlay", "overlay/compressed", "segmentation/color"}
    types |= {name: f"sensor_msgs/msg/{kind}" for kind, name in pictures}
    annotations = (SINKS / "annotations.py").read_text()
    assert 'f"~/{c}/annotations"' in annotations
    assert 'lookup(f"{PACKAGE}/msg/ImageAnnotations")' in annotations
    types["annotations"] = "foxglove_msgs/msg/ImageAnnotations"
    topics = {f"{NODE}/{camera}/{name}": kind for camera in DEFAULT_CAMERAS for name, kind in types.items()}
    times = ast.parse((SINKS / "frame_times.py").read_text())
    names = {ast.unparse(node.targets[0]): node.value.value for node in times.body
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)}  # fmt: skip
    for name in (names["PROCESSING"], names["LATENCY"]):
        for base in ("debug", *(f"debug/{camera}" for camera in DEFAULT_CAMERAS)):
            topics[f"{NODE}/{base}/{name}"] = "std_msgs/msg/Float64"
    assert '"/diagnostics"' in (ROOT / "ros_kd_perception" / "ros" / "diagnostics.py").read_text()
    return topics | {"/diagnostics": "diagnostic_msgs/msg/DiagnosticArray"}


PUBLISHED = published()


def displays(view: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(view)["Visualization Manager"]["Displays"]
    return found


def topics(view: str) -> list[str]:
    return [display["Topic"]["Value"] for display in displays(view)]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_the_default_cameras_are_those_of_the_parameters() -> None:
    assert tuple(PARAMETERS["cameras"].default) == DEFAULT_CAMERAS


def test_rviz_shows_topics_of_the_node_with_displays_for_their_types() -> None:
    assert len(displays(TEMPLATE)) == 4
    for display in displays(TEMPLATE):
        assert PUBLISHED[display["Topic"]["Value"]] in RVIZ_TYPES[display["Class"]]
        assert display["Topic"]["Reliability Policy"] == "Reliable"
        assert display["Enabled"] == display["Value"]
    assert [display["Topic"]["Value"] for display in displays(TEMPLATE) if display["Enabled"]] == [
        f"{NODE}/front/overlay",
        f"{NODE}/front/markers",
    ]


def test_foxglove_shows_topics_of_the_node_with_panels_for_their_types() -> None:
    panels = LAYOUT["configById"]
    [image, mask], [diagnostics], [plot], [raw] = [
        [panel for name, panel in panels.items() if name.startswith(f"{kind}!")]
        for kind in ("Image", "DiagnosticSummary", "Plot", "RawMessages")
    ]
    assert PUBLISHED[image["imageMode"]["imageTopic"]] == COMPRESSED_IMAGE
    assert PUBLISHED[mask["imageMode"]["imageTopic"]] == IMAGE
    [boxes] = mask["imageMode"]["annotations"]
    assert PUBLISHED[boxes] == "foxglove_msgs/msg/ImageAnnotations"
    assert PUBLISHED[diagnostics["topicToRender"]] == "diagnostic_msgs/msg/DiagnosticArray"
    assert PUBLISHED[raw["topicPath"]] == "vision_msgs/msg/Detection2DArray"
    for path in plot["paths"]:
        topic, _, member = path["value"].partition(".")
        assert (PUBLISHED[topic], member) == ("std_msgs/msg/Float64", "data")
        assert path["timestampMethod"] == "receiveTime", "std_msgs/Float64 has no header"
    named = {text.partition(".")[0] for text in strings(LAYOUT) if text.startswith("/")}
    assert named <= set(PUBLISHED)


def test_foxglove_places_every_panel_once() -> None:
    def places(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            assert node["direction"] in ("row", "column")
            yield from places(node["first"])
            yield from places(node["second"])

    assert sorted(places(LAYOUT["layout"])) == sorted(LAYOUT["configById"])


def test_the_view_of_the_default_cameras_is_the_template() -> None:
    assert yaml.safe_load(rviz_view(TEMPLATE, NODE, DEFAULT_CAMERAS)) == yaml.safe_load(TEMPLATE)


def test_the_view_repeats_the_displays_for_every_camera_of_the_node() -> None:
    view = rviz_view(TEMPLATE, "/robot/perception", ["left", "right"])

    assert topics(view) == [
        f"/robot/perception/{camera}/{name}"
        for camera in ("left", "right")
        for name in ("overlay", "overlay/compressed", "segmentation/color", "markers")
    ]
    names = [display["Name"] for display in displays(view)]
    assert names == [
        f"{camera} {shown}"
        for camera in ("left", "right")
        for shown in ("overlay", "overlay, compressed", "mask", "objects")
    ]


def test_displays_of_other_topics_stay_as_they_are() -> None:
    view = yaml.safe_load(TEMPLATE)
    others = [
        {"Class": "rviz_default_plugins/Grid", "Name": "Grid"},
        {"Class": "rviz_default_plugins/Image", "Name": "driver", "Topic": {"Value": "/front/image_raw"}},
    ]
    view["Visualization Manager"]["Displays"] += others

    assert displays(rviz_view(yaml.safe_dump(view), NODE, ["left"]))[-2:] == others


@pytest.mark.parametrize(
    ("parameters", "text", "cameras"),
    [
        ({"cameras": ["left"]}, "/**: {ros__parameters: {cameras: [front, rear]}}", ["left"]),
        ({}, "/**: {ros__parameters: {cameras: [front, rear]}}", ["front", "rear"]),
        ({}, "robot: {perception: {ros__parameters: {cameras: [rear]}}}", ["rear"]),
        ({}, "/**: {ros__parameters: {device: cpu}}", ["front"]),
        ({}, "/**: {ros__parameters: {cameras: []}}", ["front"]),
        ({}, "/a: {ros__parameters: {cameras: [x]}}\n/b: {ros__parameters: {cameras: [y]}}", ["front"]),
        ({}, "{", ["front"]),
        ({}, "", ["front"]),
    ],
)
def test_cameras_come_from_the_arguments_or_else_from_the_file(
    parameters: dict[str, Any], text: str, cameras: list[str]
) -> None:
    assert cameras_to_show(parameters, text) == cameras


@given(st.text(max_size=60) | st.text(alphabet="{}[]:,*&\n -cameras_ro", max_size=60))
def test_any_parameter_file_gives_cameras(text: str) -> None:
    cameras = cameras_to_show({}, text)
    assert cameras
    assert all(isinstance(camera, str) for camera in cameras)


def test_both_views_are_installed() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert 'share("config", "*")' in setup
    for name in ("perception.rviz", "foxglove_layout.json"):
        assert (ROOT / "config" / name).is_file()
