"""Play the cameras of a bag to the perception node, which takes its time from the bag.

    ros2 launch ros_kd_perception replay.launch.py bag:=/data/drive.mcap

The cameras are those of the bag. `cameras:='[front]'` chooses some of them, and
`camera_topics:='{front: /front_camera/image_raw}'` names topics and cameras explicitly.
With `record:=results.mcap` the node's results are recorded, with the times of the bag. The arguments of
perception.launch.py are accepted, too; `rviz:=true` shows the results. Everything ends with the bag unless `loop` or
`keep_running` is set.

`ros2 launch` ends with status 0 if every process ended well, at the end of the bag or after Ctrl-C. It ends with 1 if a
process failed; an error names the process and its exit status. The launch system has no other status.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml
from launch import Action, LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from ros_kd_perception.parameters.launch_arguments import (
    camera_topics,
    cameras_of_bag,
    check_names,
    is_true,
    node_of,
    seconds,
)
from ros_kd_perception.system.fastdds_settings import PROFILE_VARIABLE
from ros_kd_perception.system.launch_exit_status import report_early_end, report_failure

FLAG = ["true", "false", "True", "False"]
# Time for the node to perceive the last frames of a bag.
LAST_FRAMES_S = 2.0
RECORDER_IS_READY = b"recording: every topic has a publisher"


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments, the node, and the player, which starts when the cameras are known."""
    perception = Path(__file__).with_name("perception.launch.py")
    description = LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="a .mcap or .db3 file, or a rosbag2 folder"),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed, 1 is that of the recording"),
            DeclareLaunchArgument("loop", default_value="false", choices=FLAG, description="start over at the end"),
            DeclareLaunchArgument(
                "keep_running", default_value="false", choices=FLAG, description="leave the node running at the end"
            ),
            DeclareLaunchArgument(
                "wait_for_node_s", default_value="60.0", description="how long the bag waits for the node to subscribe"
            ),
            DeclareLaunchArgument(
                "camera_topics", default_value="", description="the topic of each camera; found in the bag if empty"
            ),
            DeclareLaunchArgument(
                "record",
                default_value="",
                description="bag to write the node's results to, a .mcap file; none if empty",
            ),
            DeclareLaunchArgument("use_sim_time", default_value="true", choices=FLAG, description="follow the bag"),
            OpaqueFunction(function=find_cameras),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(perception))),
            OpaqueFunction(function=start_recorder_and_player),
        ]
    )
    # The first action, because later ones add to the arguments.
    description.entities.insert(0, OpaqueFunction(function=refuse_unknown_arguments, args=[description]))
    return description


def refuse_unknown_arguments(context: LaunchContext, description: LaunchDescription) -> None:
    """Refuse arguments that neither this file nor perception.launch.py declares, if this is the one that was started.

    Raises:
        LaunchArgumentError: There are such arguments.
    """
    known = [argument.name for argument in description.get_launch_arguments()]
    check_names(context.launch_configurations, known, Path(__file__), sys.argv)


def find_cameras(context: LaunchContext) -> None:
    """Set camera_topics, and image_transport unless it is given, from the topics of the bag that `cameras` chooses.

    The player lists the topics. It runs in the environment that has rosbags, which the launch system's may not have.

    Raises:
        RuntimeError: The bag does not exist, is damaged, or does not have the cameras of camera_topics.
        LaunchArgumentError: The bag does not have one of `cameras`.
    """
    given = context.launch_configurations
    player = ExecutableInPackage(package="ros_kd_perception", executable="play_bag").perform(context)
    chosen = _chosen(camera_topics(given["camera_topics"]))
    listing = subprocess.run(
        [player, str(Path(given["bag"]).expanduser()), *chosen, "--list-cameras"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        raise RuntimeError(
            listing.stderr.strip().removeprefix("play_bag: ") or f"{player} ended with {listing.returncode}"
        )
    found = json.loads(listing.stdout)
    cameras = {camera: found[camera] for camera in cameras_of_bag(given.get("cameras", ""), found)}
    given["camera_topics"] = yaml.safe_dump({camera: one["topic"] for camera, one in cameras.items()})
    transports = {camera: one["transport"] for camera, one in cameras.items()}
    given.setdefault("image_transport", yaml.safe_dump(transports))


def start_recorder_and_player(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Start the player, after the recorder if there is one: it must be connected before the first results."""
    given = context.launch_configurations
    ending = Ending()
    player = _player(context)
    at_end = [] if is_true(given["keep_running"]) else [ending.after(LAST_FRAMES_S, "the bag has ended")]
    play: list[LaunchDescriptionEntity] = [_on_exit(player, report_failure, at_end), player]
    if given["record"]:
        play = _record_and_play(context, ending, play)
    if is_true(given["respawn"]):
        return play
    return [_on_exit(_is_perception_node, report_early_end, [ending.now("the node has ended")]), *play]


def _record_and_play(
    context: LaunchContext, ending: Ending, play: list[LaunchDescriptionEntity]
) -> list[LaunchDescriptionEntity]:
    recorder = _recorder(context)

    def play_once(*_: object) -> list[LaunchDescriptionEntity]:
        actions, play[:] = list(play), []
        return actions

    def listen(output: ProcessIO) -> list[LaunchDescriptionEntity]:
        return play_once() if RECORDER_IS_READY in output.text else []

    wait_s = seconds("wait_for_node_s", context.launch_configurations["wait_for_node_s"])
    return [
        _on_exit(recorder, report_failure, [ending.now("the recording has ended")]),
        RegisterEventHandler(OnProcessIO(target_action=recorder, on_stdout=listen)),
        recorder,
        # Start the player in any case: it reports a node that does not come up.
        TimerAction(period=wait_s, actions=[OpaqueFunction(function=play_once)]),
    ]


class Ending:
    """Shuts everything down once. launch_ros raises an exception at a second Shutdown event."""

    def __init__(self) -> None:
        self._begun = False

    def now(self, reason: str) -> OpaqueFunction:
        """Make an action that shuts everything down, unless a shutdown has started."""
        return OpaqueFunction(function=self._begin, args=[reason])

    def after(self, delay_s: float, reason: str) -> TimerAction:
        """Make an action that shuts everything down after a delay, unless a shutdown has started."""
        return TimerAction(period=delay_s, actions=[self.now(reason)])

    def _begin(self, context: LaunchContext, reason: str) -> list[LaunchDescriptionEntity]:
        if self._begun or context.is_shutdown:
            return []
        self._begun = True
        return [EmitEvent(event=Shutdown(reason=reason))]


def _on_exit(
    process: Action | Callable[[Action], bool],
    report: Callable[[ProcessExited, LaunchContext], None],
    actions: Sequence[LaunchDescriptionEntity],
) -> RegisterEventHandler:
    """Report how a process ended, then run the actions, unless a shutdown has started."""

    def handle(exited: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        report(exited, context)
        return [] if context.is_shutdown else list(actions)

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=handle))


def _is_perception_node(process: Action) -> bool:
    return isinstance(process, Node) and process.node_executable == "perception_node"


def _player(context: LaunchContext) -> Node:
    """Make the player, with the Fast DDS settings for large images."""
    given = context.launch_configurations
    chosen = _chosen(camera_topics(given["camera_topics"]))
    options = ["--rate", given["rate"], "--wait-for-subscribers", given["wait_for_node_s"]]
    return Node(
        package="ros_kd_perception",
        executable="play_bag",
        arguments=[
            str(Path(given["bag"]).expanduser()),
            *chosen,
            *options,
            *(["--loop"] if is_true(given["loop"]) else []),
        ],
        additional_env={PROFILE_VARIABLE: given["fastdds_profile"]},
        output="screen",
        emulate_tty=True,
    )


def _chosen(topics: Mapping[str, str]) -> list[str]:
    return [part for camera, topic in topics.items() for part in ("--camera", f"{camera}={topic}")]


def _recorder(context: LaunchContext) -> Node:
    given = context.launch_configurations
    return Node(
        package="ros_kd_perception",
        executable="record_perception",
        arguments=[
            "--output",
            str(Path(given["record"]).expanduser()),
            "--perception",
            node_of(given),
            "--cameras",
            *camera_topics(given["camera_topics"]),
        ],
        parameters=[{"use_sim_time": is_true(given["use_sim_time"])}],
        additional_env={PROFILE_VARIABLE: given["fastdds_profile"]},
        output="screen",
    )
