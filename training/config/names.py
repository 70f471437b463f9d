"""The rule for names that become folders: of runs, comparisons, their entries and exports."""

from __future__ import annotations

import re

MAX_NAME_CHARACTERS = 100
FOLDER_NAME_RULE = (
    f"1 to {MAX_NAME_CHARACTERS} letters, digits and characters of . _ + -, the first of them a letter or digit"
)
_FOLDER_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{MAX_NAME_CHARACTERS - 1}}}")


def is_folder_name(name: str) -> bool:
    """Return whether `name` follows FOLDER_NAME_RULE: a single folder name on every file system."""
    return _FOLDER_NAME.fullmatch(name) is not None
