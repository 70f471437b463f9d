"""The parameters of one camera, on a real graph: set at the start, changed at run time, refused in one sentence."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from ros_graph import RELIABLE, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

T0 = 1_700_000_000 * 10**9
SECOND_NS = 10**9


def mask_of(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_a_region_of_interest_limits_the_results_and_changes_at_run_time(peer: Peer, start_node: Any) -> None:
    start_node("-p", "front.region_of_interest:=[32, 16, 96, 64]")
    peer.listen_to_results("front")
    publisher = peer.matched_publisher(Image, "/front/image_raw")

    mask = mask_of(peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + n), "front"))

    assert mask.shape == (96, 160)
    assert (mask[16:80, 32:128] < 255).all()
    assert np.count_nonzero(mask < 255) == 64 * 96
    centers = [d.bbox.center.position for d in peer.latest("front", "detections").detections]
    assert centers
    assert all(32 < center.x < 128 and 16 < center.y < 80 for center in centers)

    assert peer.set_parameter("front.region_of_interest", [0, 0, 0, 0]).successful
    whole = peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + SECOND_NS + n), "front")
    assert (mask_of(whole) < 255).all()

    refused = peer.set_parameter("front.region_of_interest", [0, 0, 160, 0])
    assert not refused.successful
    assert "front.region_of_interest: expected a region of interest [x, y, width, height]" in refused.reason


def test_frames_that_do_not_hold_the_region_are_dropped_and_counted(peer: Peer, start_node: Any) -> None:
    node = start_node("-p", "front.region_of_interest:=[100, 0, 100, 50]")
    peer.listen_to_results("front")
    publisher = peer.matched_publisher(Image, "/front/image_raw")

    def send_and_look() -> bool:
        publisher.publish(image_message(camera_picture(96, 160), T0 + peer.count("front", "received")))
        peer.spin_for(0.05)
        return "columns 100 to 200 and rows 0 to 50, got 160x96" in peer.status("front").message

    peer.until(send_and_look, "frames that are too small are reported")
    assert peer.drops("front")["bad_size"]

    large = peer.send_until_result(
        publisher, lambda n: image_message(camera_picture(96, 200), T0 + SECOND_NS + n), "front"
    )
    assert np.count_nonzero(mask_of(large) < 255) == 50 * 100
    assert stamp_ns(large) > T0 + SECOND_NS
    assert "Traceback" not in node.log


def test_a_shadow_model_sees_the_region_that_the_active_model_saw(
    peer: Peer, start_node: Any, tiny_student: Path
) -> None:
    agreements: list[DiagnosticArray] = []
    peer.node.create_subscription(DiagnosticArray, "/perception/shadow/agreement", agreements.append, 50)
    start_node("-p", "front.region_of_interest:=[32, 16, 96, 64]", shadow_model=tiny_student, shadow_share=1.0)
    publisher, numbers = peer.matched_publisher(Image, "/front/image_raw"), itertools.count(1)
    peer.node.create_timer(0.1, lambda: publisher.publish(image_message(camera_picture(), T0 + next(numbers))))
    peer.until(lambda: agreements, "frames are compared", 120)
    values = {item.key: item.value for item in agreements[0].status[0].values}
    assert float(values["class_map_agreement"]) == 1.0
    assert values["active_boxes"] == values["shadow_boxes"] == values["matched_boxes"] == "4"


def test_a_camera_has_a_threshold_of_its_own_that_changes_at_run_time_and_survives_a_reload(
    peer: Peer, start_node: Any
) -> None:
    start_node("-p", "front.score_threshold:=0.85", cameras=["front", "left"])
    peer.listen_to_results("front", "left")
    publishers = {c: peer.matched_publisher(Image, f"/{c}/image_raw") for c in ("front", "left")}
    numbers = itertools.count(1)

    def boxes_of(camera: str) -> int:
        found = peer.results(camera, "detections")
        mask = peer.send_until_result(
            publishers[camera], lambda _: image_message(camera_picture(), T0 + next(numbers)), camera
        )
        peer.until(lambda: found and stamp_ns(found[-1]) >= stamp_ns(mask), "the boxes of the frame come")
        return len(found[-1].detections)

    def thresholds() -> list[float]:
        return [round(peer.latest(c, "detections/label_info").threshold, 3) for c in ("front", "left")]

    assert (boxes_of("front"), boxes_of("left")) == (1, 3)
    assert thresholds() == [0.85, 0.3]

    assert peer.set_parameter("score_threshold", 0.75).successful
    assert peer.set_parameter("front.score_threshold", 0.0).successful
    peer.until(lambda: thresholds() == [0.0, 0.75], "the labels show both thresholds")
    assert (boxes_of("front"), boxes_of("left")) == (4, 2)

    assert peer.call(Trigger, "/perception/reload_model", Trigger.Request()).success
    assert (boxes_of("front"), boxes_of("left")) == (4, 2)
    assert thresholds() == [0.0, 0.75]

    assert peer.set_parameter("front.score_threshold", -1.0).successful
    peer.until(lambda: thresholds() == [0.75, 0.75], "the threshold of the node applies")
    assert boxes_of("front") == 2


def test_a_camera_is_enabled_and_disabled_at_run_time(peer: Peer, start_node: Any) -> None:
    node = start_node("-p", "front.enabled:=false", cameras=["front", "left"], silence_timeout_ms=100.0)
    peer.listen_to_results("front", "left")
    left = peer.matched_publisher(Image, "/left/image_raw")
    front = peer.publisher(Image, "/front/image_raw")
    numbers = itertools.count(1)
    timer = peer.node.create_timer(0.02, lambda: left.publish(image_message(camera_picture(), T0 + next(numbers))))

    def send(_: int) -> Image:
        return image_message(camera_picture(), T0 + next(numbers))

    def left_goes_on() -> None:
        before = len(peer.results("left"))
        peer.until(lambda: len(peer.results("left")) > before + 3, "the other camera goes on")

    def disabled() -> bool:
        return peer.value("front", "state") == "disabled" and peer.status("front").level == b"\x00"

    peer.until(disabled, "the camera is disabled from the start")
    left_goes_on()
    assert front.get_subscription_count() == 0
    assert peer.node.count_publishers("/perception/front/segmentation") == 1  # its topics stay

    assert peer.set_parameter("front.enabled", True).successful
    peer.until(front.get_subscription_count, "the node subscribes to it")
    peer.send_until_result(front, send, "front")

    assert peer.set_parameter("front.enabled", False).successful
    peer.until(lambda: not front.get_subscription_count(), "the node unsubscribes")
    peer.until(disabled, "it is disabled again")
    seen = len(peer.results("front"))
    front.publish(send(0))
    left_goes_on()
    assert len(peer.results("front")) == seen
    received = peer.count("front", "received")
    assert received == peer.count("front", "published") + sum(peer.drops("front").values())

    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    left_goes_on()
    assert front.get_subscription_count() == 0  # it stays disabled
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert peer.set_parameter("front.enabled", True).successful
    peer.spin_for(0.2)
    assert front.get_subscription_count() == 0
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    peer.send_until_result(front, send, "front")
    timer.cancel()
    assert "Traceback" not in node.log


def test_a_limit_on_the_rate_leaves_frames_out_and_changes_at_run_time(peer: Peer, start_node: Any) -> None:
    start_node("-p", "front.max_rate_hz:=10.0", cameras=["front"])
    times: list[float] = []
    peer.node.create_subscription(
        Image, "/perception/front/segmentation", lambda _: times.append(time.monotonic()), RELIABLE
    )
    publisher, numbers = peer.matched_publisher(Image, "/front/image_raw"), itertools.count(1)
    pictures = [camera_picture(seed=seed) for seed in range(7)]

    def send() -> None:
        publisher.publish(image_message(pictures[next(numbers) % 7], time.time_ns()))

    peer.node.create_timer(1 / 40, send)

    peer.until(lambda: len(times) > 20, "frames are perceived")
    assert 20 / (times[20] - times[0]) < 12  # of 40; tests/scheduling has the exact rates
    peer.until(lambda: peer.drops("front").get("over_rate", 0) > 20, "frames are left out")
    assert peer.value("front", "max_rate_hz") == "10"
    assert peer.value("front", "state") == "ok"
    assert "frames/s, max_rate_hz is 10" in peer.status("front").message

    assert peer.set_parameter("front.max_rate_hz", 0.0).successful
    peer.until(lambda: 15 / (times[-1] - times[-16]) > 15, "frames are perceived without a limit")

    refused = peer.set_parameter("front.max_rate_hz", -1.0)
    assert not refused.successful
    assert "front.max_rate_hz" in refused.reason


@pytest.mark.parametrize("value", ["[0, 0, 10]", "[0.5, 0.0, 10.0, 10.0]", "everything"])
def test_an_invalid_region_is_refused(peer: Peer, start_node: Any, value: str) -> None:
    start_node("-p", f"front.region_of_interest:={value}")
    peer.until(
        lambda: "front.region_of_interest to be a list of four integers" in peer.status("model").message,
        "the refusal names the parameter",
    )
    assert peer.state() == "unconfigured"


@pytest.mark.parametrize("name", ["scan", "ground_points", "ground_detections"])
def test_a_camera_with_the_name_of_a_group_of_parameters_is_refused_with_a_sentence(
    peer: Peer, start_node: Any, name: str
) -> None:
    node = start_node(cameras=["front", name])
    peer.until(lambda: peer.status("model").message.startswith("not configured"), "it refuses")
    assert f"got {name!r}, whose {name}.enabled is a parameter of the node" in peer.status("model").message
    assert "Traceback" not in node.log
