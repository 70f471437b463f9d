"""Reads YAML text into plain values, and refuses text that expands without end or names a key twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

MAX_VALUES = 10_000  # counted with aliases written out: they can make a short text huge
MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 400  # the largest float has 309 digits


def read_yaml(text: str) -> Any:
    """Return the values of one YAML document.

    Raises:
        ValueError: The text is not YAML. A key stands twice on one level; PyYAML would silently drop the first. Aliases
            contain themselves or expand to more than MAX_VALUES values. Text is not valid Unicode. A number is longer
            than MAX_NUMBER_CHARACTERS.
    """
    try:
        loader = yaml.SafeLoader(text)
        document = loader.get_single_node()
        for number, node in enumerate(_nodes(document, 0)):
            if number >= MAX_VALUES:
                raise ValueError(f"expected at most {MAX_VALUES} values, aliases written out, there are more")
            _check_node(node)
        return loader.construct_document(document) if document else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: also an impossible date or number
        raise ValueError(" ".join(str(error).split())) from error


def _nodes(node: yaml.Node | None, depth: int) -> Iterator[yaml.Node]:
    """Yield a node and all below it; a node with several aliases comes once for each."""
    if node is None:
        return
    if depth > MAX_DEPTH:
        raise ValueError(f"expected at most {MAX_DEPTH} levels, there are more, or an alias contains itself")
    yield node
    for entry in node.value if isinstance(node.value, list) else ():
        for part in entry if isinstance(entry, tuple) else (entry,):
            yield from _nodes(part, depth + 1)


def _check_node(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        names = Counter(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode))
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"expected each key once on its level, got {twice[0][:100]} twice; remove one")
    elif isinstance(node, yaml.ScalarNode):
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise ValueError(f"expected characters of Unicode, got the half of one in {node.value[:80]!r}")
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_NUMBER_CHARACTERS:
            raise ValueError(
                f"expected numbers of at most {MAX_NUMBER_CHARACTERS} characters, got {node.value[:20]}..."
            )
