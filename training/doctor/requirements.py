"""Reads the packages of setup.py's extras without running the file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

SETUP_FILE = Path(__file__).resolve().parents[2] / "setup.py"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?:(==|>=)\s*([A-Za-z0-9.+!]+))?.*")


@dataclass(frozen=True)
class Requirement:
    """One package of an extra.

    Attributes:
        package: Name on PyPI.
        operator: `==` for a pinned version, `>=` for the smallest one, or empty.
        version: The version that the operator names, or empty.
    """

    package: str
    operator: str = ""
    version: str = ""

    @property
    def text(self) -> str:
        """The requirement as pip takes it."""
        return f"{self.package}{self.operator}{self.version}"

    def accepts(self, version: str) -> bool:
        """Return whether a version is one that the requirement asks for. A local part such as `+cpu` is ignored."""
        public = version.partition("+")[0]
        if self.operator == "==":
            return public == self.version
        return not self.operator or _numbers(public) >= _numbers(self.version)


def read_extras(path: Path = SETUP_FILE) -> dict[str, list[Requirement]]:
    """Return the requirements of each extra.

    Running setup.py would need setuptools, which may be what is broken.

    Raises:
        DataError: The file cannot be read, or has no extras.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: expected the setup.py of the checkout, got: {error}; restore it") from error
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    extras = assigned.get("EXTRAS")
    if not isinstance(extras, ast.Dict):
        raise DataError(f"{path}: expected a table EXTRAS of extras in it, found none; restore the file")
    return {
        str(ast.literal_eval(key)): [_parse(text) for text in _texts(value, assigned)]
        for key, value in zip(extras.keys, extras.values, strict=True)
        if key is not None
    }


def _texts(node: ast.expr, assigned: dict[str, ast.expr]) -> list[str]:
    """Return the text constants in an expression, those of variables that it names included, split into words."""
    if isinstance(node, ast.ListComp):  # [f"{name}; marker" for name in NAMES]
        return _texts(node.generators[0].iter, assigned)
    if isinstance(node, ast.Name):
        return _texts(assigned[node.id], assigned) if node.id in assigned else []
    texts = [item.value for item in ast.walk(node) if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return [word for text in texts for word in text.partition(";")[0].split()]


def _parse(text: str) -> Requirement:
    match = _REQUIREMENT.fullmatch(text)
    return Requirement(match[1], match[2] or "", match[3] or "") if match else Requirement(text)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
