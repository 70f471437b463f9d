"""Checkpoints: what else goes into Lightning's file, and how to get a student out of it again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ros_kd_perception.model.classes import DETECTION_CLASSES, SEGMENTATION_CLASSES
from ros_kd_perception.model.contract import ClassInfo
from training.errors import CheckpointError, RecipeError
from training.networks.auto_backbone import rebuild_backbone
from training.networks.backbone import Backbone
from training.networks.growth import grow
from training.networks.student import SIZES, Student, build_student

INFO_KEY = "ros_kd_perception"
AVERAGED_PREFIX = "averaged.network."
TRAINED_PREFIX = "student."


@dataclass(frozen=True)
class CheckpointInfo:
    """Where a checkpoint's weights come from.

    Attributes:
        size: of the student.
        recipe: YAML text with all defaults written out.
        recipe_sha256: digest of it.
        data_sha256: fingerprints of the training sources, joined by `+`.
        epoch: finished epochs.
        git_commit: of the checkout that trained, `-dirty` appended where files differed from it; empty = no checkout.
        metrics: the last validation's figures; None for one that its labels could not yield.
        teacher_sha256: of the weights that taught; empty = labels alone.
        earlier_teacher_sha256: of those that taught the weights which the run started from, joined by `+`; empty =
            none did.
        backbone: configuration of a backbone of the transformers library, as `rebuild_backbone` takes it; None = ours.
        segmentation_classes, detection_classes: names by id; empty = written before they were noted.
        initial_weights_sha256: of the weights that the run started from; empty = from scratch, or not noted then.
    """

    size: str
    recipe: str
    recipe_sha256: str
    data_sha256: str
    epoch: int
    git_commit: str
    metrics: dict[str, float | None]
    teacher_sha256: str = ""
    backbone: dict[str, Any] | None = None
    earlier_teacher_sha256: str = ""
    segmentation_classes: tuple[str, ...] = ()
    detection_classes: tuple[str, ...] = ()
    initial_weights_sha256: str = ""

    @property
    def taught_by(self) -> str:
        """SHA-256 of the weights that taught last, in this run or before it; empty = labels alone."""
        return self.teacher_sha256 or self.earlier_teacher_sha256


def load_student(path: Path | str, weights: Literal["ema", "trained"] = "ema") -> tuple[Student, CheckpointInfo]:
    """The student of a checkpoint, on the CPU, in eval mode.

    Args:
        path: a `.ckpt` that `python -m training train` wrote.
        weights: `ema` = their moving average, which is what gets exported; `trained` = as the optimiser left them.

    Raises:
        CheckpointError: not such a file, or one of other classes.
    """
    content = read_checkpoint(Path(path))
    info = read_info(content, Path(path))
    prefix = AVERAGED_PREFIX if weights == "ema" else TRAINED_PREFIX
    state = {
        name.removeprefix(prefix): value for name, value in content["state_dict"].items() if name.startswith(prefix)
    }
    _check_classes(info, state, Path(path))
    try:
        # Of the noted configuration: the recipe may name weights, which bring their own and need not be had again.
        backbone = rebuild_backbone(info.backbone) if info.backbone else None
    except RecipeError as error:
        raise CheckpointError(f"{path}: {error}; install the transformers that setup.py names") from error
    student = build_student(info.size, len(SEGMENTATION_CLASSES), len(DETECTION_CLASSES), backbone)
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit a student of size {info.size} "
            f"({str(error).splitlines()[-1].strip()[:200]}); it was trained by another version, train it again"
        ) from error
    return student.eval(), info


def load_weights_into(student: Student, *paths: Path | str) -> tuple[str, str]:
    """Give a student the averaged weights of a checkpoint; those of a smaller one of our family are grown into it.

    Of several checkpoints the mean is taken, which tends to hold on frames that none of them knows better than any of
    them (model soups; Wortsman et al., 2022). It is of use where all came from one start by not too long a way.

    Args:
        student: changed.
        paths: at least one.

    Returns:
        SHA-256 of what taught them last, joined by `+`, and of their weights as they are taken.

    Raises:
        CheckpointError: not such a file, or of a student that is larger or of another kind, or of another than the
            first.
    """
    loaded = [load_student(path) for path in paths]
    weights, info = loaded[0]
    _average([network for network, _ in loaded], paths)
    taught_by = dict.fromkeys(each.taught_by for _, each in loaded if each.taught_by)
    sha256 = digest_of_weights(weights)
    try:
        ours, theirs = (isinstance(network.backbone, Backbone) for network in (student, weights))
        if ours and theirs and _shapes(weights) != _shapes(student):
            grow(weights, student)
            print(f"grown from the weights of size {info.size} in {paths[0]}")
        else:
            student.load_state_dict(weights.state_dict())
    except (RuntimeError, ValueError) as error:
        backbone = info.backbone["model_type"] if info.backbone else "our own"
        raise CheckpointError(
            f"{paths[0]}: expected weights of the size and backbone that the recipe names, or of a smaller size of our "
            f"own family, these are of size {info.size} with {backbone} backbone; name such a checkpoint"
        ) from error
    return "+".join(taught_by), sha256


@torch.no_grad()
def _average(networks: Sequence[Student], paths: Sequence[Path | str]) -> None:
    """Put the mean of all weights, running statistics included, into the first; counters stay as they are there."""
    first = networks[0]
    for network, path in zip(networks[1:], paths[1:], strict=True):
        if _shapes(network) != _shapes(first):
            raise CheckpointError(
                f"{path}: expected weights of the shapes that {paths[0]} has, to take the mean of both, its own "
                "differ; name checkpoints of one size and backbone"
            )
    if len(networks) > 1:
        states = [network.state_dict() for network in networks]
        for name, value in states[0].items():
            if value.is_floating_point():
                value.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))


def digest_of_weights(network: Student) -> str:
    """SHA-256 over names and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _shapes(student: Student) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in student.state_dict().items()}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, read without running any code that it may hold.

    Raises:
        CheckpointError: not there, not a checkpoint, or with objects other than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError.missing(path) from error
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise CheckpointError(
            f"{path}: expected a checkpoint of tensors and plain values, it cannot be read as one "
            f"({' '.join(str(error).split())[:120]}); use a .ckpt that python -m training train wrote"
        ) from error
    if isinstance(content, dict):
        state = content.get("state_dict")
        if isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
            return content
    raise CheckpointError(
        f"{path}: expected a checkpoint with a state_dict of tensors, there is none; use a .ckpt of train"
    )


def read_notes(path: Path) -> dict[str, Any]:
    """What a checkpoint notes beside its weights, unchecked; empty in one that another program wrote.

    Raises:
        CheckpointError: see `read_checkpoint`.
    """
    notes = read_checkpoint(path).get(INFO_KEY)
    return notes if isinstance(notes, dict) else {}


def read_info(content: dict[str, Any], path: Path) -> CheckpointInfo:
    """What a checkpoint that `read_checkpoint` read notes beside its weights.

    Args:
        content: of the checkpoint.
        path: of its file, for the error.

    Raises:
        CheckpointError: it notes nothing, or not what this version writes.
    """
    try:
        info = CheckpointInfo(**content[INFO_KEY])
        unfit = [item.name for item in fields(info) if not _is_noted_as(item.name, getattr(info, item.name))]
        if unfit:
            raise TypeError(f"{', '.join(unfit)} of another kind")
        # Earlier versions noted NaN for a figure that the labels do not yield.
        figures = {
            name: value if value is not None and -inf < value < inf else None for name, value in info.metrics.items()
        }
        return replace(info, metrics=figures)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected the notes of python -m training train in it ({INFO_KEY}), got {error}; "
            "use a checkpoint that this version wrote"
        ) from error


def _is_noted_as(name: str, value: Any) -> bool:
    """Whether a note is of the kind that `CheckpointInfo` says."""
    if name == "size":
        return isinstance(value, str) and value in SIZES
    if name == "epoch":
        return isinstance(value, int)
    if name == "metrics":
        return isinstance(value, dict) and all(
            isinstance(figure, str) and (number is None or isinstance(number, (int, float)))
            for figure, number in value.items()
        )
    if name == "backbone":
        return value is None or isinstance(value, dict)
    if name in ("segmentation_classes", "detection_classes"):
        return isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value)
    return isinstance(value, str)


def class_names(table: Sequence[ClassInfo]) -> tuple[str, ...]:
    """Names in the order of their ids, as checkpoints note them."""
    return tuple(entry.name for entry in sorted(table, key=lambda entry: entry.id))


def _check_classes(info: CheckpointInfo, state: dict[str, Tensor], path: Path) -> None:
    """Refuse a network that speaks of other classes; it would be misunderstood, as a teacher and as a start."""
    tasks = (
        ("segmentation", SEGMENTATION_CLASSES, info.segmentation_classes, "segmentation.classifier.weight"),
        ("detection", DETECTION_CLASSES, info.detection_classes, "detection.class_layers.0.1.weight"),
    )
    for task, table, found, classifier in tasks:
        expected = class_names(table)
        # Without names their number still tells.
        count = len(found) or (len(state[classifier]) if classifier in state else len(expected))
        if count != len(expected) or (found and tuple(found) != expected):
            difference = _difference(expected, tuple(found)) if found else f"{count} without names"
            raise CheckpointError(
                f"{path}: expected a network with the {task} classes {', '.join(expected)}, its own differ: "
                f"{difference}; use a checkpoint that was trained with the classes of "
                "ros_kd_perception/model/classes.py, as teacher and as start alike"
            )


def _difference(expected: tuple[str, ...], found: tuple[str, ...]) -> str:
    absent = [name for name in expected if name not in found]
    foreign = [name for name in found if name not in expected]
    said = [f"it lacks {', '.join(absent)}"] if absent else []
    said += [f"it has {', '.join(foreign)} besides"] if foreign else []
    if not said:
        moved = [name for name, other in zip(expected, found, strict=False) if name != other]
        said = [f"{', '.join(moved)} have other ids"]
    return " and ".join(said)


def git_commit() -> str:
    """The commit of the checkout that this file lies in, `-dirty` appended where tracked files differ; "" outside."""
    folder = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the git commit is not known ({error})", file=sys.stderr)
        return ""
