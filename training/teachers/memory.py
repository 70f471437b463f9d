"""Tells the errors of a machine without enough memory from others."""

from __future__ import annotations

import torch

_SENTENCES = ("allocate memory", "out of memory", "not enough memory")


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error says that memory ran out; PyTorch raises a RuntimeError for that of the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sentence in str(error).lower() for sentence in _SENTENCES)
