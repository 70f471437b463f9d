"""Keeps weights alone: of a checkpoint, the mean of several, or a mix with those that a backbone started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from training.checkpoint import CheckpointInfo, digest_of_weights
from training.errors import RecipeError
from training.mean_weights import load_mean
from training.networks.student import Student
from training.recipe import parse_noted_recipe
from training.run.network import build_recipe_student
from training.weights_file import write_weights


def keep_weights(checkpoints: Sequence[Path], output: Path, pretrained_share: float = 0.0) -> CheckpointInfo:
    """Write the averaged weights of a checkpoint, or the mean of several, into a safetensors file.

    `load_student` reads it.

    Args:
        checkpoints: At least one checkpoint of `train`; see `load_mean`.
        output: Path that ends with `.safetensors`. An existing file is replaced.
        pretrained_share: See `mix_pretrained`; 0 keeps the weights as they are.

    Returns:
        The notes of the checkpoint, which the file has, too.

    Raises:
        CheckpointError: A file is not a checkpoint of `train`, or several have no mean.
        RecipeError: Its backbone had no pretrained weights, or they cannot be read.
        OSError: The output cannot be written.
    """
    student, info = load_mean(*checkpoints)
    if pretrained_share:
        mix_pretrained(student, info, pretrained_share)
        # The figures are those of the weights as they were, and so is what a calibration promises.
        info = replace(info, pretrained_share=pretrained_share, metrics={}, confidence=None)
    write_weights(output, student.state_dict(), asdict(info), digest_of_weights(student))
    return info


@torch.no_grad()
def mix_pretrained(student: Student, info: CheckpointInfo, share: float) -> None:
    """Move the backbone back towards the pretrained weights of its run: w <- (1 - share) w + share pretrained.

    A network that was fine-tuned on few frames forgets some of what it knew about others. Between both weights, it may
    do better on frames that neither has seen (WiSE-FT; Wortsman et al., Robust fine-tuning of zero-shot models, 2022,
    equation 1).

    Args:
        student: The network; its backbone is changed.
        info: Notes of its checkpoint; their recipe names the pretrained weights.
        share: Share of the pretrained weights, 0..1.

    Raises:
        RecipeError: The backbone had no pretrained weights, or they cannot be read.
    """
    recipe = parse_noted_recipe(info.recipe)
    if recipe.backbone is None or not recipe.backbone.pretrained:
        raise RecipeError(
            "expected a checkpoint whose recipe has backbone.pretrained, to mix its weights with those, it has none; "
            "leave --pretrained-share out"
        )
    start = build_recipe_student(recipe).backbone.state_dict()
    for name, value in student.backbone.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name], share)
