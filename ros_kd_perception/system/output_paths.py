"""Checks where a command writes its output: to a free name, and not to a new folder in the root of the file system.

Most containers run as root. There, a typo such as `-o /outt/drive.mcap` for `/out/drive.mcap` would otherwise create a
new folder beside /usr, which is not on the mounted disk and where the user does not look for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class OutputPathError(ValueError):
    """The output cannot be written to this path. The text is one sentence and says what to do."""


def check_free(path: Path, *, replace: bool, option: str = "--force") -> None:
    """Refuse a path that exists, unless it is a file that may be replaced.

    Args:
        path: Path of the output.
        replace: Whether an existing file may be replaced.
        option: The command's option that allows this, for the error.

    Raises:
        OutputPathError: The path exists.
    """
    if not os.path.lexists(path) or (replace and path.is_file()):
        return
    other = f"replace it with {option}" if path.is_file() else "remove it"
    raise OutputPathError(f"expected a free name for the output, {path} exists; choose another name, or {other}")


def check_folder(folder: Path) -> None:
    """Refuse a missing folder if it or one of its missing parents would be created in the root of the file system.

    Raises:
        OutputPathError: The folder would be created there. One sentence.
    """
    real = Path(os.path.realpath(folder))
    outermost = [path for path in (real, *real.parents) if not path.exists()][-1:]
    if outermost and outermost[0].parent == Path(real.anchor):
        raise OutputPathError(
            f"expected {folder} to be in an existing folder other than {real.anchor}, but {outermost[0]} does not "
            f"exist; check its spelling, or create it first: mkdir {outermost[0]}"
        )


def check_writable(folder: Path) -> None:
    """Refuse a folder that this user cannot write to. The folder may be missing.

    Raises:
        OutputPathError: `check_folder` refuses it, it is a file, or this user has no permission to write there.
    """
    check_folder(folder)
    existing = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise OutputPathError(
            f"expected {folder} to be a folder to write to, but {existing} is not a folder; choose another"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputPathError(
            f"expected {folder} to be a folder to write to, but {existing} is not writable; change its permissions, or "
            "choose another"
        )


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its missing parents, but none directly in the root of the file system.

    Returns:
        The created folders, innermost first.

    Raises:
        OutputPathError: One of them would be in the root.
        OSError: A folder cannot be created.
    """
    check_folder(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_if_empty(folders: Sequence[Path]) -> None:
    """Remove the folders that `make_folder` created, if they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def new_file_mode() -> int:
    """Return the permissions that this process gives to new files. Those of `mkstemp` let only the owner read."""
    mask = os.umask(0o022)
    os.umask(mask)
    return 0o666 & ~mask
