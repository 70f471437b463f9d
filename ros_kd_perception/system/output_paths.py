"""Where a command may write: a name that is free, in a folder that is not made in the root of the file system.

`-o /outt/drive.mcap` instead of `/out/drive.mcap` would otherwise be written, by root as in most containers, to a new
folder beside /usr, where it is neither looked for nor on the disk that was mounted for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class OutputPathError(ValueError):
    """An output that is not written there; the text is one sentence with what to do."""


def check_free(path: Path, *, replace: bool, option: str = "--force") -> None:
    """Refuse a name that is taken, unless it is a file's that may be replaced.

    Args:
        path: of the output.
        replace: whether an existing file may be replaced.
        option: of the command, with which it may.

    Raises:
        OutputPathError: the name is taken.
    """
    if not os.path.lexists(path) or (replace and path.is_file()):
        return
    other = f"replace it with {option}" if path.is_file() else "remove it"
    raise OutputPathError(
        f"expected a name for the output that is free, {path} exists; choose another name, or {other}"
    )


def check_folder(folder: Path) -> None:
    """Refuse a folder that does not exist, if it or a missing one above it would have to be made in the root.

    Raises:
        OutputPathError: one sentence.
    """
    real = Path(os.path.realpath(folder))
    outermost = [path for path in (real, *real.parents) if not path.exists()][-1:]
    if outermost and outermost[0].parent == Path(real.anchor):
        raise OutputPathError(
            f"expected {folder} to be in an existing folder other than {real.anchor}, but {outermost[0]} does not "
            f"exist; check its spelling, or make it first: mkdir {outermost[0]}"
        )


def check_writable(folder: Path) -> None:
    """Refuse a folder that files cannot be written into, which need not exist yet.

    Raises:
        OutputPathError: by the rule of `check_folder`; a file is in its place; or this user may not write there.
    """
    check_folder(folder)
    existing = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise OutputPathError(
            f"expected {folder} to be a folder to write to, but {existing} is no folder; name another"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputPathError(
            f"expected {folder} to be a folder to write to, but nothing may be written in {existing}; correct its "
            "rights, or name another"
        )


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing, by the rule of `check_folder`.

    Returns:
        The folders that were made, innermost first.

    Raises:
        OutputPathError: one of them would be in the root.
        OSError: it cannot be made.
    """
    check_folder(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_if_empty(folders: Sequence[Path]) -> None:
    """Take back what `make_folder` made, as far as nothing is in it."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
