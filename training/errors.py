"""Errors that end a command of training with one sentence."""

from __future__ import annotations

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
