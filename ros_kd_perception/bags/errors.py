"""The errors of bags and their sentences."""

from __future__ import annotations

from pathlib import Path


class BagError(ValueError):
    """The bag cannot be read or written. The text is one sentence and says what to do."""


class CutOff(ValueError):
    """A file of a bag ends too early. The text says what is missing."""


class Damaged(ValueError):
    """A file of a bag contains wrong bytes. The text says what was expected instead."""


def lost(path: Path, topic: str, stated: int, found: int, remedy: str) -> BagError:
    """Return the error for a bag that holds fewer messages of a topic than it states.

    Args:
        path: The file that states the number.
        topic: The topic of the messages.
        stated: The stated number of messages.
        found: The number of messages that were found.
        remedy: A command in backquotes that makes a valid bag from what was found.
    """
    return BagError(
        f"expected {stated} messages of {topic}, as {path} says, found {found}; copy the bag again, or keep what was "
        f"found with {remedy}"
    )


def being_written(path: Path, action: str) -> BagError:
    """Return the error for a file that changed while it was used.

    Args:
        path: The file.
        action: What was done with the file, such as `read`.
    """
    return BagError(
        f"expected {path} to stay as it is while it is {action}, but something writes to it; wait until the recording "
        "has ended"
    )


def one_line(error: Exception) -> str:
    """Return the text of an exception in one line of at most 200 characters, or its class name if it has no text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(".")
