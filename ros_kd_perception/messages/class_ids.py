"""How the class ids of boxes are written: as numbers, or as names. The node and the replay share this parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import Declaration, ParameterError, as_declared, problem_with

NUMBER, NAME = "number", "name"
_PARAMETER = "detection_class_id"

CLASS_ID_PARAMETERS: dict[str, Declaration] = {
    _PARAMETER: Declaration(
        NUMBER,
        "What class_id of the boxes holds: number for the numeric id as text, which detections/label_info names, or "
        "name for the name of the class itself.",
        choices=(NUMBER, NAME),
    )
}
"""Declarations by full name."""


def uses_names(values: Mapping[str, Any]) -> bool:
    """Return whether class ids are names, from parameter values by full name."""
    return bool(values.get(_PARAMETER, NUMBER) == NAME)


def uses_names_in(path: Path | None, node: str | None = None) -> bool:
    """Read from a parameter file whether class ids are names, and check it like the node does.

    Args:
        path: A YAML file for `--params-file`; None for the default.
        node: Full name of the node. Without it, the file must have the settings of exactly one node.

    Raises:
        ParameterError: The file is unreadable, or the node would refuse the value. One sentence.
    """
    declaration = CLASS_ID_PARAMETERS[_PARAMETER]
    given = {} if path is None else read_parameter_file(path, node)
    value = as_declared(given.get(_PARAMETER, declaration.default), declaration)
    if problem := problem_with(_PARAMETER, value, declaration):
        raise ParameterError(f"{path}: {problem}")
    return uses_names({_PARAMETER: value})


def class_names(classes: Iterable[ClassInfo]) -> dict[int, str]:
    """Return the names of classes by id."""
    return {info.id: info.name for info in classes}
