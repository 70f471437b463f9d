"""The checkout under test, and copies of it that builds may write to."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Files that git ignores, or that no build reads.
LEFT_OUT = (
    ".git", ".venv", "out", "build", "install", "log", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis",
    "tests",
)  # fmt: skip


def copy_checkout(destination: Path) -> Path:
    """Copy the sources to a folder that does not exist yet and return it."""
    shutil.copytree(ROOT, destination, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    return destination
