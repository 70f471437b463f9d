"""A stand-in for nav2's lifecycle_manager, written from its sources: makes the same calls to the nodes that it manages.

Its arguments are the bond timeout and the names of its nodes. It reads commands (startup, pause, resume, reset,
shutdown) from standard input and answers each one with a line, true or false. It also reports events that it notices
itself. The real manager (nav2_lifecycle_manager, and bondcpp) is C++ and not on PyPI.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

SERVICE_TIMEOUT_S = 5.0
BOND_CHECK_PERIOD_S = 0.2
HEARTBEAT_PERIOD_S = 0.25
RESPAWN_CHECK_PERIOD_S = 1.0
GOALS = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED,
}
UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)


class Unreachable(RuntimeError):
    """A service that is not offered, or does not answer."""


class Bond:
    """The manager's side of a bond.

    It is formed with the first node that is heard, and broken when that node ends it or goes silent.
    """

    def __init__(self, node: Node, name: str, timeout_s: float) -> None:
        from bond.msg import Status

        self._node, self._status_type, self._name, self._timeout_s = node, Status, name, timeout_s
        self._partner, self._heard_s, self._ended = "", 0.0, False
        self._publisher = node.create_publisher(Status, "bond", 5)
        self._subscription = node.create_subscription(Status, "bond", self._receive, 100)
        self._timer = node.create_timer(HEARTBEAT_PERIOD_S, lambda: self._tell(active=True))

    @property
    def formed(self) -> bool:
        return bool(self._partner)

    @property
    def why_broken(self) -> str:
        if self._ended:
            return "ended"
        return "silent" if self.formed and time.monotonic() > self._heard_s + self._timeout_s else ""

    def close(self) -> None:
        self._tell(active=False)
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)

    def _receive(self, status: Any) -> None:
        if status.id != self._name or status.instance_id == str(id(self)):
            return
        self._partner = self._partner or status.instance_id
        if status.instance_id == self._partner:
            self._heard_s = time.monotonic()
            self._ended = self._ended or not status.active

    def _tell(self, *, active: bool) -> None:
        status = self._status_type(id=self._name, instance_id=str(id(self)), active=active)
        status.heartbeat_timeout, status.heartbeat_period = self._timeout_s, HEARTBEAT_PERIOD_S
        self._publisher.publish(status)


class LifecycleManager:
    """Runs the transitions in nav2's order. With a `bond_timeout_s` of 0 it uses no bonds."""

    def __init__(self, node: Node, bond_timeout_s: float, names: Sequence[str]) -> None:
        self._node, self._bond_timeout_s, self._names = node, bond_timeout_s, list(names)
        self._bonds: dict[str, Bond] = {}
        self.is_active = False

    def startup(self) -> bool:
        self.is_active = all(self._change_all(transition) for transition in UP)
        return self.is_active

    def resume(self) -> bool:
        self.is_active = self._change_all(Transition.TRANSITION_ACTIVATE)
        return self.is_active

    def pause(self) -> bool:
        self.is_active = False
        return self._change_all(Transition.TRANSITION_DEACTIVATE)

    def reset(self, *, hard: bool = False) -> bool:
        self.is_active = False
        deactivated = self._change_all(Transition.TRANSITION_DEACTIVATE, hard=hard)
        return (deactivated or hard) and self._change_all(Transition.TRANSITION_CLEANUP, hard=hard)

    def shutdown(self) -> bool:
        self.is_active = False
        for transition in (
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
        ):
            self._change_all(transition)
        return True

    def check_bonds(self) -> None:
        """Bring all nodes down if one bond is broken, and up again when every node answers."""
        broken = [(name, bond.why_broken) for name, bond in self._bonds.items() if bond.why_broken]
        if not self.is_active or not broken:
            return
        say(f"broken {broken[0][0]} {broken[0][1]}")
        self.reset(hard=True)
        self._bonds.clear()
        while not all(self._answers(name) for name in self._names):
            time.sleep(RESPAWN_CHECK_PERIOD_S)
        say(f"respawned {str(self.startup()).lower()}")

    def _answers(self, name: str) -> bool:
        try:
            self._state(name)
        except Unreachable:
            return False
        return True

    def _change_all(self, transition: int, *, hard: bool = False) -> bool:
        for name in self._names if transition in UP else reversed(self._names):
            try:
                if not self._change(name, transition, SERVICE_TIMEOUT_S if hard else None) and not hard:
                    return False
            except Unreachable as error:
                say(f"unreachable {error}")
                return False
        return True

    def _change(self, name: str, transition: int, timeout_s: float | None) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        # Without a limit on the way up, because configuring may take long. A node that ends may get the request and
        # never answer it.
        changed = self._call(ChangeState, f"{name}/change_state", request, timeout_s).success
        if not changed or self._state(name) != GOALS[transition]:
            return False
        if transition == Transition.TRANSITION_DEACTIVATE and name in self._bonds:
            self._bonds.pop(name).close()
        return transition != Transition.TRANSITION_ACTIVATE or self._bind(name)

    def _state(self, name: str) -> int:
        answer = self._call(GetState, f"{name}/get_state", GetState.Request(), SERVICE_TIMEOUT_S)
        return int(answer.current_state.id)

    def _bind(self, name: str) -> bool:
        if self._bond_timeout_s <= 0 or name in self._bonds:
            return True
        bond = self._bonds[name] = Bond(self._node, name, self._bond_timeout_s)
        return wait_until(lambda: bond.formed, self._bond_timeout_s / 2)

    def _call(self, kind: Any, service: str, request: Any, timeout_s: float | None) -> Any:
        client = self._node.create_client(kind, service)
        try:
            if not client.wait_for_service(SERVICE_TIMEOUT_S):
                raise Unreachable(service)
            future = client.call_async(request)
            if not wait_until(future.done, timeout_s):
                raise Unreachable(service)
            return future.result()
        finally:
            self._node.destroy_client(client)


def wait_until(condition: Callable[[], bool], timeout_s: float | None) -> bool:
    deadline_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return condition()


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    rclpy.init()
    node = Node("lifecycle_manager")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    manager = LifecycleManager(node, float(sys.argv[1]), sys.argv[2:])
    taken = threading.Lock()  # commands and checks run one after the other, like in nav2's service thread

    def check() -> None:
        while True:
            time.sleep(BOND_CHECK_PERIOD_S)
            with taken:
                manager.check_bonds()

    threading.Thread(target=check, daemon=True).start()
    for command in sys.stdin:
        with taken:
            say(f"{command.strip()} {str(getattr(manager, command.strip())()).lower()}")


if __name__ == "__main__":
    main()
