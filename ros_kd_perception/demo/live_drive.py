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
"""For configuring and activating the node: opening a model is slow where a busy machine or a GPU builds engines."""

DIAGNOSTICS_LIMIT_S = 10.0

URGENCY = 10
"""On a vehicle perception has the processor before anything that can wait, and so it has here where the user is root.
With six other jobs on two cores 75 % of the frames are perceived with it, 20 to 27 % without."""


@dataclass(frozen=True)
class LivePlan:
    """What is to be driven.

    Attributes:
        bag: the drive.
        cameras: camera name -> its topic in the bag.
        message_types: topic -> message type.
        images: how many images will be played.
        duration_s: seconds of the bag to play, 0 for all.
        model: the student.
        device: for the node's parameter of that name.
        require_gpu: for the node's parameter of that name.
        intra_op_threads: for the node's parameter of that name.
        segment_bytes: of the shared memory that each of the three processes sends its messages in.
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


@dataclass(frozen=True)
class LiveFiles:
    """Where a live drive leaves what came of it, and its logs."""

    folder: Path

    @property
    def recording(self) -> Path:
        """Bag of what the node published."""
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
        """What a process printed."""
        return self.folder / f"{name}.log"


def run_live_drive(plan: LivePlan, files: LiveFiles) -> None:
    """Start the node and the recorder, play the bag, wait for the last results, end everything.

    Raises:
        ChildFailed: a process failed or was not ready in time.
        BagError: the player cannot read the bag to its end.
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
    # Whatever stands in a path, JSON quotes it so that YAML reads it back.
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
    """Show a progress bar until the player ends, as long as the others live."""
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
