"""Errors that end a training command with one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class RecipeError(ValueError):
    """A recipe cannot be run. The message names the key, what was expected and what to do."""


class DataError(ValueError):
    """A folder or file cannot be trained on. The message names it, what was expected and what to do."""


def from_here(path: Path) -> str:
    """Say where a relative path was looked for; recipes of a checkout name such paths and are also used elsewhere."""
    return "" if path.is_absolute() else f" below the working directory {Path.cwd()}"


class CheckpointError(ValueError):
    """A file is not a checkpoint of a student. The message says what was expected and what to do."""

    @classmethod
    def check_file(cls, path: Path) -> None:
        """Refuse a path without a file.

        Raises:
            CheckpointError: There is no file at `path`.
        """
        if path.is_dir():
            raise cls(f"{path}: expected a checkpoint, it is a folder; name a .ckpt file in it")
        if not path.is_file():
            raise cls.missing(path)

    @classmethod
    def check_beginning(cls, path: Path) -> None:
        """Refuse a path without a file, and a file that does not begin as checkpoints do, before torch is loaded.

        Raises:
            CheckpointError: There is no file at `path`, one of another kind, or one that cannot be read.
        """
        cls.check_file(path)
        if path.suffix == ".onnx":  # an exported student, whose reader does not load torch either
            return
        try:
            with path.open("rb") as file:
                begin = file.read(_BEGIN_BYTES)
        except OSError as error:
            raise cls(
                f"{path}: expected a checkpoint, it cannot be read: {error.strerror}; check its permissions"
            ) from None
        if path.suffix == ".safetensors":
            is_one = begin[8:9] == b"{"  # behind the length of the header
        else:
            is_one = begin.startswith((b"PK", b"\x80"))  # ZIP, as torch writes it; pickle, as it did before 1.6
        if not is_one:
            found = f"it begins with {begin!r}" if begin else "it is empty"
            raise cls(f"{path}: expected a checkpoint, {found}; use a .ckpt that python -m training train wrote")

    @classmethod
    def missing(cls, path: Path) -> CheckpointError:
        """Return the error about a missing checkpoint."""
        return cls(
            f"{path}: expected a checkpoint, there is no such file{from_here(path)}; python -m training train writes "
            "them to out/training/NAME/checkpoints/"
        )


MAX_LISTED = 20
_BEGIN_BYTES = 16


def listed(problems: Sequence[str]) -> str:
    """Return problems with a line each, the first MAX_LISTED of them and how many there are besides."""
    more = len(problems) - MAX_LISTED
    return "\n".join([*problems[:MAX_LISTED], *([f"and {more} more like these"] if more > 0 else [])])


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Name `place` in errors about files that do not name one: a write to a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def sentence_about(error: OSError) -> str | None:
    """Return file, reason and remedy; None for errors that are not about a file, such as a lost connection."""
    if error.errno is None or isinstance(error, (ConnectionError, TimeoutError)):
        return None
    if error.errno in _NO_ROOM:
        remedy = "make room, or write to a folder on another disk; --resume continues a run from its last checkpoint"
    elif error.filename is None:
        return None
    else:
        remedy = "correct the path, or its rights"
    return f"{error.filename or 'a file'}: expected to read or write it, got: {error.strerror}; {remedy}"
