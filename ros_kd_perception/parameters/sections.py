"""Which sections of a ROS parameter file are a node's, by the rules of rcl.

A section is headed by the full name of a node. In its place, `*` stands for one part of a name and `**` for any number
of parts, none included: `/**`, `/car1/*`, `/**/perception`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ros_kd_perception.parameters.rules import ParameterError

DEFAULT_NODE = "perception"
"""Name of the node where a launch file gives it no other; its namespace may be any."""

_NODE_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


def full_name(name: str) -> str:
    """Put the slash before a node's name where it is left out, as rcl does.

    Raises:
        ParameterError: not the name of a node.
    """
    full = f"/{name.strip('/')}"
    if not _NODE_NAME.fullmatch(full):
        raise ParameterError(f"expected the full name of a node such as /car1/{DEFAULT_NODE}, got {name[:100]!r}")
    return full


def belongs_to(section: str, node: str) -> bool:
    """Whether a section, with its slash, is of the node of a full name."""
    parts = {"*": "/[^/]+", "**": "(?:/[^/]+)*"}
    wanted = _parts(section)
    # Several `**` in a row say no more than one, and would be tried against each other.
    once = [
        part for part, next_part in zip(wanted, [*wanted[1:], ""], strict=True) if (part, next_part) != ("**", "**")
    ]
    pattern = "".join(parts.get(part, f"/{re.escape(part)}") for part in once)
    return re.fullmatch(pattern, node) is not None


def only_node(sections: Sequence[str], file: object) -> str:
    """Full name of the one perception node that the sections of a file are meant for.

    A vehicle's file has a section for its node and perhaps some for all nodes. A file with sections for nodes in
    several namespaces is of several vehicles.

    Args:
        sections: their names, with slashes.
        file: to be named in errors.

    Raises:
        ParameterError: no such node, or several; one sentence.
    """
    candidates = dict.fromkeys(name for section in sections if (name := _node_meant_by(section)))
    own = {name: frozenset(s for s in sections if belongs_to(s, name)) for name in candidates}
    # A node of a namespace has the sections for all nodes, and its own: the most that any node has.
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
    """Refuse a node that none of the sections is for.

    Raises:
        ParameterError: one sentence.
    """
    if not any(belongs_to(section, node) for section in sections):
        raise ParameterError(f"expected a section of {file} for the node {node}, or /**, got {_listed(sections)}")


def _node_meant_by(section: str) -> str | None:
    """A perception node that has this section: `any` where it says nothing of a part of the name."""
    *namespace, name = _parts(section) or [""]
    if name not in (DEFAULT_NODE, "*", "**"):
        return None
    return "/".join(["", *("any" if part == "*" else part for part in namespace if part != "**"), DEFAULT_NODE])


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)[:200] or "none with ros__parameters"
