"""Finds the sections of a ROS parameter file that apply to a node, by the rules of rcl.

The heading of a section is the full name of a node. It may contain `*` for one part of a name and `**` for any number
of parts, also zero: `/**`, `/car1/*`, `/**/perception`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ros_kd_perception.parameters.errors import ParameterError

DEFAULT_NODE = "perception"
"""Name of the node, in any namespace, unless a launch file changes it."""

_NODE_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


def full_name(name: str) -> str:
    """Return a node's name with a leading slash, which rcl lets users omit.

    Raises:
        ParameterError: The text is not a valid node name.
    """
    full = f"/{name.strip('/')}"
    if not _NODE_NAME.fullmatch(full):
        raise ParameterError(f"expected the full name of a node such as /car1/{DEFAULT_NODE}, got {name[:100]!r}")
    return full


def belongs_to(section: str, node: str) -> bool:
    """Return whether a section, named with its leading slash, applies to the node with this full name."""
    parts = {"*": "/[^/]+", "**": "(?:/[^/]+)*"}
    wanted = _parts(section)
    if not wanted:
        return False
    # Reduce several `**` in a row to one. They mean the same, but the regular expression would backtrack for long.
    once = [
        part for part, next_part in zip(wanted, [*wanted[1:], ""], strict=True) if (part, next_part) != ("**", "**")
    ]
    pattern = "".join(parts.get(part, f"/{re.escape(part)}") for part in once)
    return re.fullmatch(pattern, node) is not None


def only_node(sections: Sequence[str], file: object) -> str:
    """Return the full name of the only perception node in a parameter file.

    The file of one vehicle has a section for its node and possibly sections for all nodes. A file with sections for
    nodes in several namespaces belongs to several vehicles.

    Args:
        sections: Names of the sections, with slashes.
        file: The file, to be named in errors.

    Raises:
        ParameterError: There is no perception node, or more than one. One sentence.
    """
    candidates = dict.fromkeys(name for section in sections if (name := _node_meant_by(section)))
    own = {name: frozenset(s for s in sections if belongs_to(s, name)) for name in candidates}
    # A node with its own section has that section and those for all nodes. Keep the nodes with the most sections.
    meant = [name for name, sections_of in own.items() if not any(sections_of < others for others in own.values())]
    if not meant:
        raise ParameterError(
            f"expected a section of {file} for the node {DEFAULT_NODE}, or /**, got {_listed(sections)}; name another "
            "node with --node"
        )
    if len(meant) > 1:
        raise ParameterError(
            f"expected the settings of one node in {file}, got those of {_listed(meant)}; choose one with --node "
            f"{meant[0]}"
        )
    return meant[0]


def check_node(node: str, sections: Sequence[str], file: object) -> None:
    """Refuse a node that no section applies to.

    Raises:
        ParameterError: No section applies. One sentence.
    """
    if not any(belongs_to(section, node) for section in sections):
        raise ParameterError(f"expected a section of {file} for the node {node}, or /**, got {_listed(sections)}")


def _node_meant_by(section: str) -> str | None:
    """Return the name of a perception node that this section applies to, with `any` for each `*`. None without one."""
    *namespace, name = _parts(section) or [""]
    if name not in (DEFAULT_NODE, "*", "**"):
        return None
    return "/".join(["", *("any" if part == "*" else part for part in namespace if part != "**"), DEFAULT_NODE])


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)[:200] or "none with ros__parameters"
