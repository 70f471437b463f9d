"""Installed packages that the package needs, directly and through others, from their own metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from types import MappingProxyType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from training.errors import DataError

PACKAGE = "ros_kd_perception"
EXTRAS = ("cpu", "bag", "signature")
"""What a vehicle installs by pip. ROS comes from its own distribution."""
MAX_LICENCE_CHARACTERS = 100


@dataclass(frozen=True)
class InstalledPackage:
    """A package of this environment.

    Attributes:
        name: Its normalised name.
        version: Its version.
        licence: What its metadata says in few words, often an SPDX expression. Empty if it says nothing.
        needs: Names of the packages that it needs here.
    """

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]


def installed_packages(extras: Sequence[str] = EXTRAS) -> Mapping[str, InstalledPackage]:
    """Return the package and all that it needs with some extras, by name. The package comes first.

    Raises:
        DataError: A package that is needed is not installed, or this one in an older version; one sentence.
    """
    known = _installed(canonicalize_name(PACKAGE)).metadata.get_all("Provides-Extra") or []
    if unknown := sorted(set(extras) - set(known)):
        raise DataError(
            f"expected the installed {PACKAGE} to have the extras {', '.join(extras)}, it lacks {', '.join(unknown)}; "
            "install the checkout again"
        )
    found: dict[str, InstalledPackage] = {}
    waiting = [(canonicalize_name(PACKAGE), frozenset(extras))]
    asked: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop(0)
        if (name, wanted) in asked:
            continue
        asked.add((name, wanted))
        installed = _installed(name)
        needs = _needs(installed, wanted)
        waiting += [(canonicalize_name(need.name), frozenset(need.extras)) for need in needs]
        names = {str(canonicalize_name(need.name)) for need in needs} | set(found[name].needs if name in found else ())
        found[name] = InstalledPackage(name, installed.version, _licence(installed), tuple(sorted(names)))
    return MappingProxyType(found)


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise DataError(
            f"expected the Python package {name} to be installed, because it belongs into the bill, found none; "
            f"install {PACKAGE} with its extras [{','.join(EXTRAS)}]"
        ) from None


def _needs(installed: Distribution, extras: frozenset[str]) -> list[Requirement]:
    requirements = [Requirement(text) for text in installed.requires or ()]
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments)
    ]


def _licence(installed: Distribution) -> str:
    metadata = installed.metadata
    for key in ("License-Expression", "License"):
        text = " ".join(str(metadata[key] or "").split())
        if text and len(text) <= MAX_LICENCE_CHARACTERS and text != "UNKNOWN":
            return text
    classifiers = metadata.get_all("Classifier") or []
    names = [match[1] for text in classifiers if (match := re.fullmatch(r"License :: .*?([^:]+)", text))]
    return " / ".join(name.strip() for name in names)
