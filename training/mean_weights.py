"""The mean of the weights of several checkpoints that came from one start (a model soup)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.config.licence import Licences, merged, not_stated
from training.errors import CheckpointError
from training.networks.student import Student


def load_mean(*paths: Path | str) -> tuple[Student, CheckpointInfo]:
    """Load the mean of the averaged weights of checkpoints, on the CPU, in eval mode.

    The mean often works better on new frames than each of them, if all started from the same weights and did not move
    too far (Wortsman et al., Model soups, 2022).

    Args:
        paths: At least one checkpoint, anything that `load_student` reads. One alone is loaded as it is.

    Returns:
        The network, and the notes of the first checkpoint: with the data, the teachers and the licences of all, with
        the digests of all weights as `mean_of`, and without figures, which none of them has for the mean.

    Raises:
        CheckpointError: A file is not a checkpoint, two hold the same weights, or their networks differ in label set,
            shape, input channels or rounding.
    """
    loaded = [load_student(path) for path in paths]
    student, info = loaded[0]
    if len(loaded) == 1:
        return student, info
    infos = [each for _, each in loaded]
    digests = [digest_of_weights(network) for network, _ in loaded]
    _check_alike(loaded, digests, paths)
    _average([network for network, _ in loaded])
    return student, replace(
        info,
        data_sha256=joined_digests([each.data_sha256 for each in infos]),
        metrics={},
        teacher_sha256="",
        earlier_teacher_sha256=joined_digests([each.taught_by for each in infos]),
        licences=merged(noted_licences(each, path) for each, path in zip(infos, paths, strict=True)),
        confidence=None,
        pretrained_share=0.0,
        pretrained_sha256="",
        mean_of=tuple(digests),
    )


def noted_licences(info: CheckpointInfo, path: Path | str) -> Licences:
    """Return the licences in the notes of a checkpoint; those of early versions state none."""
    return not_stated(f"the weights {Path(path).name}") if info.licences is None else info.licences


def _check_alike(
    loaded: Sequence[tuple[Student, CheckpointInfo]], digests: Sequence[str], paths: Sequence[Path | str]
) -> None:
    first, info = loaded[0]
    for place, ((network, each), path) in enumerate(zip(loaded, paths, strict=True)):
        if each.quantization_aware is not None:
            raise CheckpointError(
                f"{path}: expected a plain network, to take a mean of weights, this one is trained for 8 bits; take "
                "the mean of the checkpoints that such runs started from"
            )
        if each.classes != info.classes:
            raise CheckpointError(
                f"{path}: expected the label set of {paths[0]}, to take the mean of both, got {each.classes.name}; "
                "name checkpoints of one label set"
            )
        if _shapes(network) != _shapes(first):
            raise CheckpointError(
                f"{path}: expected weights of the same shapes as in {paths[0]}, to take the mean of both, got others; "
                "name checkpoints of one size and backbone, not pruned, or trained from one pruned network"
            )
        if digests[place] in digests[:place]:
            same = paths[digests.index(digests[place])]
            raise CheckpointError(f"{path}: expected other weights than in {same}, got the same; name each once")


def joined_digests(digests: Sequence[str]) -> str:
    """Join digests, which may be joined ones themselves, each once."""
    return "+".join(dict.fromkeys(part for digest in digests for part in digest.split("+") if part))


@torch.no_grad()
def _average(networks: Sequence[Student]) -> None:
    """Put the mean of all weights and running statistics into the first network; its counters stay as they are."""
    states = [network.state_dict() for network in networks]
    for name, value in states[0].items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))


def _shapes(student: Student) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in student.state_dict().items()}
