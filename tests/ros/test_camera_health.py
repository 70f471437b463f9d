"""Cameras of one node with different faults: diagnostics report state, level and message, and each camera recovers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from ros_graph import BEST_EFFORT, RELIABLE, Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from std_msgs.msg import Float64

from ros_kd_perception.health.status import Level

ILLNESSES = {
    "missing": (Level.ERROR, "no publisher on /missing/image_raw"),
    "silent": (Level.ERROR, "1 publisher(s) match on /silent/image_raw"),
    "incompatible": (Level.ERROR, "incompatible QoS"),
    "wrong_encoding": (Level.ERROR, "got 'rgb9'"),
    "bad_frames": (Level.ERROR, "bad_data"),
    "backward_stamps": (Level.WARN, "a new time line begins"),
    "duplicated": (Level.WARN, "duplicate"),
    "frozen": (Level.WARN, "no bit of the picture has changed"),
    "changed_size": (Level.WARN, "160x96 to 80x48"),
    "unusable_frame_id": (Level.WARN, "'/front cam' starts with a slash; tf2 expects"),
    "future_stamps": (Level.WARN, "stamp_ahead"),
}
"""Each camera has the name of the state that it must be in."""

PICTURES = [camera_picture(seed=seed) for seed in range(7)]
SMALL = [camera_picture(48, 80, seed=seed) for seed in range(7)]
LOOP_NS = 1000 * 10**9


class Street:
    """Publishes a frame of every camera at each step."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = 0
        self.ill = True
        self.seen: defaultdict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
        self.publishers = {
            camera: peer.publisher(Image, f"/{camera}/image_raw", BEST_EFFORT if camera == "incompatible" else RELIABLE)
            for camera in (*ILLNESSES, "healthy")
            if camera != "missing"
        }

    def heal(self) -> None:
        """Start the missing camera, and replace the one with an incompatible QoS."""
        self.ill = False
        self.peer.node.destroy_publisher(self.publishers["incompatible"])
        for camera in ("missing", "incompatible"):
            self.publishers[camera] = self.peer.publisher(Image, f"/{camera}/image_raw", RELIABLE)

    def step(self) -> None:
        """Publish, give the node time, and keep the statuses that it reports."""
        self.number += 1
        for camera, publisher in self.publishers.items():
            message = self._ill_message(camera) if self.ill else self._message()
            if message is not None:
                publisher.publish(message)
        self.peer.spin_for(0.1)
        for camera in (*ILLNESSES, "healthy"):
            status = self.peer.status(camera)
            self.seen[camera][self.peer.value(camera, "state")] = (status.level[0], status.message)

    def _message(self, pictures: list[Any] = PICTURES, stamp_ns: int = 0) -> Image:
        return image_message(pictures[self.number % len(pictures)], stamp_ns or time.time_ns())

    def _ill_message(self, camera: str) -> Image | None:
        message: Image = self._message()
        if camera == "silent":
            return None
        if camera == "wrong_encoding":
            message.encoding = "rgb9"
        elif camera == "bad_frames":
            message.data = message.data[:-1]
        elif camera == "backward_stamps" and self.number > 5:
            return self._message(stamp_ns=time.time_ns() - LOOP_NS)
        elif camera == "duplicated":
            pair = self.number // 2
            return image_message(PICTURES[pair % len(PICTURES)], pair * 10**8)
        elif camera == "frozen":
            return image_message(PICTURES[0], time.time_ns())
        elif camera == "unusable_frame_id":
            message.header.frame_id = "/front cam"
        elif camera == "future_stamps" and self.number % 4 == 0:
            return self._message(stamp_ns=time.time_ns() + LOOP_NS)
        elif camera == "changed_size" and self.number > 5:
            return self._message(SMALL)
        return message


def test_every_fault_of_a_camera_is_reported_and_ends_without_a_restart(peer: Peer, start_node: Any) -> None:
    street = Street(peer)
    node = start_node(
        cameras=[*ILLNESSES, "healthy"], image_reliability="reliable", silence_timeout_ms=3000.0, max_age_ms=0.0
    )
    peer.until_active()

    def step_until(condition: Callable[[], bool], what: str) -> None:
        def step_and_look() -> bool:
            street.step()
            return condition()

        peer.until(step_and_look, what, timeout_s=60)

    step_until(lambda: all(camera in street.seen[camera] for camera in ILLNESSES), "every fault is reported")
    for camera, (level, words) in ILLNESSES.items():
        step_until(lambda c=camera, at=level: street.seen[c][c][0] == at, f"{camera} is of level {level}")
        step_until(lambda c=camera, text=words: text in street.seen[c][c][1], f"{camera} says {words}")
    # A pause of the test itself may look like a silent camera.
    assert set(street.seen["healthy"]) <= {"", "waiting", "ok", "overloaded", "silent"}
    assert peer.drops("duplicated").get("duplicate", 0) > 0

    street.heal()
    step_until(lambda: all(peer.value(c, "state") == "ok" for c in (*ILLNESSES, "healthy")), "every camera is well")
    assert all(peer.status(camera).level[0] == Level.OK for camera in ILLNESSES)
    # The jump back costs two frames. The recovery is a jump forward, which costs no frame.
    assert peer.drops("backward_stamps")["stamp_backwards"] == 2
    assert peer.value("changed_size", "size") == "160x96"
    for camera in ILLNESSES:
        peer.until(lambda c=camera: peer.count(c, "waiting") == 0, "all is worked off")
        assert peer.count(camera, "received") == peer.count(camera, "published") + sum(peer.drops(camera).values())
    assert node.alive
    assert node.end() == 0
    assert "Traceback" not in node.log


def test_times_of_every_frame_are_on_the_debug_topics(peer: Peer, start_node: Any) -> None:
    start_node(cameras=["front", "left"])
    base = "/perception/debug"
    names = [
        f"{base}{of}/{kind}" for of in ("", "/front", "/left") for kind in ("processing_time_ms", "pipeline_latency_ms")
    ]
    for name in names:
        peer.listen(Float64, name)
    front = peer.matched_publisher(Image, "/front/image_raw")
    left = peer.matched_publisher(Image, "/left/image_raw")

    def send_and_look() -> bool:
        number = len(peer.received[f"{base}/processing_time_ms"])
        front.publish(image_message(PICTURES[number % 7], time.time_ns() - 2 * 10**9))
        left.publish(image_message(PICTURES[number % 7], 10**9 + number))  # another clock: no age
        peer.spin_for(0.05)
        received = [name for name in names if peer.received[name]]
        return len(received) == 5 and len(peer.received[f"{base}/processing_time_ms"]) > 4

    peer.until(send_and_look, "times of both cameras arrive")
    assert all(message.data > 0 for name in names for message in peer.received[name])
    assert all(message.data >= 2000 for message in peer.received[f"{base}/front/pipeline_latency_ms"])
    assert not peer.received[f"{base}/left/pipeline_latency_ms"]
    counts = [len(peer.received[f"{base}{of}/processing_time_ms"]) for of in ("", "/front", "/left")]
    assert counts[0] >= max(counts[1:])


def test_a_weight_gives_a_camera_more_turns_while_the_node_runs(peer: Peer, start_node: Any) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import GetParameters, SetParameters

    start_node("-p", "front.turn_weight:=4", cameras=["front", "left"])
    peer.until_active()
    names = ["front.turn_weight", "left.turn_weight"]
    answer = peer.call(GetParameters, "/perception/get_parameters", GetParameters.Request(names=names))
    assert [value.double_value for value in answer.values] == [4.0, 1.0]

    def set_to(weight: float) -> Any:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=weight)
        request = SetParameters.Request(parameters=[Parameter(name="left.turn_weight", value=value)])
        return peer.call(SetParameters, "/perception/set_parameters", request).results[0]

    assert set_to(2.0).successful
    refused = set_to(0.0)
    assert not refused.successful
    assert "left.turn_weight" in refused.reason


@pytest.mark.parametrize("value", ["0.0", "heavy"])
def test_an_invalid_weight_is_refused(peer: Peer, start_node: Any, value: str) -> None:
    start_node("-p", f"front.turn_weight:={value}")
    peer.until(lambda: "front.turn_weight" in peer.status("model").message, "the refusal names the parameter")
    assert peer.state() == "unconfigured"
