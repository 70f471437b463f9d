"""What the launch files make of their arguments, which all arrive as text; here so that it is tested without ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ros_kd_perception.parameters.camera_names import CAMERA_NAME, camera_info_topic

_INPUTS = ("image_raw", "image_raw/compressed")
"""What the node subscribes to under the name of a camera, one or the other."""

MAX_SECONDS = 86400.0


class LaunchArgumentError(ValueError):
    """An argument that nothing can be made of; the message is one sentence with an example."""


def is_true(text: str) -> bool:
    """Read a flag, in either of its common spellings: `true` or `True`."""
    return text.strip().lower() == "true"


def seconds(argument: str, text: str) -> float:
    """Read a duration.

    Raises:
        LaunchArgumentError: no number, or not one of a time that ends.
    """
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = math.nan
    if not 0 <= duration_s <= MAX_SECONDS:
        raise LaunchArgumentError(f"expected {argument} to be 0 to {MAX_SECONDS:g} seconds, got {text[:80]!r}")
    return duration_s


def node_name(namespace: str) -> str:
    """Fully qualified name of the node in a namespace, with or without its slashes; empty for none."""
    return "/".join(["", *(part for part in namespace.split("/") if part), "perception"])


def camera_topics(text: str) -> dict[str, str]:
    """Read `{front: /front_camera/image_raw}` into camera name -> topic; empty text has none.

    Raises:
        LaunchArgumentError: not of that form.
    """
    topics = _yaml("camera_topics", text) or {}
    if not isinstance(topics, dict) or not all(isinstance(topic, str) and topic for topic in topics.values()):
        raise LaunchArgumentError(f"expected camera_topics like '{{front: /front_camera/image_raw}}', got {text!r}")
    return {_camera_name(camera): topic for camera, topic in topics.items()}


def remappings(topics: Mapping[str, str]) -> list[tuple[str, str]]:
    """Remap both image inputs of each camera to its topic, and its calibration to the topic's sibling."""
    pairs = []
    for camera, topic in topics.items():
        pairs += [(f"{camera}/{name}", topic) for name in _INPUTS]
        pairs.append((f"{camera}/camera_info", camera_info_topic(topic) if "/" in topic else "camera_info"))
    return pairs


def node_parameters(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Collect the parameters that launch arguments set; those left empty set none, and the parameter file decides.

    Args:
        arguments: text of `autostart`, `model`, `cameras`, `camera_topics`, `image_transport`, `device` and
            `use_sim_time`; others are not looked at.

    Raises:
        LaunchArgumentError: an argument that nothing can be made of.
    """
    parameters: dict[str, Any] = {"autostart": is_true(arguments["autostart"])}
    if model := arguments["model"].strip():
        parameters["model"] = str(Path(model).expanduser().absolute())
    if cameras := _cameras(arguments["cameras"], camera_topics(arguments["camera_topics"])):
        parameters["cameras"] = cameras
    parameters |= _image_transports(arguments["image_transport"])
    if device := arguments["device"].strip():
        parameters["device"] = device
    if use_sim_time := arguments["use_sim_time"].strip():
        parameters["use_sim_time"] = is_true(use_sim_time)
    return parameters


def _cameras(text: str, topics: Mapping[str, str]) -> list[str]:
    """Names in order; those that have topics where none are named."""
    names = _yaml("cameras", text)
    if names == []:
        raise LaunchArgumentError(f"expected cameras to name at least one camera like '[front, left]', got {text!r}")
    names = names or list(topics)
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    if not isinstance(names, list):
        raise LaunchArgumentError(f"expected cameras like '[front, left]', got {text!r}")
    cameras = [_camera_name(name) for name in names]
    unknown = sorted(set(topics) - set(cameras))
    if unknown:
        raise LaunchArgumentError(
            f"expected camera_topics only for the cameras {', '.join(cameras)}, got them for {', '.join(unknown)} too; "
            "name these in cameras, or leave cameras out"
        )
    return cameras


def _image_transports(text: str) -> dict[str, str]:
    """The parameters that set the transport of all cameras, or of some."""
    transports = _yaml("image_transport", text) or {}
    if isinstance(transports, str):
        return {"image_transport": transports}
    if not isinstance(transports, dict):
        raise LaunchArgumentError(f"expected image_transport like compressed or '{{left: compressed}}', got {text!r}")
    return {f"{_camera_name(camera)}.image_transport": str(transport) for camera, transport in transports.items()}


def _camera_name(name: Any) -> str:
    if not isinstance(name, str) or not CAMERA_NAME.fullmatch(name):
        raise LaunchArgumentError(f"expected a camera's name to be a letter, then letters, digits and _, got {name!r}")
    return name


def _yaml(argument: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last two: impossible dates, endless brackets
        reason = " ".join(str(error).split())
        raise LaunchArgumentError(f"expected {argument} to be YAML, got {text!r}: {reason}") from None
