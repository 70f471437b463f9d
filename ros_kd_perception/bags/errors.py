"""What is wrong with a bag, in one sentence."""

from __future__ import annotations

from pathlib import Path


class BagError(ValueError):
    """A bag that cannot be read or written; the text is one sentence with what to do."""


class CutOff(ValueError):
    """A file of a bag that ends too early; the text says how that shows."""


class Damaged(ValueError):
    """A file of a bag with wrong bytes in it; the text says what they are."""


def lost(path: Path, topic: str, stated: int, found: int, remedy: str) -> BagError:
    """Say that a bag holds fewer messages of a topic than it says.

    Args:
        path: of the file that says so.
        topic: whose messages.
        stated: how many there should be.
        found: how many there are.
        remedy: a command in backquotes that makes a bag of what there is.
    """
    return BagError(
        f"expected {stated} messages of {topic}, as {path} says, found {found}; copy the bag again, or go on with what "
        f"there is by {remedy}"
    )


def being_written(path: Path, action: str) -> BagError:
    """Say that a file changed while it was used.

    Args:
        path: of the file.
        action: what was done with it, such as `read`.
    """
    return BagError(
        f"expected {path} to stay as it is while it is {action}, but something writes to it; wait until the recording "
        "has ended"
    )


def one_line(error: Exception) -> str:
    """What an exception says, without line breaks, at most 200 characters; its class if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(".")
