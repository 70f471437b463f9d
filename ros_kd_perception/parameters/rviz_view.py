"""Writes the RViz configuration for the cameras of a launch. It is here so that tests need no ROS.

The launch system's Python may have no NumPy, so this module reads the parameter file itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

DEFAULT_CAMERAS = ("front",)
"""The cameras of `config/perception.yaml`."""

_TEMPLATE_CAMERA = "front"
_TEMPLATE_TOPICS = f"/perception/{_TEMPLATE_CAMERA}/"
_MAX_DEPTH = 16


def rviz_view(template: str, node: str, cameras: Sequence[str]) -> str:
    """Return an RViz configuration with the displays of the template's camera for every camera.

    Args:
        template: Text of `config/perception.rviz`.
        node: Full name of the node, such as /perception.
        cameras: Names of the cameras, in the order of their displays.
    """
    view = yaml.safe_load(template)
    displays = view["Visualization Manager"]["Displays"]
    of_a_camera = [display for display in displays if _topic(display).startswith(_TEMPLATE_TOPICS)]
    view["Visualization Manager"]["Displays"] = [
        *(_for_camera(display, node, camera) for camera in cameras for display in of_a_camera),
        *(display for display in displays if display not in of_a_camera),
    ]
    text: str = yaml.safe_dump(view, sort_keys=False)
    return text


def cameras_to_show(parameters: Mapping[str, Any], parameter_file: str) -> list[str]:
    """Return the cameras of a launch: those of its arguments, else those of the parameter file.

    A file with different cameras for several nodes does not say which are meant here; then the default cameras are
    shown. The node itself reads the file by the rules of rcl and reports what is wrong with it.

    Args:
        parameters: The parameters that the launch arguments set.
        parameter_file: Text of the parameter file.
    """
    if "cameras" in parameters:
        return list(parameters["cameras"])
    try:
        found = [cameras for cameras in _camera_lists(yaml.safe_load(parameter_file), 0) if cameras]
    except (yaml.YAMLError, ValueError, RecursionError):
        return list(DEFAULT_CAMERAS)
    return found[0] if found and all(cameras == found[0] for cameras in found) else list(DEFAULT_CAMERAS)


def _camera_lists(section: Any, depth: int) -> Iterator[list[str]]:
    """Yield the values of `cameras` below every `ros__parameters`."""
    if not isinstance(section, dict) or depth > _MAX_DEPTH:
        return
    for name, value in section.items():
        if name != "ros__parameters":
            yield from _camera_lists(value, depth + 1)
        elif isinstance(value, dict) and isinstance(cameras := value.get("cameras"), list):
            yield [camera for camera in cameras if isinstance(camera, str)]


def _topic(display: Mapping[str, Any]) -> str:
    topic = display.get("Topic")
    return str(topic.get("Value", "")) if isinstance(topic, dict) else ""


def _for_camera(display: Mapping[str, Any], node: str, camera: str) -> dict[str, Any]:
    """Return a copy of a display of the template's camera for another camera of another node."""
    own = copy.deepcopy(dict(display))
    own["Name"] = own["Name"].replace(_TEMPLATE_CAMERA, camera)
    own["Topic"]["Value"] = f"{node}/{camera}/{_topic(display).removeprefix(_TEMPLATE_TOPICS)}"
    return own
