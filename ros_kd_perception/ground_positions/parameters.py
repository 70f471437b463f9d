"""The parameters of positions on the ground. The node and the replay share this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_kd_perception.free_space.ground_scan import CameraPose
from ros_kd_perception.free_space.parameters import FREE_SPACE_PARAMETERS, pose_in_parameters
from ros_kd_perception.free_space.parameters import camera_declarations as free_space_declarations
from ros_kd_perception.ground_positions.ground_camera import ErrorModel
from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import Declaration, ParameterError, as_declared, problem_with

_DEFAULTS = ErrorModel()
_ENABLED, _RANGE_MAX = "ground_detections.enabled", "ground_detections.range_max_m"

GROUND_PARAMETERS: dict[str, Declaration] = {
    _ENABLED: Declaration(
        False,
        "Publish where detected objects stand on the ground. This needs NAME/camera_info and the camera's mounting, "
        "and uses scan.frame_id, scan.mounting and scan.rectified. NAME.ground_detections.enabled sets it for one "
        "camera.",
    ),
    _RANGE_MAX: Declaration(
        50.0,
        "Objects farther from the origin of scan.frame_id have no position. NAME.ground_detections.range_max_m sets it "
        "for one camera.",
        minimum=1.0,
        maximum=500.0,
    ),
    "ground_detections.off_ground_classes": Declaration(
        ["sign", "traffic sign", "traffic light"],
        "Names of classes whose boxes do not end on the ground, so they have no position. Names that the model does "
        "not have change nothing.",
    ),
    "ground_detections.edge_error_px": Declaration(
        _DEFAULTS.edge_error_px,
        "Standard error of the edges of boxes in pixels of the network's input. The covariance follows from it, from "
        "ground_detections.edge_error_share, pitch_error_deg and yaw_error_deg.",
        minimum=0.0,
        maximum=100.0,
    ),
    "ground_detections.edge_error_share": Declaration(
        _DEFAULTS.edge_error_share,
        "Standard error of the edges of boxes as a share of the box, beside ground_detections.edge_error_px.",
        minimum=0.0,
        maximum=1.0,
    ),
    "ground_detections.pitch_error_deg": Declaration(
        _DEFAULTS.pitch_error_deg,
        "Standard error of the camera's pitch over the ground, from mounting, load, braking and slopes.",
        minimum=0.0,
        maximum=20.0,
    ),
    "ground_detections.yaw_error_deg": Declaration(
        _DEFAULTS.yaw_error_deg,
        "Standard error of the camera's yaw, from its mounting.",
        minimum=0.0,
        maximum=20.0,
    ),
}
"""Declarations by full name."""

_SHARED = ("scan.frame_id", "scan.mounting", "scan.rectified", "free_space.ignore_bottom_px")


@dataclass(frozen=True)
class GroundParameters:
    """The settings of one camera's positions.

    Attributes:
        frame_id: Frame of the positions.
        rectified: Whether the images are already rectified.
        pose: Pose of the camera in that frame. None if it comes from TF.
        errors: Standard errors of boxes and mounting.
        range_max_m: Greatest distance of a position.
        ignore_bottom_px: Rows at the bottom of the image that show the vehicle itself.
        off_ground_classes: Names of classes that have no position.
    """

    frame_id: str
    rectified: bool
    pose: CameraPose | None
    errors: ErrorModel = _DEFAULTS
    range_max_m: float = 50.0
    ignore_bottom_px: int = 0
    off_ground_classes: tuple[str, ...] = ()


def ground_camera_declarations(camera: str) -> dict[str, Declaration]:
    """Return the parameters that can be set for one camera alone, by full name, without those of its mounting."""
    return {
        f"{camera}.{name}": Declaration(
            row.default, f"{name} of {camera} alone.", row.choices, row.minimum, row.maximum, row.read_only
        )
        for name, row in GROUND_PARAMETERS.items()
        if name in (_ENABLED, _RANGE_MAX)
    }


def read_ground_parameters(value_of: Callable[[str], Any], cameras: Sequence[str]) -> dict[str, GroundParameters]:
    """Collect parameter values into the settings of each camera that has positions.

    Args:
        value_of: Returns the value of a parameter by full name. None if it is not set for the camera.
        cameras: Names of the cameras.

    Raises:
        ParameterError: A camera with positions has no mounting.
    """

    def of_camera(camera: str, name: str) -> Any:
        own = value_of(f"{camera}.{name}")
        return value_of(name) if own is None else own

    errors = ErrorModel(
        value_of("ground_detections.edge_error_px"),
        value_of("ground_detections.edge_error_share"),
        value_of("ground_detections.pitch_error_deg"),
        value_of("ground_detections.yaw_error_deg"),
    )
    from_parameters = value_of("scan.mounting") == "parameters"
    return {
        camera: GroundParameters(
            frame_id=value_of("scan.frame_id"),
            rectified=of_camera(camera, "scan.rectified"),
            pose=pose_in_parameters(value_of, camera, _ENABLED, _ENABLED) if from_parameters else None,
            errors=errors,
            range_max_m=of_camera(camera, _RANGE_MAX),
            ignore_bottom_px=of_camera(camera, "free_space.ignore_bottom_px"),
            off_ground_classes=tuple(value_of("ground_detections.off_ground_classes")),
        )
        for camera in cameras
        if of_camera(camera, _ENABLED)
    }


def ground_parameters_of(
    path: Path | None, cameras: Sequence[str], node: str | None = None
) -> dict[str, GroundParameters]:
    """Read the settings from a parameter file and check them like the node does.

    Args:
        path: A YAML file for `--params-file`; None for no positions.
        cameras: Names of the cameras.
        node: Full name of the node. Without it, the file must have the settings of exactly one node.

    Raises:
        ParameterError: The file is unreadable, or the node would refuse a value. One sentence.
    """
    if path is None:
        return {}
    given = read_parameter_file(path, node)
    defaults: Mapping[str, Declaration] = GROUND_PARAMETERS | {name: FREE_SPACE_PARAMETERS[name] for name in _SHARED}
    declarations = dict(defaults)
    for camera in cameras:
        declarations |= free_space_declarations(camera) | ground_camera_declarations(camera)
    values = {}
    for name, declaration in declarations.items():
        if name not in given and name not in defaults:
            continue
        values[name] = as_declared(given.get(name, declaration.default), declaration)
        if problem := problem_with(name, values[name], declaration):
            raise ParameterError(f"{path}: {problem}")
    return read_ground_parameters(values.get, cameras)
