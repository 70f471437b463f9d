"""A shadow model on a real graph: it publishes figures, changes no results, and its failure is reported once."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros_graph import Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import Image
from tiny_student import write_tiny_student

T0 = 1_700_000_000_000_000_000


def set_shadow(peer: Peer, path: Path | str) -> Any:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(path))
    request = SetParameters.Request(parameters=[ParameterMessage(name="shadow_model", value=value)])
    return peer.call(SetParameters, "/perception/set_parameters", request).results[0]


def children_of(pid: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended since
            found += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def test_a_shadow_is_compared_at_low_priority_and_its_failure_is_reported_once(
    peer: Peer, start_node: Any, tiny_student: Path, tmp_path: Path
) -> None:
    peer.listen_to_results("front")
    agreements: list[DiagnosticArray] = []
    peer.node.create_subscription(DiagnosticArray, "/perception/shadow/agreement", agreements.append, 50)
    with start_node(shadow_model=tiny_student, shadow_share=1.0) as node:
        publisher = peer.matched_publisher(Image, "/front/image_raw")
        numbers = itertools.count(1)
        peer.node.create_timer(0.1, lambda: publisher.publish(image_message(camera_picture(), T0 + next(numbers))))
        peer.until(lambda: len(agreements) > 2, "frames are compared", 120)
        values = {item.key: item.value for item in agreements[-1].status[0].values}
        assert agreements[-1].status[0].name == "front"
        assert agreements[-1].header.frame_id == "front_optical"
        assert float(values["class_map_agreement"]) == 1.0
        assert values["active_boxes"] == values["shadow_boxes"] == values["matched_boxes"] == "3"
        # What was published before the first result that came may have been lost on its way here.
        peer.until(lambda: peer.results("front"), "results come")
        first_ns = stamp_ns(peer.results("front")[0])
        peer.until(
            lambda: any(stamp_ns(agreement) >= first_ns for agreement in agreements), "a later frame is compared"
        )
        compared_ns = {stamp_ns(agreement) for agreement in agreements if stamp_ns(agreement) >= first_ns}
        peer.until(lambda: compared_ns <= set(map(stamp_ns, peer.results("front"))), "each compared frame has a result")
        peer.until(lambda: peer.value("shadow", "compared") not in ("", "0"), "diagnostics tell")
        assert peer.value("shadow", "class_map_agreement.p50") == "1.0000"
        (child,) = children_of(node.process.pid)
        assert os.getpriority(os.PRIO_PROCESS, child) == 19

        assert not set_shadow(peer, tmp_path / "missing.onnx").successful
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(write_tiny_student(bad).read_bytes()[:-400])
        assert set_shadow(peer, bad).successful
        peer.until(lambda: "to be an ONNX model" in peer.status("shadow").message, "the refusal is reported", 120)
        assert peer.status("shadow").level == b"\x01"
        before = len(peer.results("front"))
        peer.until(lambda: len(peer.results("front")) > before + 5, "the active model runs on")
        assert node.log.count("no shadow:") == 1  # it is not started again

        assert set_shadow(peer, tiny_student).successful
        before = len(agreements)
        peer.until(lambda: len(agreements) > before, "it is compared again", 120)
        for _ in range(5):  # set the same model again during comparisons
            assert set_shadow(peer, tiny_student).successful
            before = len(agreements)
            peer.until(lambda before=before: len(agreements) > before, "it is compared again", 120)
        assert node.log.count("no shadow:") == 1
        assert peer.status("shadow").level == b"\x00"

        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        peer.until(lambda: not children_of(node.process.pid), "the shadow's process is ended")
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        before = len(agreements)
        peer.until(lambda: len(agreements) > before, "it is compared again", 120)
        assert set_shadow(peer, "").successful
        peer.until(lambda: not children_of(node.process.pid), "the shadow's process is ended")
        assert node.end() == 0
        assert "Traceback" not in node.log
