"""Rules for parameter values, with one sentence for each violation. The node and the offline commands share them."""

from __future__ import annotations

import difflib
import math
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ros_kd_perception.parameters.camera_names import CAMERA_NAME
from ros_kd_perception.parameters.errors import ParameterError as ParameterError
from ros_kd_perception.structures import RegionOfInterest

MAX_CAMERAS = 64
MAX_NAMES = 256
MAX_CAMERA_CHARACTERS = 64
"""Limit on a camera's name. The middleware allows topics of at most 255 characters."""
MAX_TEXT_CHARACTERS = 4096
"""Limit on any other text. Linux has the same limit on paths."""
MAX_SHOWN_CHARACTERS = 100
CAMERA_PARAMETERS = (
    "image_transport",
    "turn_weight",
    "max_rate_hz",
    "enabled",
    "score_threshold",
    "region_of_interest",
)
"""Parameters that can be set for one camera, such as NAME.image_transport. Free space and scans have their own."""


@dataclass(frozen=True)
class Declaration:
    """One row of a table of parameters.

    Attributes:
        default: Its value if nothing sets it. It also gives the type.
        description: One or two sentences for `ros2 param describe`.
        choices: The allowed values; empty if there is no fixed list.
        minimum: Smallest allowed number, or None.
        maximum: Largest allowed number, or None.
        read_only: Whether it stays as it was when the node started.
        is_file: Whether it is the path of a file, which must exist when it is set while the node runs.
    """

    default: Any
    description: str
    choices: Sequence[str] = ()
    minimum: float | None = None
    maximum: float | None = None
    read_only: bool = True
    is_file: bool = False


def problem_with(name: str, value: Any, declaration: Declaration) -> str | None:
    """Return one sentence on why a parameter cannot have this value, or None if it can."""
    default = declaration.default
    if name == "cameras":
        return _problem_with_cameras(value)
    if isinstance(default, list):
        is_region = all(isinstance(number, int) for number in default)
        return _problem_with_region(name, value) if is_region else _problem_with_names(name, value, default)
    if type(value) is not type(default):
        return (
            f"expected parameter {name} to be {_article(default)}, got {_shown(value)}; for example {name}: {default!r}"
        )
    if isinstance(value, str) and (len(value) > MAX_TEXT_CHARACTERS or "\0" in value):
        return (
            f"expected parameter {name} to be at most {MAX_TEXT_CHARACTERS} characters of text, got {len(value)}: "
            f"{_shown(value)}; shorten it"
        )
    if declaration.choices and value not in declaration.choices:
        nearest = difflib.get_close_matches(value, declaration.choices, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"expected parameter {name} to be one of {', '.join(declaration.choices)}, got {_shown(value)}{hint}"
    low, high = declaration.minimum, declaration.maximum
    if low is not None and high is not None and not (math.isfinite(value) and low <= value <= high):
        return f"expected parameter {name} to be from {low:g} to {high:g}, got {value:g}"
    return None


def required_signature_key(values: Mapping[str, Any]) -> str:
    """Return the path of the public key that models must be signed with. Empty if unsigned models may run.

    Args:
        values: Parameters by name, among them `require_signature` and `signature_key`.

    Raises:
        ParameterError: One of them is set without the other. One sentence.
    """
    required, key = values["require_signature"], values["signature_key"]
    if required and not key:
        raise ParameterError(
            "expected parameter signature_key to be the path of a public key, because require_signature is true, got "
            "none; name the .pub file of the key that signs your models"
        )
    if key and not required:
        raise ParameterError(
            f"expected parameter require_signature to be true, because signature_key is {_shown(key)}, got false; "
            "a key alone checks nothing, so set both or none"
        )
    return str(key)


def unknown_parameter(name: str, known: Collection[str], cameras: Collection[str]) -> str:
    """Return one sentence about an unknown parameter, with the most similar known one.

    Args:
        name: Name of the unknown parameter.
        known: Names of all parameters, including those of each camera.
        cameras: Names of the cameras.
    """
    sentence = f"expected only known parameters, got {name[:MAX_SHOWN_CHARACTERS]}, which has no effect"
    prefix, _, rest = name.partition(".")
    if prefix not in cameras and any(f"{camera}.{rest}" in known for camera in cameras):
        return f"{sentence}: {prefix[:MAX_CAMERA_CHARACTERS]} is not among the cameras, which are {', '.join(cameras)}"
    return f"{sentence}; did you mean {difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]}?"


def as_declared(value: Any, declaration: Declaration) -> Any:
    """Return the value, with an integer converted for a parameter that is a float or a text.

    YAML reads `max_age_ms: 100` and `preparation_processes: 2` as integers.
    """
    if type(value) is not int:
        return value
    if isinstance(declaration.default, float):
        return float(value)
    return str(value) if str(value) in declaration.choices else value


def _problem_with_cameras(value: Any) -> str | None:
    example = "for example cameras: [front, left]"
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(camera, str) for camera in value):
        return f"expected parameter cameras to be a list of at least one name, got {_shown(value)}; {example}"
    if len(value) > MAX_CAMERAS:
        return f"expected parameter cameras to have at most {MAX_CAMERAS} names, got {len(value)}; run a second node"
    for camera in value:
        if not CAMERA_NAME.fullmatch(camera) or len(camera) > MAX_CAMERA_CHARACTERS:
            return (
                f"expected the names in parameter cameras to be up to {MAX_CAMERA_CHARACTERS} letters, digits and "
                f"underscores, got {_shown(camera)}; remap the topic instead"
            )
    if len(set(value)) != len(value):
        return f"expected the names in parameter cameras to differ, got {_shown(list(value))}; {example}"
    return None


def _problem_with_names(name: str, value: Any, default: list[str]) -> str | None:
    is_list = isinstance(value, (list, tuple)) and 0 < len(value) <= MAX_NAMES
    if is_list and all(isinstance(entry, str) and entry for entry in value):
        return None
    example = f"for example {name}: [{', '.join(default)}]"
    return f"expected parameter {name} to be a list of 1 to {MAX_NAMES} names, got {_shown(value)}; {example}"


def _problem_with_region(name: str, value: Any) -> str | None:
    numbers = list(value) if isinstance(value, (list, tuple, array)) else [value]
    if len(numbers) == len(fields(RegionOfInterest)) and all(type(number) is int for number in numbers):
        try:
            RegionOfInterest(*numbers)
        except ValueError as error:
            return f"parameter {name}: {error}"
        return None
    return (
        f"expected parameter {name} to be a list of four integers, [x, y, width, height] in pixels of the image, got "
        f"{_shown(numbers)}; for example {name}: [0, 100, 1280, 500]"
    )


def _article(default: Any) -> str:
    return {str: "a string", bool: "true or false", int: "an integer", float: "a number"}[type(default)]


def _shown(value: Any) -> str:
    """Return the repr of the value, shortened to `MAX_SHOWN_CHARACTERS`."""
    # ROS cannot tell the type of a parameter that is set to [], so its value arrives as None.
    text = "an empty list" if value is None or value == [] else repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
