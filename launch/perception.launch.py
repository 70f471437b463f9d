"""Start the perception node and bring it to active.

    ros2 launch ros_kd_perception perception.launch.py camera_topics:='{front: /front_camera/image_raw}'

Arguments that are left empty keep what the parameter file says. The node activates itself (its parameter `autostart`)
rather than on events from here: so it comes back to active when `respawn` restarts it, and needs no service call to get
through while a vehicle's graph is still forming. With `autostart:=false` a lifecycle manager takes over.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

from ros_kd_perception.ros_environment import large_image_environment

PACKAGE = "ros_kd_perception"
DEVICES = ("auto", "tensorrt", "cuda", "cpu")
# `use_sim_time:=True` is a common spelling.
FLAG = ("true", "false", "True", "False")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments; what they say becomes a node in `start_node`."""
    share = FindPackageShare(PACKAGE)
    return LaunchDescription(
        [
            _argument(
                "params_file", "parameters of the node", PathJoinSubstitution([share, "config", "perception.yaml"])
            ),
            _argument("model", "path of the student's .onnx file"),
            _argument("cameras", "names, e.g. '[front, left]'; those of camera_topics if empty"),
            _argument("camera_topics", "the topic of each camera, e.g. '{front: /front_camera/image_raw}'"),
            _argument("image_transport", "raw or compressed, or for some cameras, e.g. '{left: compressed}'"),
            _argument("device", "where the network runs", choices=("", *DEVICES)),
            _argument("use_sim_time", "take the time from /clock", choices=("", *FLAG)),
            _argument("namespace", "namespace of the node, its camera topics included"),
            _argument("autostart", "let the node configure and activate itself", "true", choices=FLAG),
            _argument("respawn", "start the node again when it dies", "false", choices=FLAG),
            _argument("log_level", "least severe messages to show", "info", choices=LOG_LEVELS),
            _argument(
                "fastdds_profile",
                "Fast DDS settings for large images, unless the environment has some; empty for none",
                PathJoinSubstitution([share, "config", "fastdds_large_images.xml"]),
            ),
            OpaqueFunction(function=start_node),
        ]
    )


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Turn the arguments into the node; those that were left empty are not passed on.

    Raises:
        ValueError: an argument that the node could not make sense of.
    """
    given = {name: value.strip() for name, value in context.launch_configurations.items() if isinstance(value, str)}
    topics = _camera_topics(given["camera_topics"])
    parameters: dict[str, Any] = {"autostart": _is_true(given["autostart"])}
    if given["model"]:
        parameters["model"] = str(Path(given["model"]).expanduser().absolute())
    cameras = _cameras(given["cameras"], topics)
    if cameras:
        parameters["cameras"] = cameras
    parameters |= _image_transports(given["image_transport"])
    if given["device"]:
        parameters["device"] = given["device"]
    if given["use_sim_time"]:
        parameters["use_sim_time"] = _is_true(given["use_sim_time"])
    params_file = Path(given["params_file"]).expanduser()
    if not params_file.is_file():
        raise ValueError(f"expected params_file to name a file but there is no {params_file}")
    node = LifecycleNode(
        package=PACKAGE,
        executable="perception_node",
        name="perception",
        namespace=given["namespace"],
        parameters=[str(params_file), parameters],
        remappings=_remappings(topics),
        arguments=["--ros-args", "--log-level", given["log_level"]],
        additional_env=large_image_environment(os.environ, given["fastdds_profile"]),
        respawn=_is_true(given["respawn"]),
        respawn_delay=2.0,
        output="screen",
        emulate_tty=True,
    )
    return [node]


def _argument(name: str, description: str, default: Any = "", choices: tuple[str, ...] = ()) -> DeclareLaunchArgument:
    if choices:
        return DeclareLaunchArgument(name, default_value=default, description=description, choices=list(choices))
    return DeclareLaunchArgument(name, default_value=default, description=description)


def _is_true(flag: str) -> bool:
    return flag.lower() == "true"


def _camera_topics(text: str) -> dict[str, str]:
    """Camera name -> topic."""
    topics = _yaml(text, "camera_topics") or {}
    if not isinstance(topics, dict) or not all(isinstance(topic, str) and topic for topic in topics.values()):
        raise ValueError(f"expected camera_topics like '{{front: /front_camera/image_raw}}' but got {text!r}")
    return {_camera_name(name): topic for name, topic in topics.items()}


def _cameras(text: str, topics: dict[str, str]) -> list[str]:
    """Names of the cameras, in order; those that have topics where none are named."""
    names = _yaml(text, "cameras") or list(topics)
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    if not isinstance(names, list):
        raise ValueError(f"expected cameras like '[front, left]' but got {text!r}")
    names = [_camera_name(name) for name in names]
    unknown = sorted(set(topics) - set(names))
    if unknown:
        raise ValueError(f"expected camera_topics of the cameras {names} only but got topics of {unknown} too")
    return names


def _image_transports(text: str) -> dict[str, str]:
    """The parameters that set the transport of all cameras, or of some."""
    transports = _yaml(text, "image_transport") or {}
    if isinstance(transports, str):
        return {"image_transport": transports}
    if not isinstance(transports, dict):
        raise ValueError(f"expected image_transport to be raw, compressed or like '{{left: raw}}' but got {text!r}")
    return {f"{_camera_name(name)}.image_transport": transport for name, transport in transports.items()}


def _camera_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            f"expected a camera name that is a letter and then letters, digits and underscores but got {name!r}"
        )
    return name


def _yaml(text: str, argument: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"expected YAML as {argument} but got {text!r}: {error}") from None


def _remappings(topics: dict[str, str]) -> list[tuple[str, str]]:
    """The topic stands for whichever of a camera's two inputs the node subscribes to."""
    inputs = ("image_raw", "image_raw/compressed")
    return [(f"{camera}/{name}", topic) for camera, topic in topics.items() for name in inputs]
