"""The launch files under the real launch system, if one is installed. It is not on PyPI."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import ROOT, copy_checkout
from lifecycle_msgs.srv import GetState
from ros_graph import Peer, camera_picture, compressed_message, image_message
from sensor_msgs.msg import CompressedImage, Image
from small_bag import START_NS, write_small_bag

from ros_kd_perception.bags.reader import BagReader
from ros_kd_perception.system.fastdds_settings import PROFILE_VARIABLE
from ros_kd_perception.system.shipped_files import FASTDDS_PROFILE

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="NOT RUN: the launch system is not on PyPI; put launch and launch_ros of a ROS install on PYTHONPATH",
)
TIMEOUT_S = 120.0
RUN_LAUNCH_FILE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [argument.split(":=", 1) for argument in sys.argv[2:]]
service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colcon workspace, because the launch system finds packages only there."""
    workspace = tmp_path_factory.mktemp("workspace")
    copy_checkout(workspace / "src" / "ros_kd_perception")
    environment = os.environ | {"AMENT_PREFIX_PATH": sys.prefix}
    command = [sys.executable, "-m", "colcon", "build"]
    subprocess.run(command, cwd=workspace, env=environment, check=True, capture_output=True, timeout=300)
    return workspace


class Launched:
    """Runs a launch file and keeps the output of all its processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def output(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until the output has this many matches of a pattern, and return them."""
        with self._changed:
            enough = self._changed.wait_for(
                lambda: len(re.findall(pattern, "".join(self._lines))) >= times, timeout=TIMEOUT_S
            )
            assert enough, f"waited {TIMEOUT_S} s in vain for {pattern} in:\n{''.join(self._lines)}"
            return re.findall(pattern, "".join(self._lines))

    def interrupt(self) -> int:
        """Send SIGINT, as Ctrl-C does, and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.until_end()

    def until_end(self) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(TIMEOUT_S)
        self._thread.join(TIMEOUT_S)
        return status

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()


@contextmanager
def launched(
    workspace: Path, environment: dict[str, str], launch_file: str, *arguments: str, prefixes: Sequence[Path] = ()
) -> Iterator[Launched]:
    found_in = [str(workspace / "install" / "ros_kd_perception"), sys.prefix, *map(str, prefixes)]
    own = {"AMENT_PREFIX_PATH": os.pathsep.join(found_in), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    # Without a profile, so that the processes must choose one.
    inherited = {name: value for name, value in environment.items() if name != "FASTDDS_DEFAULT_PROFILES_FILE"}
    command = [sys.executable, "-c", RUN_LAUNCH_FILE, str(ROOT / "launch" / launch_file), *arguments]
    process = subprocess.Popen(
        command,
        env=inherited | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    running = Launched(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def test_a_killed_node_is_relaunched_with_its_names_topics_and_transports(
    workspace: Path, environment: dict[str, str], peer: Peer, tiny_student: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "namespace:=robot", "respawn:=true", "camera_topics:={front: /cam0/image, left: cam1/jpeg}",
        "image_transport:={left: compressed}", f"model:={tiny_student}", "device:=cpu", "use_sim_time:=true",
    )  # fmt: skip
    masks: dict[str, list[Image]] = {"front": [], "left": []}
    for camera, received in masks.items():
        peer.node.create_subscription(Image, f"/robot/perception/{camera}/segmentation", received.append, 10)
    raw = peer.publisher(Image, "/cam0/image")
    jpeg = peer.publisher(CompressedImage, "/robot/cam1/jpeg")
    stamp_ns = START_NS

    def publish_until_both_see() -> None:
        nonlocal stamp_ns
        for received in masks.values():
            received.clear()
        deadline_s = time.monotonic() + TIMEOUT_S
        while not all(masks.values()):
            assert time.monotonic() < deadline_s, f"no results: {node.output}"
            stamp_ns += 1
            raw.publish(image_message(camera_picture(), stamp_ns))
            jpeg.publish(compressed_message(camera_picture(), stamp_ns, ".jpg"))
            peer.spin_for(0.05)

    with launched(workspace, environment, "perception.launch.py", *arguments) as node:
        [first_pid] = node.wait_for(r"process started with pid \[(\d+)\]")
        publish_until_both_see()
        node.wait_for(r"FASTDDS_DEFAULT_PROFILES_FILE=\S+/fastdds_large_images.xml")
        killed_s = time.monotonic()
        os.kill(int(first_pid), signal.SIGKILL)
        node.wait_for(r"process has died \[pid \d+, exit code -9")
        second_pid = node.wait_for(r"process started with pid \[(\d+)\]", times=2)[1]
        publish_until_both_see()
        with capfd.disabled():
            print(f"\n  first results {time.monotonic() - killed_s:.2f} s after SIGKILL, 2 s of them the respawn delay")
        assert second_pid != first_pid
        answer = peer.call(GetState, "/robot/perception/get_state", GetState.Request())
        assert answer.current_state.label == "active"
        assert node.interrupt() == 0, node.output
    assert "process has finished cleanly" in node.output


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_replay_plays_the_cameras_of_a_bag_records_the_results_and_ends(
    compressed: bool, workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=16, rate_hz=2, compressed=compressed)
    output = tmp_path / "results.mcap"
    record = (f"record:={output}", "namespace:=robot") if compressed else ()

    with launched(
        workspace, environment, "replay.launch.py", f"bag:={bag}", f"model:={tiny_student}", *record
    ) as replay:
        status = replay.until_end()

    assert status == 0, replay.output
    assert "ERROR" not in replay.output
    assert "perception]: active" in replay.output
    assert "played 32 images" in replay.output
    assert replay.output.count("process has finished cleanly") == (3 if record else 2), replay.output
    if record:
        with BagReader(output, {"front": "/robot/perception/front/segmentation"}) as results:
            counts = {topic.name.removeprefix("/robot/perception/"): topic.count for topic in results.topics}
            assert counts["front/segmentation"] == counts["front/detections"] > 0
            assert counts["left/segmentation/label_info"] == 1
            # Times of the bag's clock, not of the system clock.
            assert START_NS - 10**9 < results.first_image_ns <= results.last_image_ns < START_NS + 60 * 10**9


def test_an_interrupted_replay_completes_its_recording_and_ends_with_status_0(
    workspace: Path, environment: dict[str, str], peer: Peer, tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", cameras=["front"], frames=4)
    output = tmp_path / "results.mcap"
    peer.listen_to_results("front")
    arguments = (f"bag:={bag}", f"model:={tiny_student}", f"record:={output}", "loop:=true")

    with launched(workspace, environment, "replay.launch.py", *arguments) as replay:
        replay.wait_for("playing front")
        peer.until(lambda: len(peer.results("front")) >= 5, "the node gives results", TIMEOUT_S)
        assert replay.interrupt() == 0, replay.output

    assert "Caught exception" not in replay.output
    with BagReader(output, {"front": "/perception/front/segmentation"}) as results:
        assert results.last_image_ns > results.first_image_ns


def test_a_recording_that_cannot_be_written_ends_the_replay(
    workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=4)
    taken = tmp_path / "results.mcap"
    taken.write_text("precious")

    with launched(
        workspace, environment, "replay.launch.py", f"bag:={bag}", f"model:={tiny_student}", f"record:={taken}"
    ) as replay:
        status = replay.until_end()

    assert status == 1
    assert "record_perception-2 failed with status 2" in replay.output
    assert "Caught exception" not in replay.output
    assert "expected a free name for the new bag" in replay.output
    assert "played" not in replay.output
    assert taken.read_text() == "precious"


def test_a_node_that_dies_ends_the_replay(
    workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", cameras=["front"], frames=4)

    with launched(
        workspace, environment, "replay.launch.py", f"bag:={bag}", f"model:={tiny_student}", "loop:=true"
    ) as replay:
        [node_pid] = replay.wait_for(r"perception_node-1\]: process started with pid \[(\d+)\]")
        replay.wait_for("playing front")
        os.kill(int(node_pid), signal.SIGKILL)
        status = replay.until_end()

    assert status == 1
    assert "perception_node-1 failed with signal SIGKILL" in replay.output
    assert "Caught exception" not in replay.output


def test_a_replay_without_subscribers_fails_and_its_node_may_go_on(
    workspace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", cameras=["front"], frames=4)
    arguments = (f"bag:={bag}", f"model:={tmp_path / 'missing.onnx'}", "wait_for_node_s:=0.5", "keep_running:=true")

    with launched(workspace, environment, "replay.launch.py", *arguments) as replay:
        replay.wait_for("play_bag-2 failed with status 1")
        assert "[perception_node-1]: process has" not in replay.output
        assert replay.interrupt() == 1


def test_a_profile_in_the_environment_is_used_by_launch_files(
    workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", cameras=["front"], frames=4)
    profile = shutil.copy(ROOT / FASTDDS_PROFILE, tmp_path / "own.xml")
    arguments = (f"bag:={bag}", f"model:={tiny_student}")

    with launched(workspace, environment | {PROFILE_VARIABLE: profile}, "replay.launch.py", *arguments) as replay:
        assert replay.until_end() == 0, replay.output

    assert len(re.findall(rf"FASTDDS_DEFAULT_PROFILES_FILE={profile}", replay.output)) == 2, replay.output


def stand_in_for_rviz(prefix: Path) -> Path:
    """Install a package rviz2 whose executable prints its display configuration, and return its prefix."""
    marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / "rviz2"
    executable = prefix / "lib" / "rviz2" / "rviz2"
    for path in (marker, executable):
        path.parent.mkdir(parents=True)
    marker.touch()
    executable.write_text('#!/bin/bash\n[[ $1 == --display-config ]] && grep "Value: /" "$2"\nexec sleep 600\n')
    executable.chmod(0o755)
    return prefix


def test_rviz_shows_the_cameras_of_the_launch(
    workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", frames=4)
    rviz = stand_in_for_rviz(tmp_path / "rviz")
    arguments = (f"bag:={bag}", f"model:={tiny_student}", "rviz:=true", "namespace:=robot")

    with launched(workspace, environment, "replay.launch.py", *arguments, prefixes=[rviz]) as replay:
        replay.wait_for(r"\[rviz2-\d\] +Value: /robot/perception/front/overlay")
        replay.wait_for(r"\[rviz2-\d\] +Value: /robot/perception/left/overlay")
        assert replay.until_end() == 0, replay.output


def test_a_launch_file_of_the_guide_starts_two_nodes_of_one_vehicle(
    workspace: Path, environment: dict[str, str], peer: Peer, tmp_path: Path, tiny_student: Path
) -> None:
    guide = (ROOT / "docs" / "several_nodes.md").read_text(encoding="utf-8")
    [launch_file] = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    parameters = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)[0]
    (tmp_path / "bringup.launch.py").write_text(launch_file)
    (tmp_path / "vehicle.yaml").write_text(parameters.replace("/opt/models/rear.onnx", str(tiny_student)))
    masks: dict[str, list[Image]] = {"front": [], "rear": []}
    images = {}
    for camera, received in masks.items():
        topic = f"/car1/{camera}_perception/{camera}/segmentation"
        peer.node.create_subscription(Image, topic, received.append, 10)
        images[camera] = peer.publisher(Image, f"/{camera}_camera/image_raw")
    arguments = (f"params_file:={tmp_path}/vehicle.yaml", "camera_topic:=is_an_argument_of_the_outer_file")

    def publish_until_both_see() -> bool:
        for camera, publisher in images.items():
            publisher.publish(image_message(camera_picture(), time.time_ns(), camera))
        peer.spin_for(0.05)
        return all(masks.values())

    with launched(workspace, environment, str(tmp_path / "bringup.launch.py"), *arguments) as nodes:
        nodes.wait_for(r"_perception\]: active", times=2)
        peer.until(publish_until_both_see, "both nodes give results", TIMEOUT_S)
        assert {mask.header.frame_id for mask in masks["rear"]} == {"rear"}
        assert nodes.interrupt() == 0, nodes.output


INCLUDED_IN_A_NAMESPACE = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

def generate_launch_description():
    include = IncludeLaunchDescription(PythonLaunchDescriptionSource("{launch_file}"))
    return LaunchDescription([GroupAction([PushRosNamespace("car1"), include])])
"""


@pytest.mark.parametrize(("section", "is_its_own"), [("/car1/perception", True), ("/perception", False)])
def test_a_pushed_namespace_is_part_of_the_name_that_sections_are_for(
    section: str, is_its_own: bool, workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    (tmp_path / "vehicle.yaml").write_text(f"{section}: {{ros__parameters: {{model: {tiny_student}}}}}")
    launch_file = tmp_path / "bringup.launch.py"
    launch_file.write_text(INCLUDED_IN_A_NAMESPACE.format(launch_file=ROOT / "launch" / "perception.launch.py"))

    with launched(workspace, environment, str(launch_file), f"params_file:={tmp_path}/vehicle.yaml") as node:
        if is_its_own:
            node.wait_for(r"car1\.perception\]: active")
            assert node.interrupt() == 0, node.output
        else:
            assert node.until_end() == 1
            assert "for the node /car1/perception" in node.output


def test_a_replay_records_a_node_of_another_name(
    workspace: Path, environment: dict[str, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", cameras=["front"], frames=8, rate_hz=4)
    output = tmp_path / "results.mcap"
    arguments = (f"bag:={bag}", f"model:={tiny_student}", f"record:={output}", "name:=rear_perception", "namespace:=a")

    with launched(workspace, environment, "replay.launch.py", *arguments) as replay:
        assert replay.until_end() == 0, replay.output

    with BagReader(output, {"front": "/a/rear_perception/front/segmentation"}) as results:
        assert results.last_image_ns >= results.first_image_ns


def test_a_launch_without_rviz_says_so_and_runs_the_node(
    workspace: Path, environment: dict[str, str], tiny_student: Path
) -> None:
    with launched(workspace, environment, "perception.launch.py", f"model:={tiny_student}", "rviz:=true") as node:
        node.wait_for("expected rviz2 to be installed for rviz:=true, found none")
        node.wait_for(r"perception\]: active")
        assert node.interrupt() == 0, node.output


@pytest.mark.parametrize(
    ("launch_file", "argument", "why"),
    [
        ("perception.launch.py", "params_file:={folder}/broken.yaml", "perception_node-1 failed with status 2"),
        ("perception.launch.py", "camera_topics:=front", "expected camera_topics like"),
        ("perception.launch.py", "rviz:=maybe", "rviz"),
        ("perception.launch.py", "camera_topic:={{}}", "did you mean camera_topics or cameras?"),
        ("perception.launch.py", "name:=front-perception", "expected name to be a letter or _"),
        ("perception.launch.py", "params_file:={folder}/other.yaml", "expected a section of"),
        ("perception.launch.py", "fastdds_profile:={folder}/missing.xml", "expected fastdds_profile to name a file"),
        ("replay.launch.py", "bag:={folder}/missing.mcap", "missing.mcap"),
        ("replay.launch.py", "bag:={folder}/missing.mcap devise:=cpu", "did you mean device?"),
    ],
)
def test_a_launch_that_cannot_start_fails(
    launch_file: str, argument: str, why: str, workspace: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_text("perception: {ros__parameters: [}")
    (tmp_path / "other.yaml").write_text("rear_perception: {ros__parameters: {cameras: [rear]}}")

    with launched(workspace, environment, launch_file, *argument.format(folder=tmp_path).split()) as start:
        assert start.until_end() == 1

    assert why in start.output
