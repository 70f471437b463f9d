"""config/nav2_costmap.yaml: its names are those of nav2's sources and of the layer's, its topics those of the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from checkout import ROOT

from ros_kd_perception.messages.builder import UNLABELED_NAME
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS
from ros_kd_perception.model.contract import CONTRACT_KEY, ModelContract
from ros_kd_perception.model.onnx_file import read_model_file

DOCUMENT = yaml.safe_load((ROOT / "config" / "nav2_costmap.yaml").read_text(encoding="utf-8"))
COSTMAP: dict[str, Any] = DOCUMENT["local_costmap"]["local_costmap"]["ros__parameters"]

# Names and types that these sources declare, read from them on the branches humble (1.1.20), jazzy (1.3.13), kilted
# (1.4.2) and main (1.5.0) of github.com/ros-navigation/navigation2. Only names that all four have are listed.
# nav2_costmap_2d/src/costmap_2d_ros.cpp:
NAV2_COSTMAP = {
    "global_frame": str, "robot_base_frame": str, "update_frequency": float, "publish_frequency": float,
    "rolling_window": bool, "width": int, "height": int, "resolution": float, "robot_radius": float, "plugins": list,
    "track_unknown_space": bool, "footprint_padding": float, "transform_tolerance": float,
}  # fmt: skip
# nav2_costmap_2d/plugins/obstacle_layer.cpp, the layer and each of its sources:
NAV2_OBSTACLE_LAYER = {
    "enabled": bool, "footprint_clearing_enabled": bool, "min_obstacle_height": float, "max_obstacle_height": float,
    "combination_method": int, "observation_sources": str,
}  # fmt: skip
NAV2_OBSTACLE_SOURCE = {
    "topic": str, "sensor_frame": str, "observation_persistence": float, "expected_update_rate": float,
    "data_type": str, "min_obstacle_height": float, "max_obstacle_height": float, "inf_is_valid": bool,
    "marking": bool, "clearing": bool, "obstacle_max_range": float, "obstacle_min_range": float,
    "raytrace_max_range": float, "raytrace_min_range": float,
}  # fmt: skip
# nav2_costmap_2d/plugins/inflation_layer.cpp:
NAV2_INFLATION_LAYER = {"enabled": bool, "inflation_radius": float, "cost_scaling_factor": float}
# src/semantic_segmentation_layer.cpp, on the branches humble, jazzy and rolling (all 1.0.0, of April 2026) of
# github.com/kiwicampus/semantic_segmentation_layer: the layer, each of its sources, each class type of a source.
SEMANTIC_LAYER = {
    "enabled": bool, "combination_method": int, "observation_sources": str, "publish_debug_topics": bool,
}  # fmt: skip
SEMANTIC_SOURCE = {
    "segmentation_topic": str, "confidence_topic": str, "labels_topic": str, "pointcloud_topic": str,
    "observation_persistence": float, "expected_update_rate": float, "class_types": list,
    "max_obstacle_distance": float, "min_obstacle_distance": float, "tile_map_decay_time": float,
    "visualize_tile_map": bool, "use_cost_selection": bool,
}  # fmt: skip
SEMANTIC_CLASS_TYPE = {
    "classes": list, "base_cost": int, "max_cost": int, "mark_confidence": int, "samples_to_max_cost": int,
    "dominant_priority": bool,
}  # fmt: skip
PLUGINS = {
    # costmap_plugins.xml of both repositories
    "semantic_segmentation_layer::SemanticSegmentationLayer": SEMANTIC_LAYER,
    "nav2_costmap_2d::ObstacleLayer": NAV2_OBSTACLE_LAYER,
    "nav2_costmap_2d::InflationLayer": NAV2_INFLATION_LAYER,
}
SEMANTIC, OBSTACLES = COSTMAP["semantic_layer"], COSTMAP["obstacle_layer"]


def sections() -> Iterator[tuple[str, dict[str, Any], dict[str, type], set[str]]]:
    """Yield each section with the names that it may have, and those of the sections within it."""
    yield "costmap", COSTMAP, NAV2_COSTMAP, set(COSTMAP["plugins"])
    for name in COSTMAP["plugins"]:
        layer = COSTMAP[name]
        sources = str(layer.get("observation_sources", "")).split()
        yield name, layer, PLUGINS[layer["plugin"]] | {"plugin": str}, set(sources)
    for source in SEMANTIC["observation_sources"].split():
        yield source, SEMANTIC[source], SEMANTIC_SOURCE, set(SEMANTIC[source]["class_types"])
        for kind in SEMANTIC[source]["class_types"]:
            yield kind, SEMANTIC[source][kind], SEMANTIC_CLASS_TYPE, set()
    for source in OBSTACLES["observation_sources"].split():
        yield source, OBSTACLES[source], NAV2_OBSTACLE_SOURCE, set()


SECTIONS = list(sections())


@pytest.mark.parametrize(
    ("section", "known", "within"), [row[1:] for row in SECTIONS], ids=[row[0] for row in SECTIONS]
)
def test_every_name_is_one_that_nav2_or_the_layer_declares(
    section: dict[str, Any], known: dict[str, type], within: set[str]
) -> None:
    assert set(section) - within <= set(known)
    assert within <= set(section)
    for name in set(section) - within:
        assert type(section[name]) is known[name], f"{name} must be of the type that is declared, or nav2 ends"


def test_topics_are_those_of_the_node() -> None:
    types = {f"/perception/front/{row.name}": row.type_name for row in (*FRAME_TOPICS, *LABEL_TOPICS)}
    source = SEMANTIC["front"]
    assert types[source["segmentation_topic"]] == types[source["confidence_topic"]] == "sensor_msgs/msg/Image"
    assert types[source["pointcloud_topic"]] == "sensor_msgs/msg/PointCloud2"
    assert types[source["labels_topic"]] == "vision_msgs/msg/LabelInfo"
    scan = OBSTACLES["front_scan"]
    assert types[scan["topic"]] == f"sensor_msgs/msg/{scan['data_type']}"


def test_every_class_of_the_shipped_student_has_a_cost() -> None:
    source = SEMANTIC["front"]
    listed = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    metadata = read_model_file(ROOT / "models" / "student.onnx").metadata
    contract = ModelContract.from_json(metadata[CONTRACT_KEY])
    assert sorted(listed) == sorted([*(c.name for c in contract.segmentation_classes), UNLABELED_NAME])
    for kind in source["class_types"]:
        assert 0 <= source[kind]["base_cost"] <= source[kind]["max_cost"] <= 254  # 255 is NO_INFORMATION in nav2
        assert 0 <= source[kind]["mark_confidence"] <= 255
    assert OBSTACLES["front_scan"]["obstacle_max_range"] < OBSTACLES["front_scan"]["raytrace_max_range"]
