"""The environment of ROS 2 processes: settings that large images need, and graphs of their own.

The executables of this package choose the settings before they load the middleware. A graph of its own is for the demo,
which must neither see another robot's graph nor inherit half of a sourced ROS installation.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import sysconfig
from collections.abc import Mapping, MutableMapping
from pathlib import Path

DOMAIN_IDS = range(1, 102)
"""Ids whose UDP ports stay below Linux's ephemeral ports (ROS 2 documentation, "The ROS_DOMAIN_ID")."""

PROFILE_VARIABLE = "ROS_KD_PERCEPTION_FASTDDS_PROFILE"
"""Names the profile that our executables give Fast DDS in place of the shipped one; set to nothing, it is none."""

_SOURCED = ("AMENT_", "COLCON_", "CMAKE_PREFIX_PATH", "CYCLONEDDS", "FASTDDS", "FASTRTPS", "RMW_", "ROS_", "RCL")
_FASTDDS_SETTINGS = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
# Read by Fast DDS without any variable, from the folder that a process starts in.
_FASTDDS_DEFAULT_FILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")
_SEGMENT_SIZE = re.compile(r"<segment_size>\s*(\d{1,18})\s*</segment_size>")
_SHARED_MEMORY = Path("/dev/shm")
_SEARCH_PATHS = ("PYTHONPATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


def free_domain_id() -> int:
    """Pick a ROS_DOMAIN_ID that no process of this machine uses, at random lest two callers pick the same.

    A DDS participant of domain d listens on the UDP ports 7410 + 250 d + 2 n (OMG DDS-RTPS 2.5, section 9.6.2.3).

    Raises:
        OSError: every domain is in use.
    """
    for domain_id in random.sample(DOMAIN_IDS, len(DOMAIN_IDS)):
        if all(_is_free(7410 + 250 * domain_id + 2 * participant) for participant in range(4)):
            return domain_id
    raise OSError("expected a free ROS_DOMAIN_ID from 1 to 101, but processes of this machine use them all")


def isolated_environment(caller: Mapping[str, str], fastdds_profile: Path, log_folder: Path) -> dict[str, str]:
    """Build the environment of processes on a graph of their own.

    Where this Python has the ROS wheels in its own site-packages, what a sourced ROS installation left in the
    caller's environment is taken out, since its libraries would be loaded in place of the wheels'. Elsewhere ROS comes
    from that installation, and stays.

    Args:
        caller: environment to start from.
        fastdds_profile: Fast DDS settings with a shared memory segment that large images fit in.
        log_folder: for the log files of ROS.
    """
    environment = dict(caller)
    if Path(sysconfig.get_path("purelib"), "rclpy").is_dir():
        environment = {
            name: value for name, value in caller.items() if not name.startswith(_SOURCED) and name not in _SEARCH_PATHS
        }
    environment |= {
        "ROS_DOMAIN_ID": str(free_domain_id()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        fastdds_profile_variable(environment): str(fastdds_profile),
        "ROS_LOG_DIR": str(log_folder),
        "PYTHONUNBUFFERED": "1",
    }
    return environment


def give_large_images_room(environment: MutableMapping[str, str], shipped_profile: Path) -> str:
    """Set what Fast DDS needs to hand large images over; call it with `os.environ`, before `rclpy.init`.

    Args:
        environment: of this process. Fast DDS reads it when the first participant is created, not before.
        shipped_profile: Fast DDS settings, unless PROFILE_VARIABLE names others.

    Returns:
        One sentence for the log: which settings are in force.
    """
    profile = environment.get(PROFILE_VARIABLE, str(shipped_profile))
    chosen = large_image_environment(environment, profile)
    environment.update(chosen)
    if chosen:
        return f"Fast DDS has room for large images: {_assignments(chosen)}"
    if found := _found_settings(environment):
        return f"the middleware keeps the settings that it was started with: {found}"
    reason = _why_unusable(profile)
    return f"Fast DDS may lose images of more than half a megabyte that are sent as best effort: {reason}"


def large_image_environment(caller: Mapping[str, str], fastdds_profile: Path | str) -> dict[str, str]:
    """Choose the variables to add for a process that sends camera images or masks.

    The sender owns the shared memory that messages travel in, so the settings belong to it and not to who receives.

    Args:
        caller: environment that the process inherits.
        fastdds_profile: Fast DDS settings; empty for none.

    Returns:
        Variables to set; none where the caller chose another middleware, or how Fast DDS transports messages, and where
        the profile is not there or its segment of shared memory does not fit.
    """
    if _found_settings(caller) or _why_unusable(fastdds_profile):
        return {}
    return {fastdds_profile_variable(caller): str(fastdds_profile)}


def _why_unusable(fastdds_profile: Path | str) -> str:
    """Say why Fast DDS cannot take a profile; without its segment it would do without shared memory altogether."""
    if not str(fastdds_profile):
        return f"{PROFILE_VARIABLE} is empty"
    try:
        sizes = _SEGMENT_SIZE.findall(Path(fastdds_profile).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"expected its settings at {fastdds_profile}, got: {error}"
    needed_bytes = sum(map(int, sizes))
    free_bytes = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else needed_bytes
    if free_bytes >= needed_bytes:
        return ""
    return (
        f"its profile takes {needed_bytes >> 20} MiB of {_SHARED_MEMORY}, {free_bytes >> 20} are free; start a "
        "container with --shm-size=1g or --ipc=host"
    )


def _found_settings(environment: Mapping[str, str]) -> str:
    """What the caller chose of the middleware that a profile for large images would take the place of, or empty."""
    variables = {name: environment[name] for name in _FASTDDS_SETTINGS if name in environment}
    middleware = environment.get("RMW_IMPLEMENTATION")
    if middleware and not middleware.startswith("rmw_fastrtps"):
        variables = {"RMW_IMPLEMENTATION": middleware}
    files = [str(path) for name in _FASTDDS_DEFAULT_FILES if (path := Path(name).absolute()).is_file()]
    return ", ".join([*filter(None, [_assignments(variables)]), *files])


def _assignments(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in variables.items())


def fastdds_profile_variable(environment: Mapping[str, str]) -> str:
    """Name the variable that Fast DDS reads its settings from: version 3 renamed it and warns about the old name.

    Args:
        environment: of the process; its ROS_DISTRO tells the version.
    """
    before_fastdds_3 = environment.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return _FASTDDS_SETTINGS[1] if before_fastdds_3 else _FASTDDS_SETTINGS[0]


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
