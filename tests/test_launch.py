"""The launch files and what they hand to the node; run for real where the launch system is installed."""

import ast
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from checkout import ROOT, copy_checkout
from hypothesis import given
from hypothesis import strategies as st
from small_bag import write_small_bag
from tiny_student import write_tiny_student

from ros_kd_perception.launch_arguments import LaunchArgumentError, camera_topics, node_parameters, remappings
from ros_kd_perception.onnx_model import DEVICES
from ros_kd_perception.ros.node_parameters import PARAMETERS, problem_with
from ros_kd_perception.ros_environment import free_domain_id

LEFT_EMPTY = {
    "autostart": "true", "model": "", "cameras": "", "camera_topics": "", "image_transport": "", "device": "",
    "use_sim_time": "",
}  # fmt: skip
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def parameters(**arguments: str) -> dict[str, object]:
    return node_parameters(LEFT_EMPTY | arguments)


def test_arguments_left_empty_leave_the_parameter_file_alone() -> None:
    assert parameters() == {"autostart": True}


def test_given_arguments_become_parameters() -> None:
    topics = "{front: /front_camera/image_raw, left: /left_camera/jpeg}"

    result = parameters(
        autostart="False", model="models/student.onnx", camera_topics=topics, image_transport="{left: compressed}",
        device="cuda", use_sim_time="True",
    )  # fmt: skip

    assert result == {
        "autostart": False,
        "model": str(Path("models/student.onnx").absolute()),
        "cameras": ["front", "left"],
        "left.image_transport": "compressed",
        "device": "cuda",
        "use_sim_time": True,
    }


@pytest.mark.parametrize("cameras", ["[front, left]", "front, left", "front,left", '["front", "left"]'])
def test_cameras_in_any_common_spelling(cameras: str) -> None:
    assert parameters(cameras=cameras)["cameras"] == ["front", "left"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("camera_topics", "{front: }"),
        ("camera_topics", "front"),
        ("camera_topics", "{front: /a"),
        ("camera_topics", "{front camera: /a}"),
        ("cameras", "{front: 1}"),
        ("cameras", "[1, 2]"),
        ("cameras", "[front/raw]"),
        ("image_transport", "[raw]"),
        ("image_transport", "2026-99-99"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_one_sentence(name: str, text: str) -> None:
    with pytest.raises(LaunchArgumentError, match=r"^expected [^\n]*, got [^\n]*$"):
        parameters(**{name: text})


def test_topic_of_a_camera_that_is_not_named_is_refused() -> None:
    with pytest.raises(LaunchArgumentError, match="left"):
        parameters(cameras="[front]", camera_topics="{front: /a, left: /b}")


@given(st.text(max_size=40), st.sampled_from(["cameras", "camera_topics", "image_transport"]))
def test_any_text_is_read_or_refused(text: str, name: str) -> None:
    try:
        result = parameters(**{name: text})
    except LaunchArgumentError:
        return
    for camera in result.get("cameras", []):  # type: ignore[attr-defined]
        assert problem_with("cameras", [camera], PARAMETERS["cameras"]) is None


def test_both_inputs_of_a_camera_are_remapped() -> None:
    assert remappings(camera_topics("{front: /cam0/image}")) == [
        ("front/image_raw", "/cam0/image"),
        ("front/image_raw/compressed", "/cam0/image"),
    ]


def test_parameter_file_holds_every_parameter_with_its_default_and_one_comment() -> None:
    text = (ROOT / "config" / "perception.yaml").read_text(encoding="utf-8")
    loaded = yaml.safe_load(text)

    assert loaded == {"/**": {"ros__parameters": {name: row.default for name, row in PARAMETERS.items()}}}
    for name in PARAMETERS:
        assert re.search(rf"\n    # [^\n]+\n    {name}:", text), f"{name} has no comment"
        assert ("Read-only." in text.split(f"\n    {name}:")[0].rsplit("\n", 1)[-1]) == PARAMETERS[name].read_only


def test_fastdds_profile_gives_large_images_room() -> None:
    root = ElementTree.parse(ROOT / "config" / "fastdds_large_images.xml").getroot()
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    transports = {item.findtext("transport_id"): item for item in root.iter("transport_descriptor")}
    participant = root.find("participant")

    assert participant is not None
    assert participant.get("is_default_profile") == "true"
    assert participant.findtext("rtps/useBuiltinTransports") == "false"
    used = {item.text for item in participant.findall("rtps/userTransports/transport_id")}
    assert used == set(transports)
    sizes = {item.findtext("type"): item.findtext("segment_size") for item in transports.values()}
    assert int(sizes["SHM"] or 0) >= 4 * 1920 * 1080 * 3
    assert "UDPv4" in sizes


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_start_executables_that_are_installed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "executable"]
    installed = (ROOT / "setup.py").read_text(encoding="utf-8")

    assert keywords
    for keyword in keywords:
        assert f'"{ast.literal_eval(keyword.value)} = ' in installed
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEVICES":
            assert ast.literal_eval(node.value) == DEVICES


needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="NOT RUN: the launch system is not on PyPI; put launch and launch_ros of a ROS install on PYTHONPATH",
)
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
    """A colcon workspace, for the launch system finds packages nowhere else."""
    workspace = tmp_path_factory.mktemp("workspace")
    copy_checkout(workspace / "src" / "ros_kd_perception")
    environment = os.environ | {"AMENT_PREFIX_PATH": sys.prefix}
    command = [sys.executable, "-m", "colcon", "build"]
    subprocess.run(command, cwd=workspace, env=environment, check=True, capture_output=True, timeout=180)
    return workspace


def launch_until(workspace: Path, awaited: str, launch_file: str, *arguments: str) -> str:
    """Run a launch file, interrupt it once it says what is awaited, and return all it said."""
    environment = os.environ | {
        "AMENT_PREFIX_PATH": os.pathsep.join([str(workspace / "install" / "ros_kd_perception"), sys.prefix]),
        "ROS_LOG_DIR": str(workspace / "ros_log"),
        "ROS_DOMAIN_ID": str(free_domain_id()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-c", RUN_LAUNCH_FILE, str(ROOT / "launch" / launch_file), *arguments]
    launch = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    with launch:
        assert launch.stdout is not None
        watchdog = threading.Timer(90, os.killpg, (launch.pid, signal.SIGKILL))
        watchdog.start()
        said = []
        for line in launch.stdout:
            said.append(line)
            if awaited in line:
                launch.send_signal(signal.SIGINT)
        watchdog.cancel()
    return "".join(said)


@needs_launch
def test_perception_launch_brings_the_node_to_active(workspace: Path, tmp_path: Path) -> None:
    model = write_tiny_student(tmp_path / "tiny.onnx")

    said = launch_until(
        workspace, "[perception]: active", "perception.launch.py", f"model:={model}", "cameras:=[front, left]"
    )

    assert "for front, left" in said
    assert "[perception]: active" in said
    assert "process has finished cleanly" in said


@needs_launch
@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_replay_launch_plays_the_cameras_of_a_bag_and_ends(compressed: bool, workspace: Path, tmp_path: Path) -> None:
    model = write_tiny_student(tmp_path / "tiny.onnx")
    bag = write_small_bag(tmp_path / "drive.mcap", frames=4, compressed=compressed)

    said = launch_until(workspace, "never said", "replay.launch.py", f"bag:={bag}", f"model:={model}")

    assert "[perception]: active" in said
    assert "played 8 images" in said
    assert said.count("process has finished cleanly") == 2
