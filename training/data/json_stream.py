"""Reads large JSON files part by part, so that a file of many gigabytes needs the memory of its largest part only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from training.errors import DataError

MAX_FILE_BYTES = 8 << 30
MAX_PART_CHARACTERS = 1 << 26
_CHUNK_CHARACTERS = 1 << 20
_REST_OF_NUMBER = 2  # 1 may be the beginning of 12, and 1e- that of 1e-5
_SPACE = re.compile(r"[ \t\n\r]*")


def stream_json(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a JSON object: (key, element) for each element of a list, (key, value) for any other value.

    Only lists on the first level are split. An empty list yields nothing.

    Args:
        path: A file in UTF-8, at most MAX_FILE_BYTES long; none of its parts is longer than MAX_PART_CHARACTERS.

    Raises:
        DataError: The file cannot be read, is too large, or is not one JSON object. A key stands in it twice.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes, got {size}; split it")
        with path.open(encoding="utf-8-sig") as file:
            yield from _Text(file).parts()
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected one JSON object in UTF-8 ({error}); export it again, or correct the name of the file"
        ) from error


class _Text:
    """The text of a file, of which a window is held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._window = ""
        self._at = 0  # in the window
        self._before = 0  # characters of the file before the window
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def parts(self) -> Iterator[tuple[str, Any]]:
        self._take("{")
        seen: set[str] = set()
        while self._peek() != "}":
            if seen:
                self._take(",")
            key = self._value()
            if not isinstance(key, str) or key in seen:
                raise ValueError(f"expected each key once, got {key!r} a second time or as a key; remove it")
            seen.add(key)
            self._take(":")
            if self._peek() == "[":
                yield from ((key, element) for element in self._elements())
            else:
                yield key, self._value()
        self._take("}")
        if self._peek():
            raise ValueError(f"expected the end of the file {self._where()}, got more text")

    def _elements(self) -> Iterator[Any]:
        self._take("[")
        first = True
        while self._peek() != "]":
            if not first:
                self._take(",")
            first = False
            yield self._value()
        self._take("]")

    def _peek(self) -> str:
        """Return the next character that is not space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window) or not self._read_more():
                return self._window[self._at : self._at + 1]

    def _take(self, expected: str) -> None:
        found = self._peek()
        if found != expected:
            raise ValueError(
                f"expected {expected!r} {self._where()}, got {repr(found) if found else 'the end of the file'}"
            )
        self._at += 1

    def _value(self) -> Any:
        """Return the next value. Read on as long as it may be cut off by the end of the window."""
        self._peek()
        while True:
            try:
                value, end = self._decode(self._window, self._at)
                if end + _REST_OF_NUMBER < len(self._window) or not self._read_more():
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if len(self._window) - self._at > MAX_PART_CHARACTERS:
                    raise ValueError(
                        f"expected a whole value of at most {MAX_PART_CHARACTERS} characters {self._where()}"
                    ) from None
                if not self._read_more():
                    raise ValueError(f"{error.msg}, in the value {self._where()}") from None

    def _read_more(self) -> bool:
        """Read as much again as is held, so that a long value is not decoded too often; return False at the end."""
        more = "" if self._ended else self._file.read(max(_CHUNK_CHARACTERS, len(self._window) - self._at))
        self._ended = not more
        if more:
            self._window = self._window[self._at :] + more
            self._before, self._at = self._before + self._at, 0
        return bool(more)

    def _where(self) -> str:
        return f"at character {self._before + self._at}"
