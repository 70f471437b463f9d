"""Checks the two optional sections of a contract: `derived` and `confidence`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ros_kd_perception.model.contract_reader import is_finite_number, require


def check_derived(derived: Mapping[str, Any]) -> None:
    """Check what a pruned, quantised or adopted file says about its origin. All of its fields are optional.

    Fields: `from_sha256` and `data_sha256`, strings; `steps`, a list of strings; `loss`, metric -> difference to the
    file that it was made from. Other fields are kept and not checked.

    Raises:
        ContractError: A field has another type.
    """
    for key in ("from_sha256", "data_sha256"):
        if key in derived:
            require(isinstance(derived[key], str), f"derived.{key} to be a string", repr(derived[key]))
    steps, loss = derived.get("steps", []), derived.get("loss", {})
    listed = isinstance(steps, list | tuple) and all(isinstance(step, str) for step in steps)
    require(listed, "derived.steps to be a list of strings", repr(steps))
    numbers = isinstance(loss, Mapping) and all(is_finite_number(value) for value in loss.values())
    require(numbers, "derived.loss to be an object of numbers", repr(loss))


def check_confidence(confidence: Mapping[str, Any], class_names: Collection[str]) -> None:
    """Check the calibration of a file. All of its fields are optional.

    Fields: `temperature`, a number above 0 or one for each class name; `thresholds`, class name -> score 0..1;
    `coverage`, 0..1; `checked_on`, a string.

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
    for name in [*by_class, *thresholds]:
        require(name in class_names, "the class names of confidence to be classes of the contract", repr(name))
    coverage, checked_on = confidence.get("coverage", 0.0), confidence.get("checked_on", "")
    require(_is_share(coverage), "confidence.coverage 0..1", repr(coverage))
    require(isinstance(checked_on, str), "confidence.checked_on to be a string", repr(checked_on))


def _is_share(value: Any) -> bool:
    return is_finite_number(value) and bool(0 <= value <= 1)
