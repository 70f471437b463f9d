"""Names that become folders: one rule for runs, comparisons, their entries and what an export is called."""

from __future__ import annotations

import re

MAX_NAME_CHARACTERS = 100
FOLDER_NAME_RULE = (
    f"1 to {MAX_NAME_CHARACTERS} letters, digits and characters of . _ + -, the first of them a letter or digit"
)
_FOLDER_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{MAX_NAME_CHARACTERS - 1}}}")


def is_folder_name(name: str) -> bool:
    """Whether `name` is a single folder below another on every file system, as FOLDER_NAME_RULE says it."""
    return _FOLDER_NAME.fullmatch(name) is not None
