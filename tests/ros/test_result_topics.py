"""The tables of topics against a running node: what it publishes, what is written and what README.md lists agree."""

from __future__ import annotations

import re
from typing import Any

from checkout import ROOT
from ros_graph import Peer

from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS

# Pictures for people and the mask for image_transport: a replay draws a video instead and writes the mask itself.
NODE_ONLY = {"overlay", "overlay/compressed", "segmentation/compressed", "segmentation/color", "annotations"}
# The parameters that add topics.
EVERY_OUTPUT = {
    "scan.enabled": True, "ground_points.enabled": True, "ground_detections.enabled": True,
    "front.mounting.height_m": 1.5, "publish_confidence": True, "publish_camera_info": True,
}  # fmt: skip
TOPIC_ROW = re.compile(r"^\| `~/<camera>/([^`]+)` \| (\w+)/(\w+) \|", re.MULTILINE)


def test_the_topics_of_a_camera_are_those_of_the_tables(
    peer: Peer, start_node: Any, environment: dict[str, str], with_foxglove: dict[str, str]
) -> None:
    environment.update(with_foxglove)  # the only package of a topic that may be missing
    start_node(**EVERY_OUTPUT)
    peer.until_active()

    documented = {
        topic: f"{package}/msg/{kind}"
        for topic, package, kind in TOPIC_ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    }
    peer.until(lambda: peer.published("front") == documented, "the node publishes what README.md lists, no more")
    replayed = {row.name for row in (*FRAME_TOPICS, *LABEL_TOPICS)}
    assert documented.keys() - replayed == NODE_ONLY, "give each topic a row in FRAME_TOPICS, or name it in NODE_ONLY"
    for row in (*FRAME_TOPICS, *LABEL_TOPICS):
        assert documented[row.name] == row.type_name
