"""The node under a lifecycle manager that behaves like nav2's, with and without a bond."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from ros_graph import TIMEOUT_S, NodeProcess, Peer

STAND_IN = ROOT / "tests" / "support" / "lifecycle_manager_stand_in.py"
BOND_TIMEOUT_S = 4.0  # nav2's default


class ManagerProcess:
    """The stand-in for the manager, in a process of its own that reads and writes lines."""

    def __init__(self, environment: dict[str, str], bond_timeout_s: float) -> None:
        command = [sys.executable, str(STAND_IN), str(bond_timeout_s), "perception"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> ManagerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT_S)

    def next_line(self) -> str:
        return self._lines.get(timeout=TIMEOUT_S)

    def command(self, name: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        return self.next_line()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())


StartManaged = Callable[..., NodeProcess]


@pytest.fixture
def start_managed(tmp_path: Path, tiny_student: Path) -> Iterator[StartManaged]:
    """Start a node that waits for a lifecycle manager."""
    with ExitStack() as stack:

        def start(environment: dict[str, str], **parameters: Any) -> NodeProcess:
            defaults = {"model": tiny_student, "autostart": False, "cameras": ["front"], "intra_op_threads": 1}
            return stack.enter_context(NodeProcess(environment, tmp_path, defaults | parameters))

        yield start


def test_a_manager_takes_the_node_through_every_command(
    peer: Peer, with_bond: dict[str, str], start_managed: StartManaged
) -> None:
    node = start_managed(with_bond)
    with ManagerProcess(with_bond, BOND_TIMEOUT_S) as manager:
        for command, state in [
            ("startup", "active"), ("pause", "inactive"), ("resume", "active"), ("reset", "unconfigured"),
            ("startup", "active"), ("shutdown", "finalized"),
        ]:  # fmt: skip
            assert manager.command(command) == f"{command} true", node.log
            assert peer.state() == state
    assert "Traceback" not in node.log


def test_a_hanging_node_stops_its_heartbeats(
    peer: Peer, with_bond: dict[str, str], start_managed: StartManaged
) -> None:
    node = start_managed(with_bond)
    with ManagerProcess(with_bond, BOND_TIMEOUT_S) as manager:
        assert manager.command("startup") == "startup true", node.log
        node.process.send_signal(signal.SIGSTOP)
        try:
            assert manager.next_line() == "broken perception silent"
        finally:
            node.process.send_signal(signal.SIGCONT)


def test_a_node_that_ends_breaks_its_bond_and_its_successor_is_activated(
    peer: Peer, with_bond: dict[str, str], start_managed: StartManaged
) -> None:
    first = start_managed(with_bond)
    with ManagerProcess(with_bond, BOND_TIMEOUT_S) as manager:
        assert manager.command("startup") == "startup true", first.log
        assert first.end(signal.SIGINT) == 0
        assert manager.next_line() == "broken perception ended"
        start_managed(with_bond)
        while (line := manager.next_line()).startswith("unreachable"):
            pass
        assert line == "respawned true"
        peer.until_active()


def test_without_the_package_bond_a_manager_needs_a_bond_timeout_of_zero(
    peer: Peer, environment: dict[str, str], with_bond: dict[str, str], start_managed: StartManaged
) -> None:
    node = start_managed(environment)
    with ManagerProcess(with_bond, BOND_TIMEOUT_S) as manager:
        assert manager.command("startup") == "startup false"
        assert manager.command("reset") == "reset true"
    with ManagerProcess(environment, 0.0) as manager:
        assert manager.command("startup") == "startup true"
    assert peer.state() == "active"
    assert "set bond_timeout: 0.0 in nav2's lifecycle_manager" in node.log


def test_a_manager_gets_the_failure_to_configure(
    peer: Peer, with_bond: dict[str, str], start_managed: StartManaged, tmp_path: Path
) -> None:
    start_managed(with_bond, model=tmp_path / "missing.onnx")
    with ManagerProcess(with_bond, BOND_TIMEOUT_S) as manager:
        assert manager.command("startup") == "startup false"
    assert peer.state() == "unconfigured"
