"""Finding: one thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        section: Heading of the report.
        name: The package, device, file or resource.
        state: `ok`; `note` for something that works but not as expected; `missing`; or `broken` for something that is
            there and fails.
        found: What is there, in words; empty if nothing is.
        remedy: One sentence that says what to do; empty for `ok`.
        required: Whether training cannot work without it.
    """

    section: str
    name: str
    state: State
    found: str = ""
    remedy: str = ""
    required: bool = False

    @property
    def stops_training(self) -> bool:
        """Whether training cannot work because of this."""
        return self.required and self.state in ("missing", "broken")
