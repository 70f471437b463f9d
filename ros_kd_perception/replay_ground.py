"""What a replay finds on the ground, by its parameter file: the free space, and the places of objects."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ros_kd_perception.free_space.finder import FreeSpaceFinder
from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import free_space_parameters_of
from ros_kd_perception.ground_positions.locator import GroundLocator
from ros_kd_perception.ground_positions.parameters import ground_camera_declarations, ground_parameters_of
from ros_kd_perception.model.onnx_model import OnnxModel


def free_space_finder(options: argparse.Namespace, cameras: Sequence[str], model: OnnxModel) -> FreeSpaceFinder | None:
    """Return what finds the free space, as the parameter file says; None without such a file, or for other models.

    Raises:
        ValueError: The node would refuse the file, or it takes a mounting from TF.
    """
    path = options.params_file
    if path is None:
        return None

    def warn(sentence: str) -> None:
        print(f"replay_bag: {path}: {sentence}", file=sys.stderr)

    also_known = [name for camera in cameras for name in ground_camera_declarations(camera)]
    parameters = free_space_parameters_of(path, cameras, options.node, warn, also_known)
    _check_mountings(path, {camera: mounted.pose for camera, mounted in parameters.mounted.items()})
    return FreeSpaceFinder.if_possible(parameters, model.contract, warn)


def ground_locator(options: argparse.Namespace, cameras: Sequence[str], model: OnnxModel) -> GroundLocator | None:
    """Return what finds where objects stand, as the parameter file says; None if no camera has positions.

    Raises:
        ValueError: The node would refuse the file, or it takes a mounting from TF.
    """
    parameters = ground_parameters_of(options.params_file, cameras, options.node)
    _check_mountings(options.params_file, {camera: own.pose for camera, own in parameters.items()})
    return GroundLocator(parameters, model.contract) if parameters else None


def _check_mountings(path: Path, poses: Mapping[str, CameraPose | None]) -> None:
    for camera, pose in poses.items():
        if pose is None:
            raise ValueError(
                f"expected {path} to have the mounting of {camera}, got scan.mounting: tf, which a replay cannot read; "
                f"set scan.mounting: parameters and {camera}.mounting.height_m and so on"
            )
