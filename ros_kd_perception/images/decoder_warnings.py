"""Hear what libjpeg and libpng complain about while OpenCV decodes.

A JPEG with wrong bits in its scan decodes to garbage, and OpenCV returns it like any other image: the only sign is
libjpeg's one line on the process's standard error. So that file descriptor leads into memory while decoders run; what
other threads write meanwhile is passed on. What the decoders say of harmless oddities ends here: thirty frames a second
of it would bury the log.

There is one such descriptor for all threads, so decoders that run at the same time share one redirection: the first in
makes it, the last out ends it. Whose complaint it was nobody can tell then, so each that heard one decodes again alone.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

HARMLESS_EXTRA_BYTES = 3
"""Webcams often leave a few bytes between the scan and the next marker. So few are passed over here; `jpeg_filler`
tells more of them from what a misread scan leaves over."""

MAX_VISITS = 64
"""Decoders that one redirection serves before it ends: what other threads write must come out some time."""

_STANDARD_ERROR = 2
_DAMAGE = re.compile(r"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression|libpng error")
_HARMLESS = re.compile(
    r"libpng warning|Invalid SOS parameters|Warning: unknown JFIF|Unknown Adobe color|Application transferred|"
    r"\[ *(?:WARN|ERROR|INFO):.*\bgrfmt_(?:jpeg|png)\b"
)
_EXTRA_BYTES = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker (?:0x([0-9a-f]+))?")

Result = TypeVar("Result")


def hear(decode: Callable[[], Result]) -> tuple[Result, list[str]]:
    """Run a decoder and collect its complaints about damaged data; any number of threads may do so at once.

    Args:
        decode: called once, or twice if another thread's decoder may have made the complaints of the first time.

    Returns:
        What it returned, and the complaints; none where standard error is closed or cannot be caught.
    """
    result, said, alone = _ear.listen(decode)
    # Half a line of another decoder may stand before a complaint here, so that it is looked for everywhere.
    if not alone and any(_is_damage(said, found) for found in _DAMAGE.finditer(said)):
        result, said, _ = _ear.listen_alone(decode)
        alone = True
    return result, _complaints(said) if alone else []


def hear_each(decoders: Sequence[Callable[[], Result]]) -> list[tuple[Result, list[str]]]:
    """Run decoders one after the other, while no other thread decodes.

    Returns:
        For each what it returned, and its complaints about damaged data, harmless or not.
    """
    heard = _ear.listen_to_each(decoders)
    return [
        (result, [line for line in map(str.strip, said.splitlines()) if _DAMAGE.match(line)]) for result, said in heard
    ]


def extra_bytes(complaint: str) -> tuple[int, int] | None:
    """How many extra bytes stand before which marker, as a complaint says; None for a complaint of something else."""
    found = _EXTRA_BYTES.fullmatch(complaint)
    return None if found is None or found[2] is None else (int(found[1]), int(found[2], 16))


@contextmanager
def standard_error() -> Iterator[int | None]:
    """Standard error as it is while no decoder runs: what a child process must be given, for it keeps it for life.

    Yields:
        A file descriptor that is closed when the block ends; None where standard error is closed.
    """
    descriptor = _ear.duplicate_original()
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@dataclass(frozen=True)
class _Visit:
    """A decoder that runs: the how manieth of the redirection, whether others were inside, what had been said."""

    number: int
    in_company: bool
    begin: int


class _Ear:
    """Standard error, led into memory while at least one decoder runs."""

    def __init__(self) -> None:
        self._entrance = threading.Lock()  # whoever waits until nobody is inside holds it, so that nobody follows
        self._changed = threading.Condition()
        self._inside = 0
        self._visits = 0  # of this redirection
        self._descriptors: tuple[int, int] | None = None  # the original, and the memory

    def listen(self, decode: Callable[[], Result]) -> tuple[Result, str, bool]:
        """What it returned, what was said meanwhile, and whether no other decoder can have said it."""
        with self._entrance:
            visit = self._enter(alone=False)
        return self._run(decode, visit)

    def listen_alone(self, decode: Callable[[], Result]) -> tuple[Result, str, bool]:
        """As `listen`, while no other decoder runs."""
        with self._entrance:
            return self._run(decode, self._enter(alone=True))

    def listen_to_each(self, decoders: Sequence[Callable[[], Result]]) -> list[tuple[Result, str]]:
        """What each returned and what was said meanwhile, while no other decoder runs."""
        with self._entrance:
            visit = self._enter(alone=True)
            try:
                return [self._overhear(decode) for decode in decoders]
            finally:
                self._leave(visit)

    def duplicate_original(self) -> int | None:
        with self._changed, suppress(OSError):
            return os.dup(self._descriptors[0] if self._descriptors else _STANDARD_ERROR)
        return None

    def _run(self, decode: Callable[[], Result], visit: _Visit) -> tuple[Result, str, bool]:
        try:
            result = decode()
        finally:
            said, alone = self._leave(visit)
        return result, said, alone

    def _overhear(self, decode: Callable[[], Result]) -> tuple[Result, str]:
        if self._descriptors is None:
            return decode(), ""
        begin = os.fstat(self._descriptors[1]).st_size
        result = decode()
        return result, _read(self._descriptors[1], begin).decode(errors="replace")

    def _enter(self, alone: bool) -> _Visit:
        with self._changed:
            if alone or self._visits >= MAX_VISITS:
                self._changed.wait_for(lambda: self._inside == 0)
            if self._inside == 0:
                self._visits, self._descriptors = 0, _redirect()
            self._inside += 1
            self._visits += 1
            begin = os.fstat(self._descriptors[1]).st_size if self._descriptors else 0
            return _Visit(self._visits, self._inside > 1, begin)

    def _leave(self, visit: _Visit) -> tuple[str, bool]:
        with self._changed:
            said = _read(self._descriptors[1], visit.begin) if self._descriptors else b""
            alone = not visit.in_company and self._visits == visit.number
            self._inside -= 1
            if self._inside == 0:
                descriptors, self._descriptors = self._descriptors, None
                if descriptors:
                    _restore(*descriptors)
                self._changed.notify_all()
            return said.decode(errors="replace"), alone


_ear = _Ear()


def _redirect() -> tuple[int, int] | None:
    try:
        original = os.dup(_STANDARD_ERROR)
    except OSError:
        return None
    try:
        memory = os.memfd_create("decoder output")
    except (OSError, AttributeError):
        os.close(original)
        return None
    os.dup2(memory, _STANDARD_ERROR)
    return original, memory


def _restore(original: int, memory: int) -> None:
    os.dup2(original, _STANDARD_ERROR)
    lines = _read(memory, 0).splitlines(keepends=True)
    others = [line for line in lines if not _is_decoders(line.decode(errors="replace").strip())]
    with suppress(OSError):  # nobody reads it any more, which is no fault of the frame
        if others:
            os.write(original, b"".join(others))
    os.close(memory)
    os.close(original)


def _read(memory: int, begin: int) -> bytes:
    return os.pread(memory, os.fstat(memory).st_size - begin, begin)


def _is_decoders(line: str) -> bool:
    return bool(_DAMAGE.match(line) or _HARMLESS.match(line))


def _complaints(said: str) -> list[str]:
    lines = [line.strip() for line in said.splitlines()]
    return [line for line in lines if (found := _DAMAGE.match(line)) and _is_damage(line, found)]


def _is_damage(said: str, found: re.Match[str]) -> bool:
    extra = _EXTRA_BYTES.match(said, found.start())
    return not extra or int(extra[1]) > HARMLESS_EXTRA_BYTES
