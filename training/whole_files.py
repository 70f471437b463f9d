"""Writes files whole or not at all: a reader never sees half of one, and a full disk leaves the one from before."""

from __future__ import annotations

import os
from pathlib import Path

from ros_kd_perception.system.output_paths import make_folder
from training.errors import writing_to


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it; its folder is made if it is missing.

    Raises:
        OSError: The file cannot be written; the error names it.
        OutputPathError: The folder cannot be made.
    """
    with writing_to(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
