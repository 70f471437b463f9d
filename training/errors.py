"""Errors that end a command of training with one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RecipeError(ValueError):
    """A recipe that cannot be run; the message says which key, what was expected and what to do."""


class DataError(ValueError):
    """A folder or file that cannot be trained on; the message names it, what was expected and the remedy."""


class CheckpointError(ValueError):
    """A file that holds no student of ours; the message says what was expected and what to do."""

    @classmethod
    def check_file(cls, path: Path) -> None:
        """Refuse a checkpoint that is not there.

        Raises:
            CheckpointError: there is no file at `path`.
        """
        if not path.is_file():
            raise cls.missing(path)

    @classmethod
    def missing(cls, path: Path) -> CheckpointError:
        """The error about a checkpoint that is not there."""
        return cls(
            f"{path}: expected a checkpoint, there is no such file; python -m training train writes them to "
            "out/training/NAME/checkpoints/"
        )


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Name `place` in what goes wrong with a file inside: a write to a full disk does not say where it was."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def sentence_about(error: OSError) -> str | None:
    """File, reason and remedy; None where the error is not about a file, such as a connection that broke."""
    if error.errno is None or isinstance(error, (ConnectionError, TimeoutError)):
        return None
    if error.errno in _NO_ROOM:
        remedy = "make room, or write to a folder on another disk; a run goes on from its last checkpoint with --resume"
    elif error.filename is None:
        return None
    else:
        remedy = "correct the path, or its rights"
    return f"{error.filename or 'a file'}: expected to read or write it, got: {error.strerror}; {remedy}"
