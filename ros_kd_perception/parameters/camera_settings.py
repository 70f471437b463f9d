"""The parameters of one camera, NAME.turn_weight and so on. The node and the replay share this table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import Declaration, ParameterError, as_declared, problem_with
from ros_kd_perception.structures import WHOLE_IMAGE, RegionOfInterest

CAMERA_DECLARATIONS: dict[str, Declaration] = {
    "turn_weight": Declaration(
        1.0,
        "Turns of the camera for one turn of a camera of weight 1, while frames of all cameras wait.",
        minimum=0.01,
        maximum=100.0,
        read_only=False,
    ),
    "max_rate_hz": Declaration(
        0.0,
        "At most so many images of the camera are perceived a second, each the newest one when it is due; 0 for no "
        "limit. The others are dropped as over_rate.",
        minimum=0.0,
        maximum=1000.0,
        read_only=False,
    ),
    "enabled": Declaration(
        True,
        "Whether the node receives the camera's images. The topics of its results stay, without messages, while it is "
        "disabled.",
        read_only=False,
    ),
    "score_threshold": Declaration(
        -1.0,
        "Boxes of the camera with a lower score are left out, 0..1; negative for the node's score_threshold.",
        minimum=-1.0,
        maximum=1.0,
        read_only=False,
    ),
    "region_of_interest": Declaration(
        [0, 0, 0, 0],
        "The part of the camera's images that the network sees, [x, y, width, height] in pixels of the image; "
        "[0, 0, 0, 0] for the whole image. Outside of it the mask is unlabeled and there are no boxes.",
        read_only=False,
    ),
}
"""Declarations of the parameters that each camera has, by their name after `NAME.`."""


@dataclass(frozen=True)
class CameraSettings:
    """The settings of one camera. `CAMERA_DECLARATIONS` describes each."""

    turn_weight: float = 1.0
    max_rate_hz: float = 0.0
    enabled: bool = True
    score_threshold: float = -1.0
    region_of_interest: RegionOfInterest = WHOLE_IMAGE

    def updated(self, camera: str, values: Mapping[str, Any]) -> CameraSettings:
        """Return the settings with the values of the camera's parameters.

        Args:
            camera: Name of the camera.
            values: Checked values by full parameter name; may hold parameters of others.
        """
        own = {name: values[full] for name in CAMERA_DECLARATIONS if (full := f"{camera}.{name}") in values}
        if "region_of_interest" in own:
            own["region_of_interest"] = RegionOfInterest(*own["region_of_interest"])
        return replace(self, **own)


def score_thresholds_of(cameras: Mapping[str, CameraSettings]) -> dict[str, float]:
    """Return the score thresholds of the cameras that have one of their own."""
    return {camera: own.score_threshold for camera, own in cameras.items() if own.score_threshold >= 0}


def camera_settings_of(path: Path, cameras: Sequence[str], node: str | None = None) -> dict[str, CameraSettings]:
    """Read the settings of cameras from a parameter file and check them like the node does.

    Args:
        path: A YAML file for `--params-file`.
        cameras: Names of the cameras.
        node: Full name of the node. Without it, the file must have the settings of exactly one node.

    Raises:
        ParameterError: The file is unreadable, or the node would refuse a value. One sentence.
    """
    values = read_parameter_file(path, node)
    checked = {}
    for camera in cameras:
        for name, declaration in CAMERA_DECLARATIONS.items():
            if (full := f"{camera}.{name}") in values:
                checked[full] = as_declared(values[full], declaration)
                if problem := problem_with(full, checked[full], declaration):
                    raise ParameterError(f"{path}: {problem}")
    return {camera: CameraSettings().updated(camera, checked) for camera in cameras}
