"""Hear what libjpeg and libpng complain about while OpenCV decodes.

A JPEG with wrong bits in its scan decodes to garbage, and OpenCV returns it like any other image: the only sign is
libjpeg's one line on the process's standard error. So that file descriptor leads into memory while the decoder runs;
what other threads write meanwhile is passed on. What the decoders say of harmless oddities ends here: thirty frames a
second of it would bury the log.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HARMLESS_EXTRA_BYTES = 3
"""Webcams often leave a few bytes between the scan and the next marker; a scan that was misread leaves more."""

_STANDARD_ERROR = 2
_DAMAGE = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression|libpng error")
_HARMLESS = re.compile(
    r"libpng warning|Invalid SOS parameters|Warning: unknown JFIF|Unknown Adobe color|Application transferred|"
    r"\[ *(?:WARN|ERROR|INFO):.*\bgrfmt_(?:jpeg|png)\b"
)
_EXTRA_BYTES = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker")
# One descriptor for all threads.
_lock = threading.Lock()


@contextmanager
def jpeg_damage() -> Iterator[list[str]]:
    """Collect the decoders' complaints about damaged data that are made inside the `with` block.

    Yields:
        A list that is filled when the block ends; always empty where standard error is closed or cannot be caught.
    """
    complaints: list[str] = []
    with _lock:
        try:
            original = os.dup(_STANDARD_ERROR)
            memory = os.memfd_create("decoder output")
        except (OSError, AttributeError):
            yield complaints
            return
        os.dup2(memory, _STANDARD_ERROR)
        try:
            yield complaints
        finally:
            os.dup2(original, _STANDARD_ERROR)
            said = os.pread(memory, os.fstat(memory).st_size, 0)
            others = [line for line in said.splitlines(keepends=True) if not _is_decoders(line, complaints)]
            if others:
                os.write(original, b"".join(others))
            os.close(memory)
            os.close(original)


def _is_decoders(line: bytes, complaints: list[str]) -> bool:
    """Whether a decoder wrote this line; if of damage, it is added to the complaints."""
    text = line.decode(errors="replace").strip()
    if not _DAMAGE.match(text):
        return _HARMLESS.match(text) is not None
    extra = _EXTRA_BYTES.match(text)
    if not extra or int(extra[1]) > HARMLESS_EXTRA_BYTES:
        complaints.append(text)
    return True
