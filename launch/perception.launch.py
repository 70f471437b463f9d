"""Start the perception node and bring it to active.

    ros2 launch ros_kd_perception perception.launch.py camera_topics:='{front: /front_camera/image_raw}'

Arguments that are left empty do not change the parameter file's values. The node activates itself (its parameter
`autostart`), without events from the launch system. So it returns to active when `respawn` restarts it, and depends on
no service call while the graph of a vehicle is still forming. With `autostart:=false` a lifecycle manager activates it.

`ros2 launch` ends with status 1 if the node failed, unless `respawn` restarted it. Other processes keep running.
"""

import sys
from pathlib import Path
from typing import Any

import launch.logging
from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.substitutions import EnvironmentVariable, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

from ros_kd_perception.parameters.launch_arguments import (
    PACKAGE,
    LaunchArgumentError,
    base_name,
    camera_topics,
    check_names,
    check_section,
    is_true,
    node_of,
    node_parameters,
    remappings,
)
from ros_kd_perception.parameters.rviz_view import cameras_to_show, rviz_view
from ros_kd_perception.parameters.sections import DEFAULT_NODE
from ros_kd_perception.system.fastdds_settings import PROFILE_VARIABLE
from ros_kd_perception.system.launch_exit_status import report_failure, report_failure_at_shutdown

DEVICES = ("auto", "tensorrt", "cuda", "cpu")
# Also in the spelling of Python, as `use_sim_time:=True` is common.
FLAG = ("true", "false", "True", "False")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments. `start_node` makes the node from them."""
    share = FindPackageShare(PACKAGE)
    description = LaunchDescription(
        [
            _argument(
                "params_file", "parameters of the node", PathJoinSubstitution([share, "config", "perception.yaml"])
            ),
            _argument("model", "path of the student's .onnx file; auto: the shipped one that is fastest here"),
            _argument("cameras", "names, e.g. '[front, left]'; those of camera_topics if empty"),
            _argument("camera_topics", "the topic of each camera, e.g. '{front: /front_camera/image_raw}'"),
            _argument("image_transport", "raw or compressed, or for some cameras, e.g. '{left: compressed}'"),
            _argument("device", "where the network runs", choices=("", *DEVICES)),
            _argument("use_sim_time", "take the time from /clock", choices=("", *FLAG)),
            _argument("name", "name of the node, and of its topics below ~", DEFAULT_NODE),
            _argument("namespace", "namespace of the node, its camera topics included"),
            _argument("autostart", "let the node configure and activate itself", "true", choices=FLAG),
            _argument("respawn", "start the node again when it dies", "false", choices=FLAG),
            _argument("enclave", "SROS 2 enclave of the node, e.g. /perception; see docs/security.md"),
            _argument("rviz", "show the results of every camera in RViz", "false", choices=FLAG),
            _argument("log_level", "least severe messages to show", "info", choices=LOG_LEVELS),
            _argument(
                "fastdds_profile",
                "Fast DDS settings for large images, unless the environment has some; empty for none",
                EnvironmentVariable(
                    PROFILE_VARIABLE,
                    default_value=PathJoinSubstitution([share, "config", "fastdds_large_images.xml"]),
                ),
            ),
            OpaqueFunction(function=start_node),
            OpaqueFunction(function=start_rviz),
        ]
    )
    # The first action, because later ones add to the arguments.
    description.entities.insert(0, OpaqueFunction(function=refuse_unknown_arguments, args=[description]))
    return description


def refuse_unknown_arguments(context: LaunchContext, description: LaunchDescription) -> None:
    """Refuse arguments that the description does not declare, if this is the launch file that was started.

    Raises:
        LaunchArgumentError: There are such arguments.
    """
    known = [argument.name for argument in description.get_launch_arguments()]
    check_names(context.launch_configurations, known, Path(__file__), sys.argv)


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Make the node from the arguments, and report how it ends.

    Raises:
        LaunchArgumentError: An argument cannot be used, or the parameter file does not exist or has no section for the
            node.
    """
    given = context.launch_configurations
    params_file = Path(given["params_file"]).expanduser()
    if not params_file.is_file():
        raise LaunchArgumentError(f"expected params_file to name a file, there is no {params_file}")
    check_section(params_file, node_of(given))
    if given["fastdds_profile"]:
        profile = Path(given["fastdds_profile"]).expanduser()
        if not profile.is_file():
            raise LaunchArgumentError(f"expected fastdds_profile to name a file or to be empty, there is no {profile}")
        given["fastdds_profile"] = str(profile)  # for the player and the recorder of a replay, too
    enclave = ["--enclave", given["enclave"]] if given["enclave"] else []
    node = LifecycleNode(
        package=PACKAGE,
        executable="perception_node",
        name=base_name(given["name"]),
        namespace=given["namespace"],
        parameters=[str(params_file), node_parameters(given)],
        remappings=remappings(camera_topics(given["camera_topics"])),
        arguments=["--ros-args", "--log-level", given["log_level"], *enclave],
        additional_env={PROFILE_VARIABLE: given["fastdds_profile"]},
        respawn=is_true(given["respawn"]),
        respawn_delay=2.0,
        output="screen",
        emulate_tty=True,
    )
    on_exit = report_failure_at_shutdown if is_true(given["respawn"]) else report_failure
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=on_exit)), node]


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Start RViz with the cameras of this launch, if `rviz` is set. Without RViz, log that it is missing."""
    given = context.launch_configurations
    if not is_true(given["rviz"]):
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        launch.logging.get_logger("rviz").warning(
            "expected rviz2 to be installed for rviz:=true, found none; install the package ros-$ROS_DISTRO-rviz2; "
            "the node runs without it"
        )
        return []
    template = Path(get_package_share_directory(PACKAGE), "config", "perception.rviz")
    parameters = node_parameters(given)
    params_file = Path(given["params_file"]).expanduser().read_text(encoding="utf-8")
    cameras = cameras_to_show(parameters, params_file)
    # Beside the log of this launch, where it can be looked at later and is removed with the logs.
    node = node_of(given)
    view = Path(launch.logging.launch_config.log_dir, f"{node.strip('/').replace('/', '.')}.rviz")
    view.write_text(rviz_view(template.read_text(encoding="utf-8"), node, cameras))
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name=f"{base_name(given['name'])}_view",
        arguments=["--display-config", str(view)],
        parameters=[{"use_sim_time": parameters.get("use_sim_time", False)}],
        output="screen",
    )
    return [RegisterEventHandler(OnProcessExit(target_action=rviz, on_exit=report_failure)), rviz]


def _argument(name: str, description: str, default: Any = "", choices: tuple[str, ...] = ()) -> DeclareLaunchArgument:
    if choices:
        return DeclareLaunchArgument(name, default_value=default, description=description, choices=list(choices))
    return DeclareLaunchArgument(name, default_value=default, description=description)
