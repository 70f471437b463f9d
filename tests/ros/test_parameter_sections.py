"""Sections of a parameter file: the replay uses the same ones as the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node

from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import ParameterError

SECTIONS = (
    "/**", "/*", "/perception", "perception", "/**/perception", "/*/perception", "/car1/perception", "car1/perception",
    "/car1/**", "/car1/*", "/car1/*/perception", "/*/*", "/**/car1/perception", "/**/sub/*", "/**/**",
    "/car2/perception", "/lidar",
)  # fmt: skip


@pytest.fixture(scope="module")
def context() -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.mark.parametrize("namespace", ["", "/car1", "/car1/sub"])
def test_the_replay_takes_the_sections_that_rcl_gives_the_node(
    context: rclpy.Context, tmp_path: Path, namespace: str
) -> None:
    path = tmp_path / "vehicle.yaml"
    sections = [
        f"'{s}': {{ros__parameters: {{n{number}: {number}, last: {number}}}}}" for number, s in enumerate(SECTIONS)
    ]
    path.write_text("\n".join(sections))
    node = Node(
        "perception", context=context, namespace=namespace, start_parameter_services=False,
        cli_args=["--ros-args", "--params-file", str(path)], automatically_declare_parameters_from_overrides=True,
    )  # fmt: skip
    try:
        by_rcl = {name: value.value for name, value in node.get_parameters_by_prefix("").items() if name[0] in "nl"}
    finally:
        node.destroy_node()
    assert len(by_rcl) > 4
    assert read_parameter_file(path, f"{namespace}/perception") == by_rcl
    with pytest.raises(ParameterError, match="--node"):
        read_parameter_file(path)
