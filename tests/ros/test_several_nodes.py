"""Nodes side by side, and the parameter files of docs/several_nodes.md, which nodes are started with."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from ros_graph import NodeProcess, Peer, camera_picture, image_message
from sensor_msgs.msg import Image

from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import ParameterError

GUIDE = (ROOT / "docs" / "several_nodes.md").read_text(encoding="utf-8")
TWO_NODES, TWO_VEHICLES, NESTED = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
NAMES = (
    "model", "device", "max_age_ms", "cameras", "rear.enabled", "front.max_rate_hz",
)  # fmt: skip


def named(node: str) -> list[str]:
    namespace, _, name = node.rpartition("/")
    return ["-r", f"__node:={name}", "-r", f"__ns:={namespace or '/'}"]


@pytest.mark.parametrize(
    ("text", "node", "expected"),
    [
        (TWO_NODES, "/car1/front_perception", {"device": "cpu", "max_age_ms": 300.0}),
        (TWO_NODES, "/rear_perception", {"device": "cpu", "max_age_ms": 800.0, "model": "/opt/models/rear.onnx"}),
        (TWO_VEHICLES, "/car1/perception", {"cameras": ["front", "rear"], "rear.enabled": False}),
        (TWO_VEHICLES, "/car2/perception", {"cameras": ["front", "rear"], "front.max_rate_hz": 10.0}),
        (TWO_VEHICLES, "/perception", {}),
        (NESTED, "/car1/perception", {"cameras": ["left"]}),
    ],
)
def test_node_and_replay_read_the_files_of_the_guide_alike(
    text: str, node: str, expected: dict[str, Any], environment: dict[str, str], peer: Peer, tmp_path: Path
) -> None:
    path = tmp_path / "vehicle.yaml"
    path.write_text(text)
    if expected:
        assert read_parameter_file(path, node) == expected
    else:
        with pytest.raises(ParameterError, match=f"for the node {node}"):
            read_parameter_file(path, node)

    with NodeProcess(environment, tmp_path, {"autostart": False}, "--params-file", str(path), *named(node)) as process:
        request = GetParameters.Request(names=[name for name in NAMES if name in expected] or ["cameras"])
        answer = peer.call(GetParameters, f"{node}/get_parameters", request)
        read = [parameter_value_to_python(value) for value in answer.values]
        assert dict(zip(request.names, read, strict=True)) == (expected or {"cameras": ["front"]})
        assert "has no effect" not in process.log
        assert process.end() == 0


def test_nodes_of_two_names_and_two_namespaces_run_side_by_side(
    environment: dict[str, str], peer: Peer, tmp_path: Path, tiny_student: Path
) -> None:
    nodes = ("/front_perception", "/rear_perception", "/car1/perception", "/car2/perception")
    defaults = {"model": tiny_student, "autostart": True, "intra_op_threads": 1, "diagnostics_period_s": 0.1}
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(NodeProcess(environment, tmp_path, defaults, *named(node)))
            peer.listen(Image, f"{node}/front/segmentation")
        topics = {node: f"{node.rpartition('/')[0]}/front/image_raw" for node in nodes}
        publishers = {topic: peer.publisher(Image, topic) for topic in set(topics.values())}

        def every_node_sees() -> bool:
            for number, publisher in enumerate(publishers.values()):
                publisher.publish(
                    image_message(camera_picture(), peer.node.get_clock().now().nanoseconds, f"c{number}")
                )
            peer.spin_for(0.05)
            return all(peer.received[f"{node}/front/segmentation"] for node in nodes)

        peer.until(every_node_sees, "every node gives a result")
        frames = {topic: f"c{number}" for number, topic in enumerate(publishers)}
        for node, topic in topics.items():
            received = peer.received[f"{node}/front/segmentation"]
            assert {mask.header.frame_id for mask in received} == {frames[topic]}
            about_itself = f"{node.lstrip('/')}: node"
            peer.until(lambda about=about_itself: about in peer.statuses, f"{node} reports itself")  # type: ignore[misc]
            assert peer.statuses[about_itself].message == f"the only node called {node}"
