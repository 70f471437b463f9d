"""Keeps weights alone: of a checkpoint, the mean of several, or a mix with those that a backbone started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.config.licence import merged
from training.errors import CheckpointError, RecipeError
from training.mean_weights import joined_digests, load_mean, noted_licences
from training.networks.student import Student
from training.recipe import parse_noted_recipe
from training.run.network import build_recipe_student
from training.weights_file import write_weights


def keep_weights(
    checkpoints: Sequence[Path], output: Path, pretrained_share: float = 0.0, towards: Path | None = None
) -> CheckpointInfo:
    """Write the averaged weights of a checkpoint, or the mean of several, into a safetensors file.

    `load_student` reads it.

    Args:
        checkpoints: At least one checkpoint of `train`; see `load_mean`.
        output: Path that ends with `.safetensors`. An existing file is replaced.
        pretrained_share: See `mix_pretrained`; 0 keeps the weights as they are.
        towards: Checkpoint whose backbone counts as the pretrained one, see `mix_towards`; None for that of the run.

    Returns:
        The notes of the checkpoint, which the file has, too.

    Raises:
        CheckpointError: A file is not a checkpoint of `train`, several have no mean, or `towards` has another backbone.
        RecipeError: Its backbone had no pretrained weights, or they cannot be read.
        OSError: The output cannot be written.
    """
    student, info = load_mean(*checkpoints)
    if pretrained_share:
        if towards is None:
            mix_pretrained(student, info, pretrained_share)
        else:
            info = replace(info, licences=noted_licences(info, checkpoints[0]))
            info = mix_towards(student, info, pretrained_share, towards)
        # The figures are those of the weights as they were, and so is what a calibration promises.
        info = replace(info, pretrained_share=pretrained_share, metrics={}, confidence=None)
    write_weights(output, student.state_dict(), asdict(info), digest_of_weights(student))
    return info


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
            "name other weights with --towards, or leave --pretrained-share out"
        )
    _move(student, build_recipe_student(recipe), share)


def mix_towards(student: Student, info: CheckpointInfo, share: float, path: Path) -> CheckpointInfo:
    """Move the backbone towards that of other weights, as `mix_pretrained` does.

    Args:
        student: The network; its backbone is changed.
        info: Notes of its checkpoint.
        share: Share of the other weights, 0..1.
        path: Checkpoint of a network on the same backbone, or on one that has all its layers.

    Returns:
        The notes, with the data, teachers and licences of both.

    Raises:
        CheckpointError: The file is not a checkpoint, or its backbone lacks layers.
    """
    other, noted = load_student(path)
    theirs = other.backbone.state_dict()
    for name, value in student.backbone.state_dict().items():
        if name not in theirs or theirs[name].shape != value.shape:
            raise CheckpointError(
                f"{path}: expected the backbone of the network whose weights are kept, or one that has all its layers, "
                f"to move towards it, but {name} differs; name weights of its teacher or of an earlier stage"
            )
    _move(student, other, share)
    return replace(
        info,
        data_sha256=joined_digests([info.data_sha256, noted.data_sha256]),
        teacher_sha256="",
        earlier_teacher_sha256=joined_digests([info.taught_by, noted.taught_by]),
        licences=merged([info.licences or {}, noted_licences(noted, path)]),
        pretrained_sha256=digest_of_weights(other),
    )


@torch.no_grad()
def _move(student: Student, start: Student, share: float) -> None:
    pretrained = start.backbone.state_dict()
    for name, value in student.backbone.state_dict().items():
        if value.is_floating_point():
            value.lerp_(pretrained[name], share)
