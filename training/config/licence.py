"""Licences of what a network learnt from, and what its weights may be used for because of them.

Licences are noted by the name of the data or the network: in checkpoints, in kept weights, and in the contract of an
export. This module says what recipes and notes state. It gives no legal advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from training.config.settings import Settings

Text = Annotated[str, Field(min_length=1, max_length=200)]
Licences = dict[str, dict[str, str]]
"""`terms` and `use` of each name, as notes hold them."""

NOT_STATED = "not stated"
RESEARCH, ANY = "research", "any"
_WIDTHS = {RESEARCH: 0, NOT_STATED: 1, ANY: 2}  # notes of another program may have other words, which state nothing


class Licence(Settings):
    """Under which terms data, or the weights of a teacher, may be used."""

    of: Text
    """Name of the data set or of the network."""
    terms: Text
    """Name of its licence, for example CC BY-NC-SA 3.0."""
    use: Literal["any", "research"]
    """What weights that learn from it may be used for."""

    @property
    def noted(self) -> Licences:
        """The licence as notes hold it."""
        return {self.of: {"terms": self.terms, "use": self.use}}


def not_stated(name: str) -> Licences:
    """Return the note on something of which no licence is known."""
    return {name: {"terms": NOT_STATED, "use": NOT_STATED}}


def are_licences(value: Any) -> bool:
    """Return whether a value has the form of `Licences`."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and isinstance(entry, Mapping)
        and entry.keys() == {"terms", "use"}
        and all(isinstance(text, str) for text in entry.values())
        for name, entry in value.items()
    )


def use_of(licences: Licences) -> str:
    """Return what weights may be used for that learnt under some licences, in words.

    The narrowest licence decides. Something without a stated licence leaves the use open, unless another licence is
    narrow already.
    """
    for use, begin in ((RESEARCH, "research only, because of"), (NOT_STATED, "not stated for")):
        names = sorted(name for name, entry in licences.items() if entry["use"] == use)
        if names:
            return f"{begin} {', '.join(names)}"
    return ANY


def merged(parts: Iterable[Licences]) -> Licences:
    """Return all licences of several notes, in the order of their names. Of two of one name, the narrower counts."""
    found: Licences = {}
    for part in parts:
        for name, entry in part.items():
            known = found.setdefault(name, entry)
            if _WIDTHS.get(entry["use"], 1) <= _WIDTHS.get(known["use"], 1):
                found[name] = entry
    return dict(sorted(found.items()))
