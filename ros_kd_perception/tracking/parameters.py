"""The parameters of tracking. The node and the replay share this table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ros_kd_perception.parameters.file import read_parameter_file
from ros_kd_perception.parameters.rules import Declaration, ParameterError, as_declared, problem_with
from ros_kd_perception.tracking.byte_tracker import TrackingSettings

TRACK_OBJECTS = "track_objects"

_DEFAULTS = TrackingSettings()

TRACKING_PARAMETERS: dict[str, Declaration] = {
    TRACK_OBJECTS: Declaration(
        False,
        "Follow objects from frame to frame by their boxes, and publish in Detection2D.id which box is which object. "
        "The ids are empty without it.",
    ),
    "tracking.high_score": Declaration(
        _DEFAULTS.high_score,
        "Boxes with at least this score begin tracks, 0..1. Boxes with lower scores only continue tracks.",
        minimum=0.0,
        maximum=1.0,
    ),
    "tracking.iou_min": Declaration(
        _DEFAULTS.iou_min,
        "The least overlap (intersection over union) of a box with the predicted box of its track. Less suits cameras "
        "of low rates.",
        minimum=0.01,
        maximum=0.95,
    ),
    "tracking.max_lost_s": Declaration(
        _DEFAULTS.max_lost_s,
        "A track that was not seen for longer is forgotten, seconds between header stamps. Stamps that go back, or "
        "jump ahead by more, forget all tracks.",
        minimum=0.05,
        maximum=30.0,
    ),
}
"""Declarations by full name."""


def tracking_settings(values: Mapping[str, Any]) -> TrackingSettings | None:
    """Collect parameter values by full name. Return None if objects are not tracked."""
    if not values[TRACK_OBJECTS]:
        return None
    return TrackingSettings(values["tracking.high_score"], values["tracking.iou_min"], values["tracking.max_lost_s"])


def tracking_settings_of(
    path: Path | None, node: str | None = None, *, wanted: bool = False
) -> TrackingSettings | None:
    """Read the settings from a parameter file and check them like the node does.

    Args:
        path: A YAML file for `--params-file`; None for the defaults.
        node: Full name of the node. Without it, the file must have the settings of exactly one node.
        wanted: Track objects also if the file does not ask for it.

    Raises:
        ParameterError: The file is unreadable, or the node would refuse a value. One sentence.
    """
    given = {} if path is None else read_parameter_file(path, node)
    values = {}
    for name, declaration in TRACKING_PARAMETERS.items():
        values[name] = as_declared(given.get(name, declaration.default), declaration)
        if problem := problem_with(name, values[name], declaration):
            raise ParameterError(f"{path}: {problem}")
    return tracking_settings(values | {TRACK_OBJECTS: wanted or values[TRACK_OBJECTS]})
