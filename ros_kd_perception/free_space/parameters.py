"""The parameters of free space and scan: one table for the node and for what reads its parameter file offline."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros_kd_perception.free_space.ground_scan import MAX_HEIGHT_M, Beams, CameraPose
from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import (
    CAMERA_PARAMETERS,
    Declaration,
    ParameterError,
    as_declared,
    problem_with,
    unknown_parameter,
)

MOUNTINGS = ("parameters", "tf")

FREE_SPACE_PARAMETERS: dict[str, Declaration] = {
    "drivable_classes": Declaration(
        ["road"], "Names of the mask's classes that count as free space; all others, unlabeled pixels included, end it."
    ),
    "free_space.max_gap_px": Declaration(
        0,
        "So many pixels or fewer of other classes do not end the free space where it goes on behind them; bridges "
        "noise, and hides what is no larger.",
        minimum=0,
        maximum=64,
    ),
    "free_space.ignore_bottom_px": Declaration(
        0,
        "Rows at the bottom of the image that show the vehicle itself; NAME.free_space.ignore_bottom_px sets it for "
        "one camera.",
        minimum=0,
        maximum=8192,
    ),
    "scan.enabled": Declaration(
        False,
        "Publish the free space on the ground as LaserScan, for which NAME/camera_info and the camera's mounting are "
        "needed; NAME.scan.enabled says otherwise for one camera.",
    ),
    "scan.frame_id": Declaration(
        "base_link", "Frame of the scans, x forward and y left; with scan.mounting tf its z = 0 must be the ground."
    ),
    "scan.mounting": Declaration(
        "parameters",
        "Where the mounting of cameras comes from: parameters is NAME.mounting.height_m and so on, tf is the "
        "transform from the image's frame to scan.frame_id.",
        choices=MOUNTINGS,
    ),
    "scan.rectified": Declaration(
        False, "The images are rectified, P of CameraInfo describes them; NAME.scan.rectified sets it for one camera."
    ),
    "scan.angle_increment_deg": Declaration(
        0.5, "Angle between beams, which go all around.", minimum=0.1, maximum=10.0
    ),
    "scan.range_max_m": Declaration(
        50.0, "Free space is followed so far; NAME.scan.range_max_m sets it for one camera.", minimum=1.0, maximum=500.0
    ),
    "scan.max_blind_m": Declaration(
        8.0,
        "Beams that the image shows only from farther away on stay unknown; NAME.scan.max_blind_m sets it for one "
        "camera.",
        minimum=0.1,
        maximum=100.0,
    ),
}

_ONE_CAMERA = (
    "free_space.ignore_bottom_px", "scan.enabled", "scan.rectified", "scan.range_max_m", "scan.max_blind_m",
)  # fmt: skip
_MOUNTING: dict[str, Declaration] = {
    "mounting.x_m": Declaration(0.0, "Forward of the scan's frame.", minimum=-100.0, maximum=100.0),
    "mounting.y_m": Declaration(0.0, "To the left of the scan's frame.", minimum=-100.0, maximum=100.0),
    "mounting.height_m": Declaration(0.0, "Above the ground.", minimum=0.0, maximum=MAX_HEIGHT_M),
    "mounting.roll_deg": Declaration(0.0, "Positive right side down.", minimum=-180.0, maximum=180.0),
    "mounting.pitch_deg": Declaration(0.0, "Positive nose down.", minimum=-180.0, maximum=180.0),
    "mounting.yaw_deg": Declaration(0.0, "Positive to the left.", minimum=-360.0, maximum=360.0),
}


@dataclass(frozen=True)
class ScanParameters:
    """How the scan of one camera is made.

    Attributes:
        pose: of the camera in the scan's frame; None where TF knows it.
    """

    frame_id: str
    beams: Beams
    rectified: bool
    pose: CameraPose | None


@dataclass(frozen=True)
class FreeSpaceParameters:
    """The parameters as they are read.

    Attributes:
        ignore_bottom_px: by camera.
        scans: by camera, only of those that have one.
    """

    drivable_classes: tuple[str, ...] = ("road",)
    max_gap_px: int = 0
    ignore_bottom_px: Mapping[str, int] = field(default_factory=dict)
    scans: Mapping[str, ScanParameters] = field(default_factory=dict)


def camera_declarations(camera: str) -> dict[str, Declaration]:
    """What can be set for one camera alone, by its full name."""
    declarations = {
        f"{camera}.{name}": Declaration(
            row.default, f"{name} of {camera} alone.", row.choices, row.minimum, row.maximum, row.read_only
        )
        for name, row in FREE_SPACE_PARAMETERS.items()
        if name in _ONE_CAMERA
    }
    return declarations | {f"{camera}.{name}": row for name, row in _MOUNTING.items()}


def read_free_space_parameters(value_of: Callable[[str], Any], cameras: Sequence[str]) -> FreeSpaceParameters:
    """Put the values together.

    Args:
        value_of: the value of a parameter by its full name; None for what is not set for a camera alone.
        cameras: their names.

    Raises:
        ParameterError: a scan without a mounting.
    """

    def of_camera(camera: str, name: str) -> Any:
        own = value_of(f"{camera}.{name}")
        return value_of(name) if own is None else own

    return FreeSpaceParameters(
        drivable_classes=tuple(value_of("drivable_classes")),
        max_gap_px=value_of("free_space.max_gap_px"),
        ignore_bottom_px={c: of_camera(c, "free_space.ignore_bottom_px") for c in cameras},
        scans={
            c: ScanParameters(
                frame_id=value_of("scan.frame_id"),
                beams=Beams.from_increment(
                    value_of("scan.angle_increment_deg"),
                    of_camera(c, "scan.range_max_m"),
                    of_camera(c, "scan.max_blind_m"),
                ),
                rectified=of_camera(c, "scan.rectified"),
                pose=_pose(value_of, c) if value_of("scan.mounting") == "parameters" else None,
            )
            for c in cameras
            if of_camera(c, "scan.enabled")
        },
    )


def _pose(value_of: Callable[[str], Any], camera: str) -> CameraPose:
    mounting = {name: value_of(f"{camera}.{name}") or 0.0 for name in _MOUNTING}
    if not mounting["mounting.height_m"] > 0:
        raise ParameterError(
            f"expected {camera}.mounting.height_m to say how high the camera is above the ground for its scan, got "
            f"{mounting['mounting.height_m']:g}; measure it, or set scan.mounting: tf or {camera}.scan.enabled: false"
        )
    return CameraPose.from_mounting(**{name.removeprefix("mounting."): value for name, value in mounting.items()})


def free_space_parameters_of(
    path: Path, cameras: Sequence[str], node: str | None = None, warn: Callable[[str], None] = lambda sentence: None
) -> FreeSpaceParameters:
    """The free-space parameters of a file, and whether its cameras are a list of names; others are not looked at.

    Args:
        path: of a YAML file for `--params-file`.
        cameras: their names.
        node: full name of the node whose settings are wanted; without one, the file must be of one node.
        warn: told a sentence about each parameter of cameras, scans or free space that has no effect.

    Raises:
        ParameterError: unreadable, or a value that the node would refuse, too; one sentence.
    """
    values = read_parameter_file(path, node)
    declarations = FREE_SPACE_PARAMETERS | {"cameras": Declaration(["front"], "Names of the cameras.")}
    for camera in cameras:
        declarations |= camera_declarations(camera)
    _warn_of_unknown(values, {*declarations, *(f"{c}.{n}" for c in cameras for n in CAMERA_PARAMETERS)}, cameras, warn)
    checked = {}
    for name, declaration in declarations.items():
        if name not in values and name not in FREE_SPACE_PARAMETERS:
            continue
        value = as_declared(values.get(name, declaration.default), declaration)
        problem = problem_with(name, value, declaration)
        if problem is not None:
            raise ParameterError(f"{path}: {problem}")
        checked[name] = value
    return read_free_space_parameters(checked.get, cameras)


def _warn_of_unknown(
    values: Collection[str], known: Collection[str], cameras: Collection[str], warn: Callable[[str], None]
) -> None:
    """Only of names that seem meant for this: the file has the node's other parameters and those of other cameras."""
    groups = {"free_space", "scan", "mounting", *cameras}
    for name in values:
        if name not in known and (
            name.partition(".")[0] in groups or difflib.get_close_matches(name, FREE_SPACE_PARAMETERS, cutoff=0.85)
        ):
            warn(unknown_parameter(name, sorted(known), cameras))
