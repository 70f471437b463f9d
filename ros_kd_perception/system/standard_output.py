"""Lets commands print any path."""

from __future__ import annotations

import io
import sys


def escape_unknown_characters() -> None:
    """Let standard output write characters that its encoding lacks as escapes, as standard error does.

    A path may hold bytes that are not UTF-8. Printing it would end a command with an error after its work is done.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
