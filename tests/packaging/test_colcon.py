"""Build the package with colcon as a vehicle does, with and without links to the sources, and run what it installs."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from checkout import ROOT, copy_checkout

from ros_kd_perception.system.ros_environment import free_domain_id
from ros_kd_perception.system.shipped_files import SHIPPED_INT8_STUDENT, SHIPPED_STUDENT

PACKAGE = "ros_kd_perception"
SHARE = ("package.xml", "launch/perception.launch.py", "launch/replay.launch.py", "config/perception.yaml",
         "config/fastdds_large_images.xml")  # fmt: skip
# Variables of a test run that would hide a build that does not work alone.
INHERITED = ("PYTHONPATH", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH", "CMAKE_PREFIX_PATH")


@pytest.fixture(scope="module", params=[(), ("--symlink-install",)], ids=["plain", "symlink-install"])
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colcon workspace with the package built."""
    workspace = tmp_path_factory.mktemp("workspace")
    copy_checkout(workspace / "src" / PACKAGE)
    # A vehicle sources /opt/ros/...; here the prefix of the ROS wheels takes its place.
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    environment["AMENT_PREFIX_PATH"] = sys.prefix
    environment["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "colcon", "build", *request.param]
    outcome = subprocess.run(
        command, cwd=workspace, env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return workspace


@pytest.fixture(scope="module")
def sourced(workspace: Path) -> dict[str, str]:
    """The environment of a shell that has sourced the workspace."""
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    environment |= {"AMENT_PREFIX_PATH": sys.prefix, "ROS_LOG_DIR": str(workspace / "ros_log")}
    environment["ROS_DOMAIN_ID"] = str(free_domain_id())
    outcome = subprocess.run(
        ["bash", "-c", "source install/local_setup.bash && env -0"],
        cwd=workspace, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return dict(line.split("=", 1) for line in outcome.stdout.split("\0") if line)


def run(environment: dict[str, str], *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout, because its folder would be importable."""
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=60)


def executable(workspace: Path, name: str) -> Path:
    """Return the path at which `ros2 run` and `ros2 launch` look for an executable."""
    return workspace / "install" / PACKAGE / "lib" / PACKAGE / name


def test_share_files(workspace: Path, sourced: dict[str, str]) -> None:
    code = f"from ament_index_python.packages import get_package_share_directory as f; print(f('{PACKAGE}'))"
    outcome = run(sourced, sys.executable, "-c", code)

    share = Path(outcome.stdout.strip())
    assert share == workspace / "install" / PACKAGE / "share" / PACKAGE, outcome.stderr
    models = [name for name in (SHIPPED_STUDENT, SHIPPED_INT8_STUDENT, "models/README.md") if (ROOT / name).is_file()]
    for name in (*SHARE, *models):
        assert (share / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "check_vehicle",
        "compare_bags",
        "compare_replay",
        "demo",
        "describe_model",
        "model_signature",
        "play_bag",
        "record_perception",
        "render_drive",
        "replay_bag",
    ],
)
def test_command_runs(workspace: Path, sourced: dict[str, str], name: str) -> None:
    outcome = run(sourced, executable(workspace, name), "--help")

    assert outcome.returncode == 0, outcome.stderr
    assert "usage" in outcome.stdout.lower()


@pytest.mark.graph
def test_node_runs_until_it_is_interrupted(workspace: Path, sourced: dict[str, str]) -> None:
    parameters = ("--ros-args", "-p", "autostart:=true", "-p", "model:=/no/such/student.onnx")
    node = subprocess.Popen(
        [executable(workspace, "perception_node"), *parameters],
        cwd="/", env=sourced, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with node:
        assert node.stderr is not None
        watchdog = threading.Timer(60, node.kill)
        watchdog.start()
        printed = next((line for line in node.stderr if "/no/such/student.onnx" in line), "")
        node.send_signal(signal.SIGINT)
        rest = node.communicate()[1]
        watchdog.cancel()

    assert "cannot configure" in printed
    assert node.returncode == 0, rest


def test_code_and_definitions_come_from_the_workspace(workspace: Path, sourced: dict[str, str]) -> None:
    code = (
        "import ros_kd_perception, importlib.resources as r;"
        "print(ros_kd_perception.__file__);"
        "print(len(list((r.files('ros_kd_perception') / 'interfaces' / 'vision_msgs').iterdir())))"
    )
    outcome = run(sourced, sys.executable, "-c", code)

    assert outcome.returncode == 0, outcome.stderr
    module, definitions = outcome.stdout.split()
    assert Path(module).is_relative_to(workspace)
    assert int(definitions) == len(list((ROOT / PACKAGE / "interfaces" / "vision_msgs").glob("*.msg")))


def test_training_is_not_installed(sourced: dict[str, str]) -> None:
    outcome = run(sourced, sys.executable, "-c", "import training")

    assert "No module named 'training'" in outcome.stderr
