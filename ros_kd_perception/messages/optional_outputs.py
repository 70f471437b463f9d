"""The outputs beside the mask that are off by default, and their parameters. The node and the replay share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract import SEGMENTATION, ModelContract
from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import Declaration, ParameterError, as_declared, problem_with

CONFIDENCE, CAMERA_INFO = "publish_confidence", "publish_camera_info"

CONFIDENCE_PARAMETERS: dict[str, Declaration] = {
    CONFIDENCE: Declaration(
        False,
        "Publish beside each mask how sure the network is of each pixel, as mono8 image: 255 = sure, 0 = no idea.",
    ),
}
CAMERA_INFO_PARAMETERS: dict[str, Declaration] = {
    CAMERA_INFO: Declaration(
        False, "Publish beside each mask the CameraInfo of NAME/camera_info, with the header of the mask."
    ),
}
"""Declarations by full name."""


@dataclass(frozen=True)
class OptionalOutputs:
    """Which of the optional outputs there are.

    Attributes:
        confidence: Whether there is a confidence mask beside each mask.
        camera_info: Whether there is a CameraInfo beside each mask.
    """

    confidence: bool = False
    camera_info: bool = False

    def without_masks(self, contract: ModelContract) -> list[str]:
        """Return a sentence for each output that is asked for and needs masks, which the model does not make."""
        asked = {CONFIDENCE: self.confidence, CAMERA_INFO: self.camera_info}
        return [
            text for name, wanted in asked.items() if wanted and (text := contract.without_effect(name, SEGMENTATION))
        ]


NO_OPTIONAL_OUTPUTS = OptionalOutputs()


def optional_outputs(values: Mapping[str, Any]) -> OptionalOutputs:
    """Collect parameter values by full name."""
    return OptionalOutputs(values[CONFIDENCE], values[CAMERA_INFO])


def optional_outputs_of(path: Path | None, node: str | None = None) -> OptionalOutputs:
    """Read the settings from a parameter file and check them like the node does.

    Args:
        path: A YAML file for `--params-file`; None for the defaults.
        node: Full name of the node. Without it, the file must have the settings of exactly one node.

    Raises:
        ParameterError: The file is unreadable, or the node would refuse a value. One sentence.
    """
    given = {} if path is None else read_parameter_file(path, node)
    values = {}
    for name, declaration in (CONFIDENCE_PARAMETERS | CAMERA_INFO_PARAMETERS).items():
        values[name] = as_declared(given.get(name, declaration.default), declaration)
        if problem := problem_with(name, values[name], declaration):
            raise ParameterError(f"{path}: {problem}")
    return optional_outputs(values)
