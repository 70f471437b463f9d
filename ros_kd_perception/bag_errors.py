"""What is wrong with a bag, in one sentence."""

from __future__ import annotations


class BagError(ValueError):
    """A bag that cannot be read or written; the text is one sentence with what to do."""


def one_line(error: Exception) -> str:
    """What an exception says, without line breaks, at most 200 characters; its class if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(".")
