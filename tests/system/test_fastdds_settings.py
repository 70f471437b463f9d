"""Tests which settings an executable gives Fast DDS, and the sentence that it logs about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ros_kd_perception.system.fastdds_settings import (
    MAX_PROFILE_BYTES,
    PROFILE_VARIABLE,
    MiddlewareSettings,
    give_large_images_room,
)


def write_profile(path: Path, *segment_sizes: int) -> Path:
    sizes = "".join(f"<segment_size> {size} </segment_size>" for size in segment_sizes)
    path.write_text(f'<profiles xmlns="http://www.eprosima.com">{sizes}</profiles>')
    return path


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a shipped profile, and change to a working directory without settings."""
    monkeypatch.chdir(tmp_path)
    return write_profile(tmp_path / "shipped.xml", 1 << 20)


@pytest.mark.parametrize(
    ("caller", "variable"),
    [
        ({}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "kilted"}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "humble"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"RMW_IMPLEMENTATION": ""}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        # Version 2 does not read this variable.
        ({"ROS_DISTRO": "jazzy", "FASTDDS_DEFAULT_PROFILES_FILE": "/vehicle.xml"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        # A container's settings may set it to an empty text. Fast DDS then complains and uses its defaults.
        ({"FASTDDS_DEFAULT_PROFILES_FILE": ""}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": ""}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"FASTDDS_BUILTIN_TRANSPORTS": ""}, "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_profile_is_set_in_the_variable_that_the_version_reads(
    caller: dict[str, str], variable: str, profile: Path
) -> None:
    environment = dict(caller)
    settings = give_large_images_room(environment, profile)
    assert environment == caller | {variable: str(profile)}
    assert settings == MiddlewareSettings(f"Fast DDS has room for large images: {variable}={profile}")


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
def test_middleware_settings_of_the_user_are_kept(chosen: dict[str, str], profile: Path) -> None:
    environment = chosen | {PROFILE_VARIABLE: str(profile)}
    told = give_large_images_room(environment, profile).sentence
    assert environment == chosen | {PROFILE_VARIABLE: str(profile)}
    assert all(f"{name}={value}" in told for name, value in chosen.items())


@pytest.mark.parametrize(
    ("distro", "read", "ignored"),
    [
        ("jazzy", "DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml"),
        ("kilted", "DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml"),
    ],
)
def test_settings_in_the_working_directory_are_kept(distro: str, read: str, ignored: str, profile: Path) -> None:
    Path(ignored).touch()
    assert len(set_settings({"ROS_DISTRO": distro}, profile)) == 1
    Path(read).touch()
    environment = {"ROS_DISTRO": distro}
    assert str(Path(read).absolute()) in give_large_images_room(environment, profile).sentence
    assert environment == {"ROS_DISTRO": distro}


def set_settings(environment: dict[str, str], profile: Path) -> dict[str, str]:
    before = dict(environment)
    give_large_images_room(environment, profile)
    return {name: value for name, value in environment.items() if before.get(name) != value}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no element found"),
        ("<profiles><", "unclosed token"),
        ("<profiles><segment_size>big</segment_size></profiles>", "'big'"),
        (f"<profiles>{' ' * MAX_PROFILE_BYTES}</profiles>", "more than 1048576 bytes"),
    ],
    ids=["empty", "broken", "no size", "endless"],
)
def test_an_unreadable_profile_is_not_chosen(content: str, why: str, profile: Path) -> None:
    profile.write_text(content)
    environment: dict[str, str] = {}
    settings = give_large_images_room(environment, profile)
    assert re.search(rf"may lose images .* expected the XML of its settings in {profile}, got: .*{why}", str(settings))
    assert settings.may_lose_images
    assert environment == {}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", f"{PROFILE_VARIABLE} is empty"),
        ("/no.xml", "expected the XML of its settings in /no.xml, got: there is no such file"),
        ("/dev/zero", "/dev/zero, got: there is no such file"),
    ],
)
def test_a_missing_profile_is_reported(path: str, why: str, profile: Path) -> None:
    environment = {PROFILE_VARIABLE: path}
    assert why in give_large_images_room(environment, profile).sentence
    assert environment == {PROFILE_VARIABLE: path}


def test_a_profile_whose_segments_do_not_fit_in_shared_memory_is_not_chosen(profile: Path) -> None:
    write_profile(profile, 1, 1 << 50)
    environment: dict[str, str] = {}
    settings = give_large_images_room(environment, profile)
    assert "--shm-size=512m or --ipc=host" in settings.sentence
    assert settings.may_lose_images
    assert environment == {}


def test_sizes_in_the_comments_of_a_profile_do_not_count(profile: Path) -> None:
    profile.write_text(f"<profiles><!-- <segment_size>{1 << 50}</segment_size> --></profiles>")
    assert set_settings({}, profile)


def test_another_profile_replaces_the_shipped_one(profile: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.xml"
    write_profile(other, 1 << 20)
    environment = {PROFILE_VARIABLE: str(other)}
    give_large_images_room(environment, profile)
    assert environment["FASTDDS_DEFAULT_PROFILES_FILE"] == str(other)
