"""Turns the arguments of the launch files from text into parameters. It is here so that tests need no ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ros_kd_perception.parameters.camera_names import CAMERA_NAME, camera_info_topic
from ros_kd_perception.system.shipped_files import AUTO_MODEL

_INPUTS = ("image_raw", "image_raw/compressed")
"""Topics below a camera's name. The node subscribes to one of them."""

MAX_SECONDS = 86400.0


class LaunchArgumentError(ValueError):
    """A launch argument is invalid. The text is one sentence."""


def is_true(text: str) -> bool:
    """Return whether a flag is set: `true`, in upper or lower case."""
    return text.strip().lower() == "true"


def seconds(argument: str, text: str) -> float:
    """Parse a duration.

    Args:
        argument: Name of the launch argument, for errors.
        text: Its text.

    Raises:
        LaunchArgumentError: The text is not a number from 0 to `MAX_SECONDS`.
    """
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = math.nan
    if not 0 <= duration_s <= MAX_SECONDS:
        raise LaunchArgumentError(f"expected {argument} to be 0 to {MAX_SECONDS:g} seconds, got {text[:80]!r}")
    return duration_s


def node_name(namespace: str) -> str:
    """Return the fully qualified name of the node in a namespace. Slashes around the namespace are optional."""
    return "/".join(["", *(part for part in namespace.split("/") if part), "perception"])


def camera_topics(text: str) -> dict[str, str]:
    """Parse a text such as `{front: /front_camera/image_raw}` into camera name -> topic. Empty text gives no topics.

    Raises:
        LaunchArgumentError: The text has another form.
    """
    topics = _yaml("camera_topics", text) or {}
    if not isinstance(topics, dict) or not all(isinstance(topic, str) and topic for topic in topics.values()):
        raise LaunchArgumentError(f"expected camera_topics like '{{front: /front_camera/image_raw}}', got {text!r}")
    return {_camera_name(camera): topic for camera, topic in topics.items()}


def remappings(topics: Mapping[str, str]) -> list[tuple[str, str]]:
    """Remap both image inputs of each camera to its topic, and its `camera_info` to the topic's sibling.

    Returns:
        Pairs of a name in the node and the topic that replaces it.
    """
    pairs = []
    for camera, topic in topics.items():
        pairs += [(f"{camera}/{name}", topic) for name in _INPUTS]
        pairs.append((f"{camera}/camera_info", camera_info_topic(topic) if "/" in topic else "camera_info"))
    return pairs


def node_parameters(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that the launch arguments set. An empty argument sets none and leaves the parameter file's.

    Args:
        arguments: Texts of `autostart`, `model`, `cameras`, `camera_topics`, `image_transport`, `device` and
            `use_sim_time`. Other arguments are ignored.

    Raises:
        LaunchArgumentError: An argument is invalid.
    """
    parameters: dict[str, Any] = {"autostart": is_true(arguments["autostart"])}
    if model := arguments["model"].strip():
        parameters["model"] = model if model == AUTO_MODEL else str(Path(model).expanduser().absolute())
    if cameras := _cameras(arguments["cameras"], camera_topics(arguments["camera_topics"])):
        parameters["cameras"] = cameras
    parameters |= _image_transports(arguments["image_transport"])
    if device := arguments["device"].strip():
        parameters["device"] = device
    if use_sim_time := arguments["use_sim_time"].strip():
        parameters["use_sim_time"] = is_true(use_sim_time)
    return parameters


def _cameras(text: str, topics: Mapping[str, str]) -> list[str]:
    """Return the camera names in order. Without names, return the cameras of `camera_topics`."""
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
    """Return the parameters that set the image transport of all cameras or of single ones."""
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # impossible dates, deeply nested brackets
        reason = " ".join(str(error).split())
        raise LaunchArgumentError(f"expected {argument} to be YAML, got {text!r}: {reason}") from None
