"""A node with worker processes is one node to its users: results, names, parameters, transitions and refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from ros_graph import LATCHED, NodeProcess, Peer, camera_picture, image_message, stamp_ns
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tiny_student import contract_with, write_tiny_model
from vision_msgs.msg import Detection2DArray, LabelInfo

T0 = 1_700_000_000_123_456_789
STEP_NS = 10**8
StartNode = Callable[..., NodeProcess]


def process_ids(peer: Peer) -> list[int]:
    return [int(word) for word in peer.value("workers", "process_ids").split()]


def visible_nodes(peer: Peer) -> list[str]:
    """Return what `ros2 node list` shows of the perception node."""
    return [name for name in peer.node.get_node_names() if "perception" in name and not name.startswith("_")]


def hidden_nodes(peer: Peer) -> list[str]:
    return [name for name in peer.node.get_node_names() if name.startswith("_perception_worker_")]


def test_results_labels_and_names_are_those_of_a_node_without_workers(peer: Peer, start_node: StartNode) -> None:
    pictures = {"front": camera_picture(240, 320), "rear": camera_picture(seed=1)}
    peer.listen_to_results(*pictures)
    results: list[list[Any]] = []
    for processes in (0, 1):
        for messages in peer.received.values():
            messages.clear()
        peer.forget_statuses()
        with start_node(cameras=[*pictures], preparation_processes=processes) as node:
            found: list[Any] = []
            for camera, picture in pictures.items():
                publisher = peer.matched_publisher(Image, f"/{camera}/image_raw")
                frame_id = f"{camera}_optical/ä"
                mask, boxes = peer.send_until_both(
                    publisher,
                    lambda n, picture=picture, frame_id=frame_id: image_message(picture, T0 + n * STEP_NS, frame_id),
                    camera,
                )
                stamp = stamp_ns(mask)
                assert (stamp - T0) % STEP_NS == 0
                assert mask.header.frame_id == frame_id
                mask.header.stamp = boxes.header.stamp = Image().header.stamp
                for box in boxes.detections:
                    box.header.stamp = Image().header.stamp
                labels = [peer.latest(camera, f"{kind}/label_info") for kind in ("segmentation", "detections")]
                found += [mask, boxes, *labels]
                peer.node.destroy_publisher(publisher)
            results.append(found)
            peer.until(lambda: visible_nodes(peer) == ["perception"], "one node is visible")
            wanted = 2 * processes  # with the one that stands by
            peer.until(lambda wanted=wanted: len(hidden_nodes(peer)) == wanted, "worker nodes are hidden, not missing")
            assert node.end() == 0
            assert "Traceback" not in node.log
    for without, with_workers in zip(*results, strict=True):
        for message in (without, with_workers):
            if isinstance(message, LabelInfo):
                message.header.stamp = Image().header.stamp
        assert without == with_workers


def test_names_of_the_node_and_remapped_topics_hold_in_worker_processes(peer: Peer, start_node: StartNode) -> None:
    start_node(
        *("-r", "__ns:=/car", "-r", "__node:=eyes"),
        *("-r", "front/image_raw:=/driver/picture", "-r", "~/front/segmentation:=/masks/front"),
        preparation_processes=1,
    )
    topics = ("/masks/front", "/car/eyes/front/detections")
    peer.listen(Image, topics[0])
    peer.listen(Detection2DArray, topics[1])
    peer.listen(LabelInfo, "/car/eyes/front/segmentation/label_info", LATCHED)
    publisher = peer.matched_publisher(Image, "/driver/picture")

    def send_and_look() -> bool:
        publisher.publish(image_message(camera_picture(), T0 + len(peer.received["sent"]) * STEP_NS))
        peer.received["sent"].append(None)
        peer.spin_for(0.05)
        return all(peer.received[topic] for topic in topics)

    peer.until(send_and_look, "results come by their new names")
    peer.until(lambda: peer.received["/car/eyes/front/segmentation/label_info"], "labels come")

    def full_names() -> list[str]:
        return [f"{space}/{name}" for name, space in peer.node.get_node_names_and_namespaces()]

    peer.until(lambda: "/car/_eyes_worker_1" in full_names(), "the worker's node has its name")


def test_parameters_and_transitions_reach_the_processes(peer: Peer, start_node: StartNode) -> None:
    peer.listen_to_results("front")
    node = start_node(preparation_processes=1)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    numbers: list[int] = []

    def send(_: int) -> Image:
        numbers.append(len(numbers))
        return image_message(camera_picture(seed=len(numbers)), T0 + len(numbers) * STEP_NS)

    def boxes_of_next_result() -> Sequence[Any]:
        _, boxes = peer.send_until_both(publisher, send, "front")
        return boxes.detections

    assert len(boxes_of_next_result()) == 3  # 0.9, 0.8, 0.7
    assert peer.set_parameter("score_threshold", 0.75).successful
    assert len(boxes_of_next_result()) == 2

    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    peer.until(lambda: not publisher.get_subscription_count(), "the subscription is gone")
    workers = process_ids(peer)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert len(boxes_of_next_result()) == 2
    assert process_ids(peer) == workers  # they stay with the model

    assert peer.set_parameter("front.enabled", False).successful
    peer.until(lambda: not publisher.get_subscription_count(), "the subscription is gone")
    assert peer.set_parameter("front.enabled", True).successful
    boxes_of_next_result()
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    assert not any(Path(f"/proc/{process}").exists() for process in workers)
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    boxes_of_next_result()
    assert "Traceback" not in node.log


def test_a_model_that_one_process_cannot_use_is_refused_for_all(
    peer: Peer, start_node: StartNode, tmp_path: Path
) -> None:
    masks_alone = write_tiny_model(tmp_path / "masks.onnx", contract_with(name="masks", detections=None))
    cameras = ["front", "left"]
    positions = ("-p", "left.ground_detections.enabled:=true", "-p", "left.mounting.height_m:=1.5")
    start_node(*positions, cameras=cameras, preparation_processes=len(cameras))
    peer.until_active()
    assert peer.set_parameter("model", str(masks_alone)).successful

    answer = peer.call(Trigger, "/perception/reload_model", Trigger.Request())

    assert not answer.success
    assert "expected a model that does detection for ground_detections.enabled" in answer.message
    peer.until(lambda: "the last reload: refused" in peer.status("model").message, "the old model runs on")
    assert peer.value("workers", "ended") == "0"
    assert peer.value("workers", "unserved_cameras") == ""


def test_images_of_changing_size_at_a_high_rate_are_counted(peer: Peer, start_node: StartNode) -> None:
    peer.listen_to_results("front")
    node = start_node(preparation_processes=1)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + n), "front")
    for number in range(1, 1001):
        picture = camera_picture(16 + number % 50, 16 + number % 70, seed=number % 5)
        publisher.publish(image_message(picture, T0 + number * STEP_NS))
        peer.spin_for(0.001)

    def is_worked_off() -> bool:
        accounted = peer.count("front", "published") + sum(peer.drops("front").values())
        return peer.count("front", "received") == accounted and peer.count("front", "received") > 500

    peer.until(is_worked_off, "every image is counted")
    assert set(peer.drops("front")) <= {"replaced", "lost"}
    sizes = {(mask.height, mask.width) for mask in peer.results("front")}
    assert len(sizes) > 5
    assert peer.value("workers", "ended") == "0"
    assert "Traceback" not in node.log


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("ulimit -n 28", "expected to start 4 worker processes, got: Too many open files; raise the limit"),
        ("ulimit -f 20", "expected 1 MiB of free memory for frames, got: File too large; free some memory"),
    ],
    ids=["files", "memory"],
)
def test_what_the_machine_does_not_have_is_said(
    environment: dict[str, str], tmp_path: Path, tiny_student: Path, peer: Peer, limit: str, words: str
) -> None:
    parameters = [f"model:={tiny_student}", "autostart:=true", "cameras:=[front, left, right]"]
    parameters += ["preparation_processes:='3'", "diagnostics_period_s:=0.1"]
    arguments = " ".join(f'-p "{parameter}"' for parameter in parameters)
    node = f"{limit}; exec {sys.executable} -m ros_kd_perception.ros.perception_node --ros-args {arguments}"
    with subprocess.Popen(["bash", "-c", node], env=environment, stderr=subprocess.DEVNULL) as process:
        peer.until(lambda: "not configured" in peer.status("model").message, "it is refused")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        process.terminate()
        assert process.wait(30) == 0
    assert words in peer.status("model").message
    assert children == ""
