"""Models of one task on a real graph: which topics there are, and what a reload between models of other tasks says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros_graph import Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tiny_student import CONTRACT, SCORES, contract_with, expected_class_map, give_duplicates, write_tiny_model

NUMBERS = itertools.count(1)
OVERLAYS = ("overlay", "overlay/compressed")
MASKS = ("segmentation/compressed", "segmentation/color")
T0 = 1_700_000_000_000_000_000
SEGMENTATION = contract_with(name="masks", detections=None)
DETECTION = contract_with(
    name="boxes",
    class_map=None,
    detections=replace(CONTRACT.detections, nms_iou=0.6),
    input=replace(CONTRACT.input, resize="stretch", batch=1),
)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "masks.onnx", SEGMENTATION)


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "boxes.onnx", DETECTION, give_duplicates)


def topics(peer: Peer) -> set[str]:
    """Return the topics that the node publishes for its camera."""
    return set(peer.published("front"))


def send_until(peer: Peer, publisher: Any, kind: str) -> Any:
    """Publish pictures of the network's size until a result comes, and return it."""
    before, picture = len(peer.results("front", kind)), camera_picture(64, 96)

    def came() -> bool:
        publisher.publish(image_message(picture, T0 + next(NUMBERS)))
        peer.spin_for(0.05)
        return len(peer.results("front", kind)) > before

    peer.until(came, f"a message on {kind} comes")
    return peer.results("front", kind)[-1]


def reload(peer: Peer, path: Path) -> Any:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(path))
    request = SetParameters.Request(parameters=[ParameterMessage(name="model", value=value)])
    assert peer.call(SetParameters, "/perception/set_parameters", request).results[0].successful
    return peer.call(Trigger, "/perception/reload_model", Trigger.Request())


def label_names(peer: Peer, kind: str) -> list[str]:
    return [c.class_name for c in peer.latest("front", f"{kind}/label_info").class_map]


def test_a_node_that_segments_only_has_no_topics_of_boxes(
    peer: Peer, start_node: Any, segmentation: Path, environment: dict[str, str], with_foxglove: dict[str, str]
) -> None:
    environment.update(with_foxglove)
    peer.listen_to_results("front")
    node = start_node("-p", "drivable_classes:=[pavement]", "-p", "track_objects:=true", model=segmentation)
    publisher = peer.matched_publisher(Image, "/front/image_raw")

    mask = send_until(peer, publisher, "segmentation")

    pixels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
    blocks = expected_class_map(camera_picture(64, 96)).repeat(4, axis=0).repeat(4, axis=1)
    assert (pixels == blocks).mean() > 0.99
    found = {"segmentation", "segmentation/label_info", *MASKS, "free_space", *OVERLAYS}
    peer.until(lambda: topics(peer) == found, "the topics of segmentation are there, and no others")
    assert "track_objects has no effect: expected a model that does detection" in node.log
    peer.until(lambda: peer.value("model", "tasks") == "segmentation", "diagnostics name the task")
    assert peer.value("model", "golden_box_iou") == peer.value("model", "score_threshold") == ""


def test_a_model_without_the_free_space_that_was_asked_for_is_refused(
    peer: Peer, start_node: Any, segmentation: Path, detection: Path
) -> None:
    start_node("-p", "drivable_classes:=[pavement]", model=segmentation)
    peer.until_active()

    answer = reload(peer, detection)

    assert not answer.success
    assert "expected a model that does segmentation for free space, got boxes, which does detection" in answer.message


def test_a_reload_ends_one_task_and_begins_another(
    peer: Peer,
    start_node: Any,
    segmentation: Path,
    detection: Path,
    environment: dict[str, str],
    with_foxglove: dict[str, str],
) -> None:
    environment.update(with_foxglove)
    peer.listen_to_results("front")
    node = start_node("-p", "publish_confidence:=true", "-p", "publish_camera_info:=true", model=detection)
    publisher = peer.matched_publisher(Image, "/front/image_raw")

    boxes = send_until(peer, publisher, "detections")

    found = {"detections", "detections/label_info", "annotations", *OVERLAYS}
    peer.until(lambda: topics(peer) == found, "the topics of detection are there, and no others")
    assert [d.results[0].hypothesis.class_id for d in boxes.detections] == ["0", "1", "2"]  # without the duplicate
    assert np.allclose([d.results[0].hypothesis.score for d in boxes.detections], SCORES[[0, 2, 3]])
    assert "no free space: expected a model that does segmentation" in node.log
    for name in ("publish_confidence", "publish_camera_info"):
        assert f"{name} has no effect: expected a model that does segmentation, got boxes, which does det" in node.log
    assert label_names(peer, "detections") == [c.name for c in CONTRACT.detections.classes]

    answer = reload(peer, segmentation)

    assert answer.success, answer.message
    assert "it does segmentation only; ~/<camera>/detections falls silent" in answer.message
    send_until(peer, publisher, "segmentation")
    ended = len(peer.results("front", "detections"))
    send_until(peer, publisher, "segmentation")
    assert len(peer.results("front", "detections")) == ended
    assert label_names(peer, "detections") == []
    assert label_names(peer, "segmentation") == [*(c.name for c in CONTRACT.class_map.classes), "unlabeled"]
    new = {"segmentation", "segmentation/label_info", *MASKS, "free_space", "confidence", "camera_info"}
    peer.until(lambda: topics(peer) == found | new, "the topics of segmentation have come")

    answer = reload(peer, detection)

    assert answer.success, answer.message
    assert "~/<camera>/segmentation falls silent; no free space: expected" in answer.message
    send_until(peer, publisher, "detections")
    peer.until(lambda: label_names(peer, "segmentation") == [], "the labels of the mask are empty")
