from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from ros_kd_perception import ros_environment
from ros_kd_perception.ros_environment import (
    PROFILE_VARIABLE,
    free_domain_id,
    give_large_images_room,
    isolated_environment,
)

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


def test_nothing_of_a_sourced_ros_gets_through(tmp_path: Path) -> None:
    environment = isolated_environment(SOURCED, tmp_path / "profile.xml", tmp_path / "log")
    assert environment["HOME"] == "/home/somebody"
    assert not any("/opt/ros" in value or "/ws/" in value or "other.xml" in value for value in environment.values())
    assert environment["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["ROS_DOMAIN_ID"] in {str(i) for i in ros_environment.DOMAIN_IDS}
    assert str(tmp_path / "profile.xml") in environment.values()
    assert "FASTDDS_BUILTIN_TRANSPORTS" not in environment  # not together with LOCALHOST
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in environment  # else the wheels would not set their own paths again


def test_where_ros_is_installed_otherwise_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_environment.sysconfig, "get_path", lambda _: str(tmp_path))
    environment = isolated_environment(SOURCED, tmp_path / "profile.xml", tmp_path / "log")
    assert environment["AMENT_PREFIX_PATH"] == "/opt/ros/humble"
    assert environment["PYTHONPATH"] == SOURCED["PYTHONPATH"]


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings that are shipped, and a working folder without any."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shipped.xml"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("caller", "variable"),
    [
        ({}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "kilted"}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "humble"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"RMW_IMPLEMENTATION": ""}, "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_large_images_get_room_under_the_name_that_the_version_reads(
    caller: dict[str, str], variable: str, profile: Path
) -> None:
    environment = dict(caller)
    told = give_large_images_room(environment, profile)
    assert environment == caller | {variable: str(profile)}
    assert told == f"Fast DDS has room for large images: {variable}={profile}"


@pytest.mark.parametrize(
    "chosen",
    [
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/vehicle.xml"},
        {"FASTRTPS_DEFAULT_PROFILES_FILE": "/vehicle.xml"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"},
    ],
)
def test_what_the_caller_chose_of_the_middleware_stays(chosen: dict[str, str], profile: Path) -> None:
    environment = chosen | {PROFILE_VARIABLE: str(profile)}
    told = give_large_images_room(environment, profile)
    assert environment == chosen | {PROFILE_VARIABLE: str(profile)}
    assert all(f"{name}={value}" in told for name, value in chosen.items())


@pytest.mark.parametrize("name", ["DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml"])
def test_settings_that_fast_dds_reads_from_the_working_folder_stay(name: str, profile: Path) -> None:
    Path(name).touch()
    environment: dict[str, str] = {}
    assert str(Path(name).absolute()) in give_large_images_room(environment, profile)
    assert environment == {}


@pytest.mark.parametrize(
    ("path", "why"), [("", f"{PROFILE_VARIABLE} is empty"), ("/no.xml", "expected its settings at /no.xml")]
)
def test_no_profile_is_said(path: str, why: str, profile: Path) -> None:
    environment = {PROFILE_VARIABLE: path}
    assert why in give_large_images_room(environment, profile)
    assert environment == {PROFILE_VARIABLE: path}


def test_a_segment_that_shared_memory_has_no_room_for_is_not_asked_for(profile: Path) -> None:
    profile.write_text(f"<segment_size>{1 << 50}</segment_size>")
    environment: dict[str, str] = {}
    assert "--shm-size=1g or --ipc=host" in give_large_images_room(environment, profile)
    assert environment == {}


def test_another_profile_takes_the_place_of_the_shipped_one(profile: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.xml"
    other.touch()
    environment = {PROFILE_VARIABLE: str(other)}
    give_large_images_room(environment, profile)
    assert environment["FASTDDS_DEFAULT_PROFILES_FILE"] == str(other)


@pytest.mark.skipif(sys.platform != "linux", reason="binds the ports that DDS uses on Linux")
def test_a_domain_in_use_is_not_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_domain_id()
    monkeypatch.setattr(ros_environment, "DOMAIN_IDS", range(first, first + 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", 7410 + 250 * first))
        with pytest.raises(OSError, match="free ROS_DOMAIN_ID"):
            free_domain_id()
