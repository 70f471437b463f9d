"""Read what a ROS parameter file says about the node, without ROS: for a replay by the vehicle's own settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ros_kd_perception.free_space_parameters import (
    FREE_SPACE_PARAMETERS,
    FreeSpaceParameters,
    camera_declarations,
    read_free_space_parameters,
)
from ros_kd_perception.parameter_rules import ParameterError, as_declared, problem_with

_MAX_BYTES = 1 << 20
_MAX_VALUES = 10_000
_MAX_DEPTH = 16


def free_space_parameters_of(path: Path, cameras: Sequence[str], node: str = "perception") -> FreeSpaceParameters:
    """The free-space parameters of a file; its other parameters are not looked at.

    Args:
        path: of a YAML file for `--params-file`.
        cameras: their names.
        node: whose; sections of other nodes are passed over.

    Raises:
        ParameterError: unreadable, or a value that the node would refuse, too; one sentence.
    """
    values = read_parameter_file(path, node)
    declarations = dict(FREE_SPACE_PARAMETERS)
    for camera in cameras:
        declarations |= {n: row for n, row in camera_declarations(camera).items() if n in values}
    checked = {}
    for name, declaration in declarations.items():
        value = as_declared(values.get(name, declaration.default), declaration)
        problem = problem_with(name, value, declaration)
        if problem is not None:
            raise ParameterError(f"{path}: {problem}")
        checked[name] = value
    return read_free_space_parameters(checked.get, cameras)


def read_parameter_file(path: Path, node: str) -> dict[str, Any]:
    """Every parameter of a node by its full name, dots between its parts; later sections win over earlier ones.

    Raises:
        ParameterError: unreadable; one sentence.
    """
    try:
        import yaml
    except ImportError:
        raise ParameterError(
            "expected the Python package PyYAML for reading a parameter file, found none; install the [bag] extra of "
            "ros_kd_perception"
        ) from None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ParameterError(f"expected {path} to be a parameter file of at most {_MAX_BYTES} bytes; it is larger")
        sections = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ParameterError(f"expected a parameter file at {path}, got: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"expected {path} to be YAML, got: {' '.join(str(error).split())[:200]}") from None
    values: dict[str, Any] = {}
    names = []
    for name, parameters in _sections("", sections, 0):
        names.append(name)
        if name.rpartition("/")[2] in (node, "*", "**"):
            for key, value in _flatten("", parameters if isinstance(parameters, dict) else {}, 0):
                values[key] = value
                if len(values) > _MAX_VALUES:
                    raise ParameterError(f"expected at most {_MAX_VALUES} parameters in {path}, it has more")
    if not any(name.rpartition("/")[2] in (node, "*", "**") for name in names):
        there = ", ".join(names)[:200] or "none with ros__parameters"
        raise ParameterError(f"expected a section of {path} for the node {node}, or /**, got {there}")
    return values


def _sections(prefix: str, values: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Every node's name with its namespaces, however these are nested, and what stands under `ros__parameters`."""
    if depth > _MAX_DEPTH:
        raise ParameterError(f"expected namespaces of at most {_MAX_DEPTH} levels, got more below {prefix[:80]!r}")
    for key, value in values.items() if isinstance(values, dict) else ():
        if key == "ros__parameters":
            yield prefix, value
        elif isinstance(value, dict):
            yield from _sections(f"{prefix}/{str(key).strip('/')}", value, depth + 1)


def _flatten(prefix: str, values: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _MAX_DEPTH:
        raise ParameterError(f"expected parameters of at most {_MAX_DEPTH} levels, got more below {prefix[:80]!r}")
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(f"{prefix}{key}.", value, depth + 1)
        else:
            yield f"{prefix}{key}", value
