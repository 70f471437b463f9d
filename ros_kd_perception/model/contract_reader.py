"""Reads the JSON of a contract with typed access to its fields. Its errors name the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

CONTRACT_VERSION = 2
MAX_CONTRACT_CHARACTERS = 1 << 20


class ContractError(ValueError):
    """The contract is missing, malformed, too new or does not match its file. The text is one sentence."""


def require(condition: bool, expected: str, got: object) -> None:
    """Raise a ContractError that says what was expected and what came, unless the condition holds."""
    if not condition:
        raise ContractError(f"expected {expected} in the contract, got {str(got)[:200]}; export the model again")


def parse_contract(text: str) -> JsonSection:
    """Parse the text of a contract and check its size and version.

    Raises:
        ContractError: The text is too long, not a JSON object, or of a version that is not known here.
    """
    if len(text) > MAX_CONTRACT_CHARACTERS:
        raise ContractError(
            f"expected a contract of at most {MAX_CONTRACT_CHARACTERS} characters, got {len(text)}; "
            "export the model again"
        )
    try:
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"expected the contract to be JSON, got {error}; export the model again") from None
    if not isinstance(document, dict):
        raise ContractError(
            f"expected the contract to be a JSON object, got {type(document).__name__}; export the model again"
        )
    _check_version(document.get("contract_version"))
    return JsonSection(document)


def _finite(text: str) -> float:
    """Return a number. Python reads NaN and Infinity, which are not JSON, and makes infinity of 1e999."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}")
    return value


def _check_version(version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ContractError(
            f"expected an integer contract_version of 1 or more, got {str(version)[:80]!r}; export the model again"
        )
    if version > CONTRACT_VERSION:
        raise ContractError(
            f"expected contract version {CONTRACT_VERSION} or older, got {version}, which is newer; "
            "update ros_kd_perception on this machine, or export the model again with the version installed here"
        )


class JsonSection:
    """One object of the contract's JSON.

    Every method raises a ContractError if the field is missing or has a value of another type.

    Attributes:
        values: The fields as parsed.
    """

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self.values = values
        self._path = path

    def section(self, key: str) -> JsonSection:
        """Return an object inside this one."""
        return JsonSection(self.value(key, (dict,), "an object"), f"{self._path}{key}.")

    def optional_section(self, key: str) -> Mapping[str, Any]:
        """Return the fields of an object inside this one, none if it is absent."""
        return self.section(key).values if key in self.values else {}

    def sections(self, key: str) -> list[JsonSection]:
        """Return the objects of a list."""
        rows = self.value(key, (list,), "a list of objects")
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                raise ContractError(
                    f"expected {self._path}{key}[{index}] of the contract to be an object, got {str(row)[:80]!r}; "
                    "export the model again"
                )
        return [JsonSection(row, f"{self._path}{key}[{index}].") for index, row in enumerate(rows)]

    def text(self, key: str) -> str:
        """Return a string."""
        return str(self.value(key, (str,), "a string"))

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty if it is absent."""
        if key not in self.values:
            return ()
        values = self.value(key, (list,), "a list of strings")
        if not all(isinstance(value, str) for value in values):
            raise ContractError(
                f"expected {self._path}{key} of the contract to be a list of strings, got {str(values)[:80]!r}; "
                "export the model again"
            )
        return tuple(values)

    def integer(self, key: str) -> int:
        """Return an integer."""
        return int(self.value(key, (int,), "an integer"))

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self.value(key, (int, float), "a number")
        if not is_finite_number(value):
            raise ContractError(
                f"expected {self._path}{key} of the contract to be finite, got {str(value)[:80]}; "
                "export the model again"
            )
        return float(value)

    def number_or_null(self, key: str) -> float | None:
        """Return a finite number, or None for null."""
        return None if key in self.values and self.values[key] is None else self.number(key)

    def value(self, key: str, kinds: tuple[type, ...], expected: str) -> Any:
        """Return a value of one of some types, in words: `expected`. True and False are not integers here."""
        name = self._path + key
        if key not in self.values:
            raise ContractError(
                f"expected the contract to have {name} ({expected}), it has none; export the model again"
            )
        value = self.values[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ContractError(
                f"expected {name} of the contract to be {expected}, got {str(value)[:80]!r}; export the model again"
            )
        return value


def is_finite_number(value: object) -> bool:
    """Return whether a value of JSON is a number that float holds: no boolean, NaN, infinity or larger integer."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
