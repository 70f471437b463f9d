"""Killed nodes, duplicate node names, a clock that jumps back and invalid parameter values, on a real graph."""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from ros_graph import RELIABLE, TIMEOUT_S, Peer, camera_picture, image_message, stamp_ns
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from ros_kd_perception.health.status import Level
from ros_kd_perception.parameters.camera_settings import CAMERA_DECLARATIONS
from ros_kd_perception.ros.node_parameters import PARAMETERS

T0 = 1_700_000_000_000_000_000
PICTURE = camera_picture()
DECLARED = PARAMETERS | {f"front.{name}": row for name, row in CAMERA_DECLARATIONS.items()}


def test_a_killed_node_can_be_restarted_on_the_same_graph(
    peer: Peer, start_node: Any, environment: dict[str, str], capfd: Any
) -> None:
    """SIGKILL, then the same command again, as a supervisor or `respawn` of the launch file does it."""
    del environment["FASTDDS_DEFAULT_PROFILES_FILE"]  # the killed process leaves 0.5 MB of shared memory, not 32 MB
    peer.listen_to_results("front")
    node = start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + n), "front")
    node.end(signal.SIGKILL)
    peer.results("front", "segmentation/label_info").clear()

    started_s = time.monotonic()
    start_node()
    mask = peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + 10**9 + n), "front")
    first_message_s = time.monotonic() - started_s
    with capfd.disabled():
        print(f"\n  first message {first_message_s:.2f} s after the start that follows SIGKILL")
    assert stamp_ns(mask) >= T0 + 10**9
    peer.until(lambda: peer.results("front", "segmentation/label_info"), "the new node tells its labels")
    numbers = itertools.count(1)

    def send_and_look() -> bool:
        publisher.publish(image_message(PICTURE, T0 + 2 * 10**9 + next(numbers) * 10**7))
        peer.spin_for(0.1)
        return peer.status("front").level[0] == Level.OK

    peer.until(send_and_look, "the camera is well again")


def test_two_nodes_of_different_names_share_a_camera_and_nothing_else(peer: Peer, start_node: Any) -> None:
    masks: dict[str, list[Image]] = {"a": [], "b": []}
    remap = ("-r", "front/image_raw:=/camera")
    nodes = {name: start_node(*remap, "-r", f"__ns:=/{name}") for name in masks}
    for name, received in masks.items():
        peer.node.create_subscription(Image, f"/{name}/perception/front/segmentation", received.append, RELIABLE)
    publisher = peer.publisher(Image, "/camera")
    peer.until(lambda: publisher.get_subscription_count() == 2, "both subscribe")
    number = 0

    def both_see(*names: str) -> None:
        nonlocal number
        for name in names:
            masks[name].clear()
        while not all(masks[name] for name in names):
            number += 1
            publisher.publish(image_message(PICTURE, T0 + number))
            peer.spin_for(0.05)

    both_see("a", "b")
    peer.until(lambda: {f"{name}/perception: front" for name in masks} <= set(peer.statuses), "both report")
    assert peer.statuses["a/perception: node"].level[0] == Level.OK
    assert nodes["a"].end() == 0
    both_see("b")
    assert nodes["b"].alive


def test_two_nodes_with_one_name_are_reported_until_one_ends(peer: Peer, start_node: Any) -> None:
    first = start_node()
    peer.until(lambda: peer.status("node").level[0] == Level.OK, "one is fine")
    start_node()
    peer.until(lambda: peer.status("node").level[0] == Level.WARN, "the duplicate is reported")
    assert "2 nodes are called /perception" in peer.status("node").message
    assert first.end() == 0
    peer.until(lambda: peer.status("node").level[0] == Level.OK, "one is fine again")


def test_a_clock_that_jumps_back_costs_two_frames(peer: Peer, start_node: Any) -> None:
    """A looped bag: /clock and stamps jump back together, by more and by less than the tolerance between the clocks."""
    peer.listen_to_results("front")
    node = start_node(use_sim_time=True, max_stamp_age_ms=500.0)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    clock = peer.matched_publisher(Clock, "/clock")

    def run_from(start_ns: int) -> None:
        """Advance the time from there until some frames are perceived. A single frame may count as a wrong stamp."""
        now_ns = start_ns
        while sum(start_ns <= stamp_ns(mask) < start_ns + 3600 * 10**9 for mask in peer.results("front")) < 4:
            now_ns += 50 * 10**6
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(now_ns, 10**9)
            clock.publish(message)
            publisher.publish(image_message(PICTURE, now_ns))
            peer.spin_for(0.05)
        peer.results("front").clear()

    lost = 0
    for start_ns in (T0 + 7200 * 10**9, T0, T0 - 5 * 10**9):
        run_from(start_ns)
        peer.until(lambda lost=lost: peer.drops("front").get("stamp_backwards", 0) >= lost, "the drops are reported")
        assert peer.drops("front").get("stamp_backwards", 0) == lost
        lost += 2
    assert "too_old" not in peer.drops("front")
    assert peer.status("model").level[0] == Level.OK
    assert node.alive


def set_parameter(peer: Peer, name: str, value: Any) -> Any:
    message = value if isinstance(value, ParameterValue) else Parameter(name, value=value).get_parameter_value()
    request = SetParameters.Request(parameters=[ParameterMessage(name=name, value=message)])
    return peer.call(SetParameters, "/perception/set_parameters", request).results[0]


def wrong_values(name: str) -> list[Any]:
    row = DECLARED[name]
    wrong: list[Any] = [["front", "front"], [1.5], [b"\x00"], None]
    if row.minimum is not None and row.maximum is not None:
        numbers = [row.minimum - 1, row.maximum + 1, -1e308, 1e308]
        if isinstance(row.default, float):
            wrong += [*numbers, math.nan, math.inf, -math.inf]
        else:
            wrong += [int(row.minimum) - 1, int(row.maximum) + 1, 2**63 - 1, 0.5]
    if not isinstance(row.default, str):
        wrong += ["", "x" * 100_000]
    elif row.choices:
        wrong += ["", "nonsense", "x" * 100_000]
    else:
        wrong += ["x" * 100_000]
    return wrong


def test_invalid_parameter_values_are_refused_while_the_node_runs(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    node = start_node()
    peer.until_active()
    names = list(DECLARED)

    def values() -> Any:
        return peer.call(GetParameters, "/perception/get_parameters", GetParameters.Request(names=names)).values

    before = values()
    tried = 0
    for name in names:
        for wrong in wrong_values(name):
            answer = set_parameter(peer, name, wrong)
            assert not answer.successful, f"{name} took {str(wrong)[:80]}"
            assert 0 < len(answer.reason) < 500
            assert "\n" not in answer.reason
            tried += 1
    assert tried > 100
    assert set_parameter(peer, "cameras", ["front", "rear"]).successful is False  # valid, but read-only
    assert values() == before
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + n), "front")
    assert "Traceback" not in node.log


def unreadable_request(peer: Peer) -> Callable[[], object]:
    """Return a function that sends the node's parameter service a value of a type that does not exist."""
    client = peer.node.create_client(SetParameters, "/perception/set_parameters")
    peer.until(client.service_is_ready, "the service is there")
    parameter = ParameterMessage(name="max_age_ms", value=ParameterValue(type=99))
    return lambda: client.call_async(SetParameters.Request(parameters=[parameter]))


def test_requests_that_the_client_library_cannot_read_stop_nothing(peer: Peer, start_node: Any) -> None:
    """These requests raise in rclpy's own service and get no answer. The log reports them at a limited rate."""
    peer.listen_to_results("front")
    node = start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    ask = unreadable_request(peer)
    for _ in range(50):
        ask()
    peer.until(lambda: "a callback failed" in node.log, "the failure is logged")
    peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + n), "front")
    assert set_parameter(peer, "max_age_ms", 400.0).successful
    assert node.log.count("Traceback") <= 3


@pytest.mark.parametrize("drop_first", [True, False])
def test_unreadable_requests_and_dropped_frames_are_both_logged(peer: Peer, start_node: Any, drop_first: bool) -> None:
    """rclpy refuses two severities from one line of code. The exception ended the thread that logged second."""
    peer.listen_to_results("front")
    node = start_node()
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    ask = unreadable_request(peer)
    malformed = image_message(PICTURE, T0)
    malformed.encoding = "rgb9"

    def logged(text: str, send: Callable[[], object]) -> bool:
        send()  # repeat it: the first one may be sent before both ends are connected
        peer.spin_for(0.1)
        return text in node.log

    def drop() -> None:
        peer.until(
            lambda: logged("dropped a frame of front", lambda: publisher.publish(malformed)), "the drop is logged"
        )

    def request() -> None:
        peer.until(lambda: logged("a callback failed", ask), "the failure is logged")

    for step in (drop, request) if drop_first else (request, drop):
        step()
    peer.send_until_result(publisher, lambda n: image_message(PICTURE, T0 + n), "front")
    assert set_parameter(peer, "max_age_ms", 400.0).successful
    assert peer.status("model").level[0] == Level.OK
    assert "severity" not in node.log


def test_a_node_whose_executor_ends_ends_too(environment: dict[str, str], tiny_student: Path) -> None:
    script = (
        "import sys\n"
        "from ros_kd_perception.ros import perception_node\n"
        "class Broken(perception_node.SingleThreadedExecutor):\n"
        "    def spin(self): raise SystemExit\n"
        "perception_node.SingleThreadedExecutor = Broken\n"
        "sys.exit(perception_node.main(sys.argv[1:]))\n"
    )
    arguments = ["--ros-args", "-p", f"model:={tiny_student}", "-p", "autostart:=true"]
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "the executor has ended" in ended.stderr
