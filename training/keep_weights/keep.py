"""Keeps the weights of a checkpoint alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.weights_file import write_weights


def keep_weights(checkpoint: Path, output: Path) -> CheckpointInfo:
    """Write the averaged weights of a checkpoint alone into a safetensors file; `load_student` reads it.

    Args:
        checkpoint: A checkpoint of `train`.
        output: Path that ends with `.safetensors`. An existing file is replaced.

    Returns:
        The notes of the checkpoint, which the file has, too.

    Raises:
        CheckpointError: The file is not a checkpoint of `train`.
        OSError: The output cannot be written.
    """
    student, info = load_student(checkpoint)
    write_weights(output, student.state_dict(), asdict(info), digest_of_weights(student))
    return info
