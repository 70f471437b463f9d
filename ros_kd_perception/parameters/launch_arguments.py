"""Turns the arguments of the launch files from text into parameters. It is here so that tests need no ROS."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ros_kd_perception.parameters.camera_names import CAMERA_NAME, camera_info_topic
from ros_kd_perception.parameters.errors import ParameterError
from ros_kd_perception.parameters.file import section_names
from ros_kd_perception.parameters.sections import DEFAULT_NODE, check_node
from ros_kd_perception.system.shipped_files import AUTO_MODEL

_INPUTS = ("image_raw", "image_raw/compressed")
"""Topics below a camera's name. The node subscribes to one of them."""

_OF_THE_LAUNCH_SYSTEM = ("emulate_tty", "launch-prefix", "launch-prefix-filter", "sigkill_timeout", "sigterm_timeout")
"""Arguments that the launch system itself reads. No launch file declares them."""

_BASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

PACKAGE = "ros_kd_perception"
MAX_SECONDS = 86400.0
MAX_NAMED = 5


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


def base_name(text: str) -> str:
    """Return the name of the node without its namespace: the argument `name`, or `perception` if it is empty.

    Raises:
        LaunchArgumentError: ROS does not accept the name.
    """
    name = text.strip() or DEFAULT_NODE
    if not _BASE_NAME.fullmatch(name):
        raise LaunchArgumentError(
            f"expected name to be a letter or _, then letters, digits and _, got {name[:80]!r}; slashes belong into "
            "namespace"
        )
    return name


def node_name(namespace: str, name: str = DEFAULT_NODE) -> str:
    """Return the fully qualified name of the node in a namespace. Slashes around the namespace are optional."""
    return "/".join(["", *(part for part in namespace.split("/") if part), name])


def node_of(arguments: Mapping[str, str]) -> str:
    """Return the full name that the launch system gives the node.

    Args:
        arguments: Texts of `name` and `namespace`, and of `ros_namespace` if a launch file has pushed a namespace. An
            absolute `namespace` is independent of that.

    Raises:
        LaunchArgumentError: ROS does not accept the name.
    """
    namespace = arguments["namespace"]
    if not namespace.startswith("/"):
        namespace = f"{arguments.get('ros_namespace', '')}/{namespace}"
    return node_name(namespace, base_name(arguments["name"]))


def check_section(params_file: Path, node: str) -> None:
    """Refuse a parameter file without a section for the node. ROS itself would silently run with the defaults.

    Args:
        params_file: The parameter file.
        node: Full name of the node.

    Raises:
        LaunchArgumentError: No section applies. One sentence.
    """
    try:
        names = section_names(params_file)
    except ParameterError:
        return  # the node reports what is wrong with the file, by the rules of ROS
    try:
        check_node(node, names, params_file)
    except ParameterError as error:
        raise LaunchArgumentError(f"{error}; change name, namespace or the section") from None


def check_names(given: Iterable[str], known: Collection[str], launch_file: Path, command_line: Sequence[str]) -> None:
    """Refuse arguments that a launch file does not have. The launch system itself ignores them silently.

    A launch file that another one includes is not checked: the arguments of both are in one table of the launch system.

    Args:
        given: Names of all launch configurations, before the launch file has set any.
        known: Names of the arguments that the launch file and those that it includes declare.
        launch_file: Path of the launch file.
        command_line: The command line of the process, `sys.argv`. It shows which launch file was started.

    Raises:
        LaunchArgumentError: The launch file was started with unknown arguments. One sentence.
    """
    unknown = [name for name in given if name not in known and name not in _OF_THE_LAUNCH_SYSTEM]
    if not unknown or not _is_started(launch_file, command_line):
        return
    nearest = dict.fromkeys(near for name in unknown for near in difflib.get_close_matches(name, known, n=2))
    meant = f"did you mean {' or '.join(list(nearest)[:MAX_NAMED])}? " if nearest else ""
    raise LaunchArgumentError(
        f"expected only arguments of {launch_file.name}, got {', '.join(unknown[:MAX_NAMED])[:200]}, which would have "
        f"no effect; {meant}--show-args lists all"
    )


def _is_started(launch_file: Path, command_line: Sequence[str]) -> bool:
    """Return whether a command line starts this launch file, by its package or by its path."""
    words = [word for word in command_line if not word.startswith("-") and ":=" not in word]
    if (PACKAGE, launch_file.name) in itertools.pairwise(words):
        return True
    return any(Path(word).exists() and Path(word).samefile(launch_file) for word in words)


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


def cameras_of_bag(text: str, found: Collection[str]) -> list[str]:
    """Return the cameras of a bag that a launch is about: those that are named, or all.

    Args:
        text: Text of the argument `cameras`.
        found: The cameras of the bag.

    Raises:
        LaunchArgumentError: The text has another form, or names a camera that the bag does not have.
    """
    cameras = _named_cameras(text) or list(found)
    if unknown := [camera for camera in cameras if camera not in found]:
        raise LaunchArgumentError(
            f"expected cameras to be cameras of the bag, which has {', '.join(found)}, got {', '.join(unknown)}; name "
            "other topics in camera_topics"
        )
    return cameras


def _named_cameras(text: str) -> list[str]:
    """Return the names of the argument `cameras` in order. Empty if it is left empty."""
    names = _yaml("cameras", text)
    if names == []:
        raise LaunchArgumentError(f"expected cameras to name at least one camera like '[front, left]', got {text!r}")
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    if names and not isinstance(names, list):
        raise LaunchArgumentError(f"expected cameras like '[front, left]', got {text!r}")
    return [_camera_name(name) for name in names or ()]


def _cameras(text: str, topics: Mapping[str, str]) -> list[str]:
    """Return the camera names in order. Without names, return the cameras of `camera_topics`."""
    cameras = _named_cameras(text) or list(topics)
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
