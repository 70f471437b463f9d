"""Checks the two optional sections of a contract: `derived` and `confidence`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ros_kd_perception.model.contract_reader import is_finite_number, require

# Keys of `provenance`: what the graph of a student does beside running its network.
DROPS_BOXES_ABOVE_IOU = "drops_boxes_above_iou"
LOOKS_AT_HALF_SIZE = "looks_at_half_size"

MAX_STEPS = 32
MAX_METRICS = 200
MAX_NAME_CHARACTERS = 200
MAX_STEP_CHARACTERS = 1000
_SHA256 = re.compile("[0-9a-f]{64}")


def check_derived(derived: Mapping[str, Any]) -> None:
    """Check what a pruned, quantised or adopted file says about its origin. All of its fields are optional.

    Fields: `from_sha256` and `data_sha256`, digests of the parent file and of the calibration frames; `from_name`, name
    of the parent file; `steps`, one sentence for each step; `parent`, metric -> value of the parent, 0..1; `loss`,
    metric -> value of this file minus that of the parent, -1..1; `frames`, metric -> the frames it was measured on;
    `agreement`, share of class-map cells equal to the parent's, 0..1. Other fields are kept and not checked.

    Raises:
        ContractError: A field has another type or range, or is too long.
    """
    for key in ("from_sha256", "data_sha256"):
        if key in derived:
            is_digest = isinstance(derived[key], str) and bool(_SHA256.fullmatch(derived[key]))
            require(is_digest, f"derived.{key} to be a sha256, 64 digits in hexadecimal", repr(derived[key]))
    if "from_name" in derived:
        named = _is_text(derived["from_name"], MAX_NAME_CHARACTERS)
        require(named, f"derived.from_name to be 1 to {MAX_NAME_CHARACTERS} characters", repr(derived["from_name"]))
    steps = derived.get("steps", [])
    listed = isinstance(steps, list | tuple) and all(_is_text(step, MAX_STEP_CHARACTERS) for step in steps)
    limits = f"at most {MAX_STEPS} strings of 1 to {MAX_STEP_CHARACTERS} characters"
    require(listed and len(steps) <= MAX_STEPS, f"derived.steps to be a list of {limits}", repr(steps))
    _check_metrics(derived, "loss", lambda value: is_finite_number(value) and abs(value) <= 1, "numbers from -1 to 1")
    _check_metrics(derived, "parent", _is_share, "numbers from 0 to 1")
    _check_metrics(derived, "frames", lambda value: _is_text(value, MAX_STEP_CHARACTERS), "names of frames")
    agreement = derived.get("agreement", 1.0)
    require(_is_share(agreement), "derived.agreement 0..1", repr(agreement))


def _check_metrics(derived: Mapping[str, Any], key: str, is_valid: Callable[[Any], bool], values: str) -> None:
    by_metric = derived.get(key, {})
    valid = isinstance(by_metric, Mapping) and len(by_metric) <= MAX_METRICS
    valid = valid and all(_is_text(name, MAX_NAME_CHARACTERS) and is_valid(value) for name, value in by_metric.items())
    require(valid, f"derived.{key} to be an object of at most {MAX_METRICS} metrics with {values}", repr(by_metric))


def check_confidence(confidence: Mapping[str, Any], class_names: Collection[str]) -> None:
    """Check the calibration of a file. All of its fields are optional.

    Fields: `temperature`, a number above 0 or one for each class name; `box_scores`, class name -> `scale` above 0 and
    `shift`; `thresholds`, class name -> score 0..1; `coverage`, 0..1; `checked_on`, `fitted_on` and `objects`, strings.

    Args:
        confidence: The section. Other fields are kept and not checked.
        class_names: The names of all classes of the contract.

    Raises:
        ContractError: A field has another type or range, or names a class that the contract does not have.
    """
    temperature = confidence.get("temperature", 1.0)
    by_class = temperature if isinstance(temperature, Mapping) else {}
    values = by_class.values() if isinstance(temperature, Mapping) else (temperature,)
    valid = all(is_finite_number(value) and value > 0 for value in values)
    require(valid, "confidence.temperature above 0, or one for each class name", repr(temperature))
    thresholds = confidence.get("thresholds", {})
    valid = isinstance(thresholds, Mapping) and all(_is_share(value) for value in thresholds.values())
    require(valid, "confidence.thresholds to be scores 0..1 by class name", repr(thresholds))
    scales = confidence.get("box_scores", {})
    valid = isinstance(scales, Mapping) and all(_is_scale(value) for value in scales.values())
    require(valid, "confidence.box_scores to be a scale above 0 and a shift by class name", repr(scales))
    for name in [*by_class, *thresholds, *scales]:
        require(name in class_names, "the class names of confidence to be classes of the contract", repr(name))
    coverage = confidence.get("coverage", 0.0)
    require(_is_share(coverage), "confidence.coverage 0..1", repr(coverage))
    for key in ("checked_on", "fitted_on", "objects"):
        text = confidence.get(key, "")
        require(isinstance(text, str), f"confidence.{key} to be a string", repr(text))


def _is_scale(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    scale, shift = value.get("scale"), value.get("shift")
    return isinstance(scale, int | float) and is_finite_number(scale) and scale > 0 and is_finite_number(shift)


def _is_text(value: Any, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most


def _is_share(value: Any) -> bool:
    return is_finite_number(value) and bool(0 <= value <= 1)
