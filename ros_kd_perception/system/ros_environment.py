"""Builds the environment of ROS 2 processes on a separate graph.

The demo must not join another robot's graph, and it must not load parts of a sourced ROS installation.
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
"""Domain ids whose UDP ports are below Linux's ephemeral ports (ROS 2 documentation, "The ROS_DOMAIN_ID")."""

_CLAIM_PORT = 7409  # claim port of domain 0; DDS uses ports 7400, 7401 and 7410 up of a domain
_claim = ExitStack()  # the socket on the claim port of the domain that this process picked last
_SOURCED = ("AMENT_", "COLCON_", "CMAKE_PREFIX_PATH", "CYCLONEDDS", "FASTDDS", "FASTRTPS", "RMW_", "ROS_", "RCL")
_SEARCH_PATHS = ("PYTHONPATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


def free_domain_id() -> int:
    """Pick a ROS_DOMAIN_ID that no process of this machine uses, and claim it for this process.

    The claim is a socket. It keeps other callers from picking the same id until the participants of this process's
    graph listen. It ends with the next call in this process, or with the process. A DDS participant of domain d listens
    on the UDP ports 7410 + 250 d + 2 n (OMG DDS-RTPS 2.5, section 9.6.2.3).

    Raises:
        OSError: All domains are in use.
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
    """Build the environment of processes on a separate graph.

    If ROS is installed as wheels in this Python's site-packages, remove the variables of a sourced ROS installation,
    because its libraries would be loaded instead of the wheels'. Otherwise ROS comes from that installation, so keep
    them.

    Args:
        caller: The environment to start from.
        fastdds_profile: Fast DDS settings with a shared memory segment that is large enough for large images.
        log_folder: The folder for the log files of ROS.
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
