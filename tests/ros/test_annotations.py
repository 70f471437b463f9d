"""Boxes as annotations for Foxglove: their content, with and without worker processes, and a broken package."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from built_messages import HERE, build_messages
from ros_graph import NodeProcess, Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from tiny_student import BOXES_XYXY, CONTRACT, LABELS, SCORES
from vision_msgs.msg import Detection2DArray

from ros_kd_perception.ros.topics import annotations
from ros_kd_perception.ros.topics.annotations import AnnotationBuilder, AnnotationTopics
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.structures import Detections, Perception, Timing

STAMP_NS = 1_700_000_000_250_000_000
CLASSES = CONTRACT.detections.classes
WITHOUT_PACKAGE = {
    "segmentation", "segmentation/label_info", "segmentation/compressed", "segmentation/color", "free_space",
    "detections", "detections/label_info", "overlay", "overlay/compressed",
}  # fmt: skip
# The test's own process was started without the libraries of the package.
LISTENER = """
import json, sys
import rclpy
from foxglove_msgs.msg import ImageAnnotations

def fields(value):
    if hasattr(value, "get_fields_and_field_types"):
        return {name: fields(getattr(value, name)) for name in value.get_fields_and_field_types()}
    return [fields(item) for item in value] if isinstance(value, list) else value

rclpy.init()
node, found = rclpy.create_node("viewer"), {}
for topic in sys.argv[1:]:
    keep = lambda message, topic=topic: found.update({topic: fields(message)})
    node.create_subscription(ImageAnnotations, topic, keep, 1)
while len(found) < len(sys.argv) - 1:
    rclpy.spin_once(node)
print(json.dumps(found))
"""


def without_later_fields(folder: Path) -> Path:
    """Return definitions as older versions of the package have them."""
    older = folder / "foxglove_msgs"
    older.mkdir(parents=True)
    for definition in (HERE / "foxglove_msgs").glob("*.msg"):
        lines = definition.read_text(encoding="utf-8").splitlines()
        dropped = ["foxglove_msgs/KeyValuePair[] metadata"]
        if definition.stem == "ImageAnnotations":
            dropped.append("builtin_interfaces/Time timestamp")
        kept = [line for line in lines if line not in dropped]
        (older / definition.name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    return older


@pytest.fixture(scope="module")
def older_messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    definitions = without_later_fields(tmp_path_factory.mktemp("definitions"))
    return build_messages(definitions, tmp_path_factory.mktemp("older"))


@pytest.fixture(params=["foxglove_messages", "older_messages"])
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AnnotationBuilder:
    for name in [name for name in sys.modules if name.partition(".")[0] == "foxglove_msgs"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(request.getfixturevalue(request.param))
    builder = AnnotationBuilder()
    assert hasattr(builder.annotations(), "timestamp") == (request.param == "foxglove_messages")
    return builder


def perception_of(found: Detections) -> Perception:
    return Perception("front", STAMP_NS, "optical", None, found, None, Timing(1, 1, 1))


def test_a_box_becomes_a_rectangle_and_a_line_of_text(builder: AnnotationBuilder) -> None:
    boxes = np.array([[8, 80, 40, 104.5], [50, 4, 90, 30]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.75], np.float32), np.array([0, 1], np.int32), np.array([7, 0], np.int32))
    message = builder.build(perception_of(found), CLASSES, 720)
    rectangles = [[(point.x, point.y) for point in shape.points] for shape in message.points]
    assert rectangles == [
        [(8, 80), (40, 80), (40, 104.5), (8, 104.5)],
        [(50, 4), (90, 4), (90, 30), (50, 30)],
    ]
    assert [text.text for text in message.texts] == [f"{CLASSES[0].name} 0.90 #7", f"{CLASSES[1].name} 0.75"]
    assert [(text.position.x, text.position.y) for text in message.texts] == [(8, 80), (50, 16)]
    for shape, text, info in zip(message.points, message.texts, CLASSES, strict=False):
        assert shape.type == 2
        assert shape.thickness == 2
        for color in (shape.outline_color, text.background_color):
            assert [round(255 * share) for share in (color.r, color.g, color.b, color.a)] == [*info.color_rgb, 255]
    for stamped in [*message.points, *message.texts, *([message] if hasattr(message, "timestamp") else [])]:
        assert (stamped.timestamp.sec, stamped.timestamp.nanosec) == divmod(STAMP_NS, 10**9)


def test_no_box_and_an_unknown_class(builder: AnnotationBuilder) -> None:
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    message = builder.build(perception_of(none), CLASSES, 720)
    assert (message.points, message.texts, message.circles) == ([], [], [])
    one = Detections(BOXES_XYXY[:1], SCORES[:1], np.array([250], np.int32))
    assert builder.build(perception_of(one), CLASSES, 720).texts[0].text == "unknown 0.90"


def test_the_same_annotations_with_and_without_worker_processes(
    peer: Peer,
    start_node: Callable[..., NodeProcess],
    environment: dict[str, str],
    with_foxglove: dict[str, str],
) -> None:
    environment.update(with_foxglove)
    topics = [f"/perception/{camera}/annotations" for camera in ("front", "rear")]
    numbers = itertools.count()

    def annotations_with(processes: int) -> dict[str, Any]:
        with start_node(cameras=["front", "rear"], preparation_processes=processes) as node:
            publishers = [peer.matched_publisher(Image, f"/{camera}/image_raw") for camera in ("front", "rear")]
            viewer = subprocess.Popen(
                [sys.executable, "-c", LISTENER, *topics], env=environment, stdout=subprocess.PIPE, text=True
            )
            try:

                def send() -> bool:
                    for publisher in publishers:
                        publisher.publish(image_message(camera_picture(64, 96), STAMP_NS + 10**8 * next(numbers)))
                    peer.spin_for(0.1)
                    return viewer.poll() is not None

                peer.until(send, "the viewer has a message of each camera, and vanishes")
                written, _ = viewer.communicate()
            finally:
                viewer.kill()
            peer.listen(Detection2DArray, "/perception/front/detections")
            before = len(peer.results("front", "detections"))
            peer.until(lambda: send() and len(peer.results("front", "detections")) > before, "the node goes on")
            for publisher in publishers:
                peer.node.destroy_publisher(publisher)
            assert node.end() == 0
            assert "Traceback" not in node.log
        peer.forget_statuses()
        return json.loads(written)

    without, with_workers = (without_stamps(annotations_with(processes)) for processes in (0, 2))
    assert without == with_workers
    for topic in topics:
        texts = [text["text"] for text in without[topic]["texts"]]
        names = {info.id: info.name for info in CLASSES}
        shown = [(names[label], score) for label, score in zip(LABELS.tolist(), SCORES.tolist(), strict=True)]
        assert texts == [f"{name} {score:.2f}" for name, score in shown if score > 0.3]


def without_stamps(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_stamps(item) for key, item in value.items() if key != "timestamp"}
    return [without_stamps(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("content", ["raise RuntimeError('broken')", ""])
def test_a_broken_package_costs_one_warning(
    content: str, peer: Peer, start_node: Callable[..., NodeProcess], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "site" / "foxglove_msgs" / "msg").mkdir(parents=True)
    (tmp_path / "site" / "foxglove_msgs" / "__init__.py").touch()
    (tmp_path / "site" / "foxglove_msgs" / "msg" / "__init__.py").write_text(content, encoding="utf-8")
    environment["PYTHONPATH"] += f":{tmp_path / 'site'}"
    with start_node() as node:
        peer.until_active()
        peer.until(lambda: peer.published("front").keys() == WITHOUT_PACKAGE, "all topics but annotations are there")
        assert node.log.count("expected the ROS 2 package foxglove_msgs to be usable") == 1
        assert node.end() == 0
        assert "Traceback" not in node.log


def test_a_folder_of_the_same_name_is_no_package(
    peer: Peer, start_node: Callable[..., NodeProcess], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "foxglove_msgs" / "msg").mkdir(parents=True)
    environment["PYTHONPATH"] += f":{tmp_path}"
    with start_node() as node:
        peer.until_active()
        assert "foxglove_msgs" not in node.log
        assert node.end() == 0


def test_libraries_that_do_not_load_cost_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("libfoxglove_msgs.so: cannot open")

    node: Any = SimpleNamespace(create_lifecycle_publisher=refuse)
    installed = SimpleNamespace(annotations=object)
    monkeypatch.setattr(annotations, "_installed_builder", lambda warn: installed)
    warnings: list[str] = []
    message_builder: Any = None
    AnnotationTopics(SinkContext(node, ["front"], {}, CONTRACT, message_builder, warnings.append))
    assert len(warnings) == 1
    assert "libfoxglove_msgs.so: cannot open; reinstall" in warnings[0]
