"""Run a drive live: node, recorder and player as three processes on a ROS 2 graph of their own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError
from ros_kd_perception.bags.traffic_log import read_traffic
from ros_kd_perception.demo.logged_process import ChildProcess
from ros_kd_perception.demo.shared_memory import write_profile
from ros_kd_perception.parameters.camera_names import COMPRESSED_IMAGE
from ros_kd_perception.system.ros_environment import isolated_environment
from ros_kd_perception.system.shipped_files import shipped_file

NODE_NAME = "/perception"
START_LIMIT_S = 60.0
"""Limit for configuring and activating the node. Opening a model is slow on a busy machine, or if an engine is built.
"""

DIAGNOSTICS_LIMIT_S = 10.0

URGENCY = 10
"""How much the niceness is lowered if the user may do so. On a vehicle, perception also runs before work that can wait.
With six other jobs on two cores, 75 % of the frames are perceived with it and 20 to 27 % without."""


@dataclass(frozen=True)
class LivePlan:
    """The drive to play, and how to run the node.

    Attributes:
        bag: The drive.
        cameras: Topic in the bag of each camera.
        message_types: Message type of each topic.
        images: Number of images that will be played.
        duration_s: Seconds of the bag to play; 0 plays all.
        model: The student.
        model_notes: Sentences on why this student runs, and on its speed, if there are any.
        device: Value of the node's parameter.
        require_gpu: Value of the node's parameter.
        intra_op_threads: Value of the node's parameter.
        segment_bytes: Size of the shared memory segment of each of the three processes.
    """

    bag: Path
    cameras: Mapping[str, str]
    message_types: Mapping[str, str]
    images: int
    duration_s: float
    model: Path
    device: str
    require_gpu: bool
    intra_op_threads: int
    segment_bytes: int
    model_notes: Sequence[str] = ()


@dataclass(frozen=True)
class LiveFiles:
    """Paths of the files that a live drive writes: results and logs."""

    folder: Path

    @property
    def recording(self) -> Path:
        """Bag with the messages of the node."""
        return self.folder / "perception.mcap"

    @property
    def sent(self) -> Path:
        """Traffic log of the player."""
        return self.folder / "sent.csv"

    @property
    def received(self) -> Path:
        """Traffic log of the recorder."""
        return self.folder / "received.csv"

    @property
    def fastdds_profile(self) -> Path:
        """Fast DDS settings of all processes."""
        return self.folder / "fastdds.xml"

    def log(self, name: str) -> Path:
        """Return the path of the log of a process."""
        return self.folder / f"{name}.log"


def run_live_drive(plan: LivePlan, files: LiveFiles) -> None:
    """Start the node and the recorder, play the bag, wait for the last results, and stop all processes.

    Raises:
        ChildFailed: A process failed or was not ready in time.
        BagError: The player cannot read the bag to its end.
    """
    profile = write_profile(shipped_file("config/fastdds_large_images.xml"), files.fastdds_profile, plan.segment_bytes)
    environment = isolated_environment(os.environ, profile, files.folder / "ros_logs")
    with ExitStack() as stack:

        def start(name: str, command: Sequence[str]) -> ChildProcess:
            return stack.enter_context(ChildProcess(name, command, environment, files.log(name), URGENCY))

        node = start("node", _node_command(plan, files))
        recorder = start("recorder", _recorder_command(plan, files))
        node.wait_for(lambda: _is_active(node), "it was active", START_LIMIT_S)
        recorder.wait_for_line("every topic has a publisher", START_LIMIT_S)
        player = start("player", _player_command(plan, files))
        _follow(player, [node, recorder], files, plan.images)
        ended_ns = time.monotonic_ns()
        recorder.wait_for(
            lambda: _diagnostics_since(files.received, ended_ns) >= 2,
            "the node's last diagnostics",
            DIAGNOSTICS_LIMIT_S,
        )
        for process in (recorder, node):
            if process.stop():
                raise process.failure(f"ended with exit status {process.exit_status}")


def _node_command(plan: LivePlan, files: LiveFiles) -> list[str]:
    compressed = {c for c, topic in plan.cameras.items() if plan.message_types[topic] == COMPRESSED_IMAGE}
    parameters = {
        "use_sim_time": True,
        "autostart": True,
        "model": str(plan.model.resolve()),
        "device": plan.device,
        "require_gpu": plan.require_gpu,
        "intra_op_threads": plan.intra_op_threads,
        "cameras": list(plan.cameras),
        **{camera: {"image_transport": "compressed"} for camera in sorted(compressed)},
    }
    # JSON quotes any character of a path so that YAML reads it back.
    parameter_file = files.folder / "node_parameters.yaml"
    parameter_file.write_text(json.dumps({"/**": {"ros__parameters": parameters}}, allow_nan=False), encoding="utf-8")
    command = [*_module("perception_node"), "--ros-args", "--params-file", str(parameter_file)]
    for camera, topic in plan.cameras.items():
        expected = f"{camera}/image_raw/compressed" if camera in compressed else f"{camera}/image_raw"
        command += ["--remap", f"{expected}:={topic}"]
    return command


def _recorder_command(plan: LivePlan, files: LiveFiles) -> list[str]:
    command = [*_module("record_perception"), "--output", str(files.recording), "--perception", NODE_NAME]
    command += ["--traffic-log", str(files.received), "--cameras", *plan.cameras]
    return [*command, "--ros-args", "--param", "use_sim_time:=true"]


def _player_command(plan: LivePlan, files: LiveFiles) -> list[str]:
    command = [*_module("play_bag"), str(plan.bag), "--traffic-log", str(files.sent)]
    command += ["--duration", f"{plan.duration_s:g}", "--wait-for-subscribers", f"{START_LIMIT_S:g}"]
    for camera, topic in plan.cameras.items():
        command += ["--camera", f"{camera}={topic}"]
    return command


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"ros_kd_perception.ros.{name}"]


def _is_active(node: ChildProcess) -> bool:
    log = node.tail()
    if "]: cannot configure" in log or "]: cannot activate" in log:
        raise node.failure("refused to start")
    return "]: active" in log


def _follow(player: ChildProcess, others: Sequence[ChildProcess], files: LiveFiles, images: int) -> None:
    """Show a progress bar until the player ends. Fail as soon as another process ends."""
    with tqdm(total=images, unit="frame", desc="playing in real time", leave=False, disable=None) as bar:
        while player.exit_status is None:
            for other in others:
                if other.exit_status is not None:
                    raise other.failure(f"ended with exit status {other.exit_status} during the drive")
            if files.sent.exists():
                bar.update(max(0, files.sent.read_bytes().count(b"\n") - 1 - bar.n))
            time.sleep(0.2)
    if player.exit_status == 2:
        raise BagError(player.tail(1).removeprefix("play_bag: "))
    if player.exit_status:
        raise player.failure(f"ended with exit status {player.exit_status}")


def _diagnostics_since(received: Path, since_ns: int) -> int:
    return sum(entry.kind == "diagnostics" and entry.steady_ns > since_ns for entry in read_traffic(received))
