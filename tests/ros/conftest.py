"""Give every test here a ROS graph of its own: its own domain and log folder, and processes that end with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from built_messages import HERE, build_messages, with_messages
from checkout import ROOT
from rclpy.context import Context
from ros_graph import NodeProcess, Peer
from tiny_student import write_tiny_student

from ros_kd_perception.system.ros_environment import isolated_environment

StartNode = Callable[..., NodeProcess]


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="session")
def student(tiny_student: Path) -> Path:
    """The shipped student, or the tiny one if no student is shipped yet."""
    shipped = ROOT / "models" / "student.onnx"
    return shipped if shipped.is_file() else tiny_student


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Environment of a graph of its own. It is also set in the process of the test."""
    profile = ROOT / "config" / "fastdds_large_images.xml"
    variables = isolated_environment(os.environ, profile, tmp_path / "log")
    variables["PYTHONPATH"] = str(ROOT)
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, variables[name])
    return variables


@pytest.fixture(scope="session")
def bond_messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_messages(HERE / "bond", tmp_path_factory.mktemp("bond"))


@pytest.fixture
def with_bond(environment: dict[str, str], bond_messages: Path) -> dict[str, str]:
    """Environment of a machine with the package bond installed."""
    return with_messages(environment, bond_messages)


@pytest.fixture(scope="session")
def foxglove_messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_messages(HERE / "foxglove_msgs", tmp_path_factory.mktemp("foxglove"))


@pytest.fixture
def with_foxglove(environment: dict[str, str], foxglove_messages: Path) -> dict[str, str]:
    """Environment of a machine with the package foxglove_msgs installed."""
    return with_messages(environment, foxglove_messages)


@pytest.fixture
def context(environment: dict[str, str]) -> Iterator[Context]:
    context = Context()
    context.init(args=[], domain_id=int(environment["ROS_DOMAIN_ID"]))
    yield context
    context.try_shutdown()


@pytest.fixture
def peer(context: Context) -> Iterator[Peer]:
    peer = Peer(context)
    yield peer
    peer.close()


@pytest.fixture
def start_node(environment: dict[str, str], tmp_path: Path, tiny_student: Path) -> Iterator[StartNode]:
    """Start a node process. Defaults are frequent diagnostics, the tiny student and autostart."""
    with ExitStack() as stack:

        def start(*more: str, **parameters: Any) -> NodeProcess:
            defaults = {
                "model": tiny_student,
                "autostart": True,
                "diagnostics_period_s": 0.1,
                "intra_op_threads": 1,
                "cameras": ["front"],
                # The same tests hold with worker processes; set this to run them so.
                "preparation_processes": os.environ.get("TESTED_PREPARATION_PROCESSES", "0"),
            }
            return stack.enter_context(NodeProcess(environment, tmp_path, defaults | parameters, *more))

        yield start
