"""The parameters of free space, scans and points on the ground. The node and the offline commands share this table."""

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
AUTO = ["auto"]  # drivable_classes: those that the model's file names
DRIVABLE_WITHOUT_A_LIST = ("road",)  # of files that name none, such as those of contract version 1

FREE_SPACE_PARAMETERS: dict[str, Declaration] = {
    "drivable_classes": Declaration(
        AUTO,
        "Names of the mask's classes that count as free space; all others, unlabeled pixels included, end it. [auto] "
        "takes those that the model's file names as drivable, and road if it names none.",
    ),
    "free_space.max_gap_px": Declaration(
        0,
        "Up to this many pixels of other classes do not end the free space if it continues behind them. This bridges "
        "noise, but also hides obstacles of this size.",
        minimum=0,
        maximum=64,
    ),
    "free_space.ignore_bottom_px": Declaration(
        0,
        "Rows at the bottom of the image that show the vehicle itself. NAME.free_space.ignore_bottom_px sets it for "
        "one camera.",
        minimum=0,
        maximum=8192,
    ),
    "scan.enabled": Declaration(
        False,
        "Publish the free space on the ground as LaserScan. This needs NAME/camera_info and the camera's mounting. "
        "NAME.scan.enabled sets it for one camera.",
    ),
    "scan.frame_id": Declaration(
        "base_link", "Frame of the scans, x forward and y left. With scan.mounting tf its z = 0 must be the ground."
    ),
    "scan.mounting": Declaration(
        "parameters",
        "Source of the cameras' mounting: parameters uses NAME.mounting.height_m and so on, tf uses the transform from "
        "the CameraInfo's frame to scan.frame_id.",
        choices=MOUNTINGS,
    ),
    "scan.rectified": Declaration(
        False, "The images are rectified, so P of CameraInfo applies. NAME.scan.rectified sets it for one camera."
    ),
    "scan.angle_increment_deg": Declaration(0.5, "Angle between neighbouring beams.", minimum=0.1, maximum=10.0),
    "scan.range_max_m": Declaration(
        50.0, "Greatest range of the scan. NAME.scan.range_max_m sets it for one camera.", minimum=1.0, maximum=500.0
    ),
    "scan.max_blind_m": Declaration(
        8.0,
        "A beam stays unknown if the image shows it only from farther away. NAME.scan.max_blind_m sets it for one "
        "camera.",
        minimum=0.1,
        maximum=100.0,
    ),
    "ground_points.enabled": Declaration(
        False,
        "Publish the free ground as organised PointCloud2, with the mask and the confidence of its points and their "
        "CameraInfo. This needs what the scan needs, whether there is a scan or not; frame, mounting, rectified and "
        "range_max_m are those of the scan. NAME.ground_points.enabled sets it for one camera.",
    ),
    "ground_points.stride_px": Declaration(
        4, "Each point on the ground stands for a square of so many pixels a side.", minimum=1, maximum=64
    ),
}

_ONE_CAMERA = (
    "free_space.ignore_bottom_px", "scan.enabled", "scan.rectified", "scan.range_max_m", "scan.max_blind_m",
    "ground_points.enabled",
)  # fmt: skip
_MOUNTING: dict[str, Declaration] = {
    "mounting.x_m": Declaration(0.0, "Distance forward of the scan's frame.", minimum=-100.0, maximum=100.0),
    "mounting.y_m": Declaration(0.0, "Distance to the left of the scan's frame.", minimum=-100.0, maximum=100.0),
    "mounting.height_m": Declaration(0.0, "Height above the ground.", minimum=0.0, maximum=MAX_HEIGHT_M),
    "mounting.roll_deg": Declaration(0.0, "Roll, positive with the right side down.", minimum=-180.0, maximum=180.0),
    "mounting.pitch_deg": Declaration(0.0, "Pitch, positive with the nose down.", minimum=-180.0, maximum=180.0),
    "mounting.yaw_deg": Declaration(0.0, "Yaw, positive to the left.", minimum=-360.0, maximum=360.0),
}


@dataclass(frozen=True)
class ScanParameters:
    """The settings of one camera's scan.

    Attributes:
        frame_id: Frame of the scan.
        beams: Beams of the scan.
        rectified: Whether the images are already rectified.
        pose: Pose of the camera in the scan's frame. None if it comes from TF.
    """

    frame_id: str
    beams: Beams
    rectified: bool
    pose: CameraPose | None


@dataclass(frozen=True)
class GroundPointParameters:
    """The settings of one camera's points on the ground.

    Attributes:
        frame_id: Frame of the pose, whose z = 0 is the ground.
        rectified: Whether the images are already rectified.
        pose: Pose of the camera in that frame. None if it comes from TF.
        stride_px: Side of the square of pixels that a point stands for.
        range_max_m: Greatest distance of points from the origin of the frame.
    """

    frame_id: str
    rectified: bool
    pose: CameraPose | None
    stride_px: int
    range_max_m: float


@dataclass(frozen=True)
class FreeSpaceParameters:
    """The settings of free space, scans and points on the ground.

    Attributes:
        drivable_classes: Names of the classes that count as free space, or AUTO.
        max_gap_px: Largest gap in the free space that is bridged, in pixels.
        ignore_bottom_px: Camera -> rows at the bottom of its image that are ignored.
        scans: Camera -> settings of its scan. Cameras without a scan are missing.
        grounds: Camera -> settings of its points on the ground. Cameras without them are missing.
    """

    drivable_classes: tuple[str, ...] = tuple(AUTO)
    max_gap_px: int = 0
    ignore_bottom_px: Mapping[str, int] = field(default_factory=dict)
    scans: Mapping[str, ScanParameters] = field(default_factory=dict)
    grounds: Mapping[str, GroundPointParameters] = field(default_factory=dict)

    @property
    def asked_for(self) -> bool:
        """Whether somebody set what free space is made for: drivable classes, a scan or points on the ground."""
        return list(self.drivable_classes) != AUTO or bool(self.mounted)

    @property
    def mounted(self) -> dict[str, ScanParameters | GroundPointParameters]:
        """The cameras whose mounting is needed, with the settings that say where it comes from."""
        return {**self.grounds, **self.scans}

    def needs_mounting(self, camera: str) -> str:
        """Return in words which outputs of a camera need its mounting."""
        kinds = (("scan", self.scans), ("points on the ground", self.grounds))
        return " and no ".join(words for words, cameras in kinds if camera in cameras)


def camera_declarations(camera: str) -> dict[str, Declaration]:
    """Return the parameters that can be set for one camera alone, by full name."""
    declarations = {
        f"{camera}.{name}": Declaration(
            row.default, f"{name} of {camera} alone.", row.choices, row.minimum, row.maximum, row.read_only
        )
        for name, row in FREE_SPACE_PARAMETERS.items()
        if name in _ONE_CAMERA
    }
    return declarations | {f"{camera}.{name}": row for name, row in _MOUNTING.items()}


def read_free_space_parameters(value_of: Callable[[str], Any], cameras: Sequence[str]) -> FreeSpaceParameters:
    """Collect the parameter values into `FreeSpaceParameters`.

    Args:
        value_of: Returns the value of a parameter by full name. None if it is not set for the camera.
        cameras: Names of the cameras.

    Raises:
        ParameterError: A scan or the ground has no mounting.
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
                pose=pose_in_parameters(value_of, c) if value_of("scan.mounting") == "parameters" else None,
            )
            for c in cameras
            if of_camera(c, "scan.enabled")
        },
        grounds={
            c: GroundPointParameters(
                frame_id=value_of("scan.frame_id"),
                rectified=of_camera(c, "scan.rectified"),
                pose=pose_in_parameters(value_of, c, "points on the ground", "ground_points.enabled")
                if value_of("scan.mounting") == "parameters"
                else None,
                stride_px=value_of("ground_points.stride_px"),
                range_max_m=of_camera(c, "scan.range_max_m"),
            )
            for c in cameras
            if of_camera(c, "ground_points.enabled")
        },
    )


def pose_in_parameters(
    value_of: Callable[[str], Any], camera: str, use: str = "a scan", switch: str = "scan.enabled"
) -> CameraPose:
    """Return the mounting of a camera that the parameters give.

    Args:
        value_of: Returns the value of a parameter by full name. None if it is not set for the camera.
        camera: Name of the camera.
        use: What needs the mounting, for the error.
        switch: The camera's parameter that turns this off, for the error.

    Raises:
        ParameterError: They give no height.
    """
    mounting = {name: value_of(f"{camera}.{name}") or 0.0 for name in _MOUNTING}
    if not mounting["mounting.height_m"] > 0:
        raise ParameterError(
            f"expected {camera}.mounting.height_m, the camera's height above the ground, to be above 0 for {use}, got "
            f"{mounting['mounting.height_m']:g}; measure it, or set scan.mounting: tf or {camera}.{switch}: false"
        )
    return CameraPose.from_mounting(**{name.removeprefix("mounting."): value for name, value in mounting.items()})


def free_space_parameters_of(
    path: Path,
    cameras: Sequence[str],
    node: str | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
    also_known: Sequence[str] = (),
) -> FreeSpaceParameters:
    """Read the free-space parameters from a parameter file and check them like the node does.

    Also check the list of cameras. Other parameters are ignored.

    Args:
        path: A YAML file for `--params-file`.
        cameras: Names of the cameras.
        node: Full name of the node. Without it, the file must have the settings of exactly one node.
        warn: Called with a sentence for each parameter of cameras, scans or free space that has no effect.
        also_known: Full names of further parameters of the cameras, of which it does not warn.

    Raises:
        ParameterError: The file is unreadable, or the node would refuse a value. One sentence.
    """
    values = read_parameter_file(path, node)
    declarations = FREE_SPACE_PARAMETERS | {"cameras": Declaration(["front"], "Names of the cameras.")}
    for camera in cameras:
        declarations |= camera_declarations(camera)
    of_cameras = (f"{c}.{n}" for c in cameras for n in CAMERA_PARAMETERS)
    _warn_of_unknown(values, {*declarations, *of_cameras, *also_known}, cameras, warn)
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
    """Warn only about names that resemble these parameters, because the file also has other parameters and cameras."""
    groups = {"free_space", "scan", "ground_points", "mounting", *cameras}
    for name in values:
        if name not in known and (
            name.partition(".")[0] in groups or difflib.get_close_matches(name, FREE_SPACE_PARAMETERS, cutoff=0.85)
        ):
            warn(unknown_parameter(name, sorted(known), cameras))
