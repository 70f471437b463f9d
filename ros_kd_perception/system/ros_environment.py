"""The environment of ROS 2 processes on a graph of their own.

The demo must neither see another robot's graph nor inherit half of a sourced ROS installation.
"""

from __future__ import annotations

import random
import socket
import sysconfig
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ros_kd_perception.system.fastdds_settings import fastdds_profile_variable

DOMAIN_IDS = range(1, 102)
"""Ids whose UDP ports stay below Linux's ephemeral ports (ROS 2 documentation, "The ROS_DOMAIN_ID")."""

_CLAIM_PORT = 7409  # of domain 0; DDS uses 7400 and 7401 of a domain, and those from 7410 on
_claim = ExitStack()  # the socket on the claim port of the domain that this process picked last
_SOURCED = ("AMENT_", "COLCON_", "CMAKE_PREFIX_PATH", "CYCLONEDDS", "FASTDDS", "FASTRTPS", "RMW_", "ROS_", "RCL")
_SEARCH_PATHS = ("PYTHONPATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


def free_domain_id() -> int:
    """Pick a ROS_DOMAIN_ID that no process of this machine uses, and claim it for this process.

    The claim keeps other callers away until the participants of this process's graph listen. It ends with the next call
    of this process, or with the process.

    A DDS participant of domain d listens on the UDP ports 7410 + 250 d + 2 n (OMG DDS-RTPS 2.5, section 9.6.2.3).

    Raises:
        OSError: every domain is in use.
    """
    _claim.close()
    for domain_id in random.sample(DOMAIN_IDS, len(DOMAIN_IDS)):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        participants = (7410 + 250 * domain_id + 2 * participant for participant in range(4))
        if _bind(claim, _CLAIM_PORT + 250 * domain_id) and all(map(_is_free, participants)):
            _claim.enter_context(claim)
            return domain_id
        claim.close()
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


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return _bind(probe, port)


def _bind(udp_socket: socket.socket, port: int) -> bool:
    """Bind a socket to a port; False if another socket has it."""
    try:
        udp_socket.bind(("", port))
    except OSError:
        return False
    return True
