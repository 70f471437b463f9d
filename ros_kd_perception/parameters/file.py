"""Reads the node's parameters from a ROS parameter file, without ROS, so that a replay can use a vehicle's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ros_kd_perception.parameters.errors import ParameterError
from ros_kd_perception.parameters.sections import belongs_to, check_node, full_name, only_node

_MAX_BYTES = 1 << 20
_MAX_VALUES = 10_000
_MAX_DEPTH = 16


def read_parameter_file(path: Path, node: str | None = None) -> dict[str, Any]:
    """Return the parameters of a node by full name, with dots between the parts. Later sections override earlier ones.

    Args:
        path: The parameter file.
        node: Full name of the node. Without it, the file must have the settings of exactly one perception node.

    Raises:
        ParameterError: The file is unreadable, or has settings for no node or for several. One sentence.
    """
    sections = list(_sections("", _yaml_of(path), 0))
    names = [name for name, _ in sections]
    if "" in names:
        raise ParameterError(
            f"expected ros__parameters below the name of a node in {path}, found it at the top; write /**: above it, "
            "for all nodes"
        )
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


def section_names(path: Path) -> list[str]:
    """Return the names of the sections of a parameter file, with their namespaces.

    Raises:
        ParameterError: The file is unreadable. One sentence.
    """
    return [name for name, _ in _sections("", _yaml_of(path), 0)]


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
    """Refuse YAML that ROS and PyYAML read differently.

    This applies to a name that occurs twice on one level, because PyYAML silently drops the first one. It also applies
    to aliases, which ROS does not support and which can expand a small file to a huge one.
    """
    if node is None:
        return
    if id(node) in seen:
        raise ParameterError(f"expected {path} to be without YAML aliases, which ROS does not support; write them out")
    seen.add(id(node))
    names: set[str] = set()
    for entry in node.value if isinstance(node.value, list) else ():
        name, value = entry if isinstance(entry, tuple) else (None, entry)
        if name is not None and isinstance(name.value, str):
            if name.value in names:
                raise ParameterError(
                    f"expected each name once on its level in {path}, got {name.value[:100]!r} twice; merge the "
                    "entries below it"
                )
            names.add(name.value)
        _check_nodes(value, path, seen)


def _sections(prefix: str, values: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield each node's name with its namespaces, nested or not, and the content of its `ros__parameters`."""
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
