"""What a disk refuses, said in a sentence: full, read-only, somebody else's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
