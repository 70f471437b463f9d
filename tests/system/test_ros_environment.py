from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ros_kd_perception.system import ros_environment
from ros_kd_perception.system.ros_environment import free_domain_id, isolated_environment

SOURCED = {
    "HOME": "/home/somebody",
    "PATH": "/usr/bin",
    "PYTHONPATH": "/opt/ros/humble/lib/python3.10/site-packages",
    "LD_LIBRARY_PATH": "/opt/ros/humble/lib",
    "AMENT_PREFIX_PATH": "/opt/ros/humble",
    "CMAKE_PREFIX_PATH": "/opt/ros/humble",
    "COLCON_PREFIX_PATH": "/ws/install",
    "ROS_DISTRO": "humble",
    "ROS_DOMAIN_ID": "42",
    "ROS_LOCALHOST_ONLY": "0",
    "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
    "CYCLONEDDS_URI": "file:///cyclone.xml",
    "FASTRTPS_DEFAULT_PROFILES_FILE": "/other.xml",
    "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
}
PICK = """
import sys
from ros_kd_perception.system.ros_environment import free_domain_id
print(free_domain_id(), flush=True)
sys.stdin.read()
"""


def test_variables_of_a_sourced_ros_are_removed(tmp_path: Path) -> None:
    environment = isolated_environment(SOURCED, tmp_path / "profile.xml", tmp_path / "log")
    assert environment["HOME"] == "/home/somebody"
    assert not any("/opt/ros" in value or "/ws/" in value or "other.xml" in value for value in environment.values())
    assert environment["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["ROS_DOMAIN_ID"] in {str(i) for i in ros_environment.DOMAIN_IDS}
    assert str(tmp_path / "profile.xml") in environment.values()
    assert "FASTDDS_BUILTIN_TRANSPORTS" not in environment  # loses images together with LOCALHOST
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in environment  # with it, the wheels would not set their paths


def test_without_ros_wheels_a_sourced_ros_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_environment.sysconfig, "get_path", lambda _: str(tmp_path))
    environment = isolated_environment(SOURCED, tmp_path / "profile.xml", tmp_path / "log")
    assert environment["AMENT_PREFIX_PATH"] == "/opt/ros/humble"
    assert environment["PYTHONPATH"] == SOURCED["PYTHONPATH"]


@pytest.mark.skipif(sys.platform != "linux", reason="binds the ports that DDS uses on Linux")
def test_a_domain_in_use_is_not_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_domain_id()
    monkeypatch.setattr(ros_environment, "DOMAIN_IDS", range(first, first + 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", 7410 + 250 * first))
        with pytest.raises(OSError, match="free ROS_DOMAIN_ID"):
            free_domain_id()


@pytest.mark.skipif(sys.platform != "linux", reason="binds the ports that DDS uses on Linux")
def test_a_domain_that_another_process_has_picked_is_not_picked_before_that_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen([sys.executable, "-c", PICK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        picked = int(other.stdout.readline())
        monkeypatch.setattr(ros_environment, "DOMAIN_IDS", range(picked, picked + 1))
        with pytest.raises(OSError, match="free ROS_DOMAIN_ID"):
            free_domain_id()
        other.communicate()
    assert free_domain_id() == picked
    assert free_domain_id() == picked, "the next pick of a process gives up the one before"
