"""Read what a ROS parameter file says about the node, without ROS: for a replay by the vehicle's own settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ros_kd_perception.free_space_parameters import (
    FREE_SPACE_PARAMETERS,
    FreeSpaceParameters,
    camera_declarations,
    read_free_space_parameters,
)
from ros_kd_perception.parameters.rules import (
    CAMERA_PARAMETERS,
    Declaration,
    ParameterError,
    as_declared,
    problem_with,
    unknown_parameter,
)
from ros_kd_perception.parameters.sections import belongs_to, check_node, full_name, only_node

_MAX_BYTES = 1 << 20
_MAX_VALUES = 10_000
_MAX_DEPTH = 16


def free_space_parameters_of(
    path: Path, cameras: Sequence[str], node: str | None = None, warn: Callable[[str], None] = lambda sentence: None
) -> FreeSpaceParameters:
    """The free-space parameters of a file, and whether its cameras are a list of names; others are not looked at.

    Args:
        path: of a YAML file for `--params-file`.
        cameras: their names.
        node: full name of the node whose settings are wanted; without one, the file must be of one node.
        warn: told a sentence about each parameter of cameras, scans or free space that has no effect.

    Raises:
        ParameterError: unreadable, or a value that the node would refuse, too; one sentence.
    """
    values = read_parameter_file(path, node)
    declarations = FREE_SPACE_PARAMETERS | {"cameras": Declaration(["front"], "Names of the cameras.")}
    for camera in cameras:
        declarations |= camera_declarations(camera)
    _warn_of_unknown(values, {*declarations, *(f"{c}.{n}" for c in cameras for n in CAMERA_PARAMETERS)}, cameras, warn)
    checked = {}
    for name, declaration in declarations.items():
        if name not in values and name not in FREE_SPACE_PARAMETERS:
            continue
        value = as_declared(values.get(name, declaration.default), declaration)
        problem = problem_with(name, value, declaration)
        if problem is not None:
            raise ParameterError(f"{path}: {problem}")
        checked[name] = value
    return read_free_space_parameters(checked.get, cameras)


def _warn_of_unknown(
    values: Collection[str], known: Collection[str], cameras: Collection[str], warn: Callable[[str], None]
) -> None:
    """Only of names that seem meant for this: the file has the node's other parameters and those of other cameras."""
    groups = {"free_space", "scan", "mounting", *cameras}
    for name in values:
        if name not in known and (
            name.partition(".")[0] in groups or difflib.get_close_matches(name, FREE_SPACE_PARAMETERS, cutoff=0.85)
        ):
            warn(unknown_parameter(name, sorted(known), cameras))


def read_parameter_file(path: Path, node: str | None = None) -> dict[str, Any]:
    """Every parameter of a node by its full name, dots between its parts; later sections win over earlier ones.

    Args:
        path: of the file.
        node: full name of the node; without one, the file must be of one perception node.

    Raises:
        ParameterError: unreadable, of several nodes or of none; one sentence.
    """
    sections = list(_sections("", _yaml_of(path), 0))
    names = [name for name, _ in sections]
    if node is None:
        node = only_node(names, path)
    else:
        node = full_name(node)
        check_node(node, names, path)
    values: dict[str, Any] = {}
    for name, parameters in sections:
        if belongs_to(name, node):
            if not isinstance(parameters or {}, dict):
                raise ParameterError(
                    f"expected names with values below ros__parameters of {name} in {path}, got {str(parameters)[:80]}"
                )
            for key, value in _flatten("", parameters or {}, 0):
                values[key] = value
                if len(values) > _MAX_VALUES:
                    raise ParameterError(f"expected at most {_MAX_VALUES} parameters in {path}, it has more")
    return values


def _yaml_of(path: Path) -> Any:
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
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        document = loader.get_single_node()
        _check_nodes(document, path, set())
        return (loader.construct_document(document) if document else None) or {}
    except OSError as error:
        raise ParameterError(f"expected a parameter file at {path}, got: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"expected {path} to be YAML, got: {' '.join(str(error).split())[:200]}") from None


def _check_nodes(node: Any, path: Path, seen: set[int]) -> None:
    """Refuse what ROS and PyYAML read differently.

    That is a name that comes twice on one level, of which PyYAML drops the first without a word, and aliases, which
    ROS does not take and which make a small file large.
    """
    if node is None:
        return
    if id(node) in seen:
        raise ParameterError(f"expected {path} to be without YAML aliases, which ROS does not take; write them out")
    seen.add(id(node))
    names: set[str] = set()
    for entry in node.value if isinstance(node.value, list) else ():
        name, value = entry if isinstance(entry, tuple) else (None, entry)
        if name is not None and isinstance(name.value, str):
            if name.value in names:
                raise ParameterError(
                    f"expected each name once on its level in {path}, got {name.value[:100]!r} twice; put what is "
                    "below it together"
                )
            names.add(name.value)
        _check_nodes(value, path, seen)


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
