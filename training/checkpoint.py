"""Checkpoints: the notes that they hold beside the weights, and loading a student from one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from training.config.licence import Licences, are_licences
from training.config.sections import QuantizationAwareRecipe
from training.errors import CheckpointError, RecipeError
from training.exported_student import SUFFIX as EXPORTED_SUFFIX
from training.exported_student import read_exported
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import DEFAULT_LABEL_SET, load_label_set
from training.label_sets.of_model import shipped_set_with
from training.networks.channels import set_channels
from training.networks.quantization_aware import quantization_aware
from training.networks.selected_backbone import rebuild_backbone
from training.networks.student import SIZES, Student, build_student
from training.weights_file import SUFFIX as WEIGHTS_SUFFIX
from training.weights_file import read_weights

INFO_KEY = "ros_kd_perception"
AVERAGED_PREFIX = "averaged.network."
TRAINED_PREFIX = "student."


@dataclass(frozen=True)
class CheckpointInfo:
    """Notes on the origin of a checkpoint's weights.

    Attributes:
        size: Size of the student.
        recipe: Recipe as YAML with all defaults written out.
        recipe_sha256: SHA-256 of the recipe.
        data_sha256: Fingerprints of the training sources, joined by `+`.
        epoch: Number of finished epochs.
        git_commit: Commit of the checkout that trained, with `-dirty` appended if files differed; empty outside one.
        metrics: Metrics of the averaged weights; None for a metric that the labels of the validation do not yield.
            Empty after an epoch without validation.
        teacher_sha256: SHA-256 of the teacher's weights; empty without a teacher.
        earlier_teacher_sha256: SHA-256 of the teachers of the weights that the run started from, joined by `+`; empty
            without such teachers.
        backbone: Configuration of a backbone of the transformers library for `rebuild_backbone`; None for our own.
        segmentation_classes: Names of the segmentation classes by id, in checkpoints of early versions.
        detection_classes: Names of the detection classes by id, in checkpoints of early versions.
        initial_weights_sha256: SHA-256 of the weights that the run started from; empty for random weights, and in
            checkpoints of early versions.
        label_set: Plain values of the `LabelSet` of the network; None in checkpoints of early versions.
        quantization_aware: Plain values of the `QuantizationAwareRecipe` of a network that rounds its weights and
            activations; None for a plain one.
        channels: Numbers of output and input channels of each layer of a pruned network, by name; None for a network
            whose channels follow from size and backbone.
        licences: Licences of all data and networks that the weights learnt from, by name, those of earlier runs
            included; None in checkpoints of early versions. See `training.config.licence`.
        pretrained_share: Share of its pretrained weights that `keep-weights` has mixed into the backbone.
        pretrained_sha256: SHA-256 of the weights whose backbone that share is of; empty for the run's own.
        confidence: The section `confidence` of the contract, for weights of `calibrate`; None for all others. The
            weights contain its temperature. Its scales of scores are applied when the student is deployed.
        mean_of: SHA-256 of the weights of which these are the mean, which `keep-weights` took; empty for all others.
            `recipe` and `epoch` are those of the first then.
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
    label_set: dict[str, Any] | None = None
    quantization_aware: dict[str, Any] | None = None
    channels: dict[str, Any] | None = None
    licences: Licences | None = None
    pretrained_share: float = 0.0
    confidence: dict[str, Any] | None = None
    mean_of: tuple[str, ...] = ()
    pretrained_sha256: str = ""

    @property
    def classes(self) -> LabelSet:
        """The classes of the network. `load_student` fills them in for checkpoints of early versions.

        Raises:
            RecipeError: The notes hold no label set.
        """
        return LabelSet.checked(self.label_set)

    @property
    def taught_by(self) -> str:
        """SHA-256 of the last teacher, of this run or an earlier one; empty if all weights come from labels only."""
        return self.teacher_sha256 or self.earlier_teacher_sha256


def load_student(path: Path | str, weights: Literal["ema", "trained"] = "ema") -> tuple[Student, CheckpointInfo]:
    """Load the student of a checkpoint on the CPU, in eval mode.

    Args:
        path: A `.ckpt` file of `python -m training train`, weights of `python -m training keep-weights`, or an exported
            student; see `training.exported_student`.
        weights: `ema` for the moving average, which is exported; `trained` for the weights of the optimiser.

    Returns:
        The student and the notes of the checkpoint.

    Raises:
        CheckpointError: The file is not a checkpoint of `train`.
    """
    content = read_checkpoint(Path(path))
    info = read_info(content, Path(path))
    prefix = AVERAGED_PREFIX if weights == "ema" else TRAINED_PREFIX
    state = {
        name.removeprefix(prefix): value for name, value in content["state_dict"].items() if name.startswith(prefix)
    }
    if not state:
        raise CheckpointError(
            f"{path}: expected {weights} weights in it, it holds others only; weights that were kept alone are the "
            "average (ema)"
        )
    classes = _noted_classes(info, Path(path))
    info = replace(info, label_set=classes.model_dump(mode="json"))
    try:
        # From the noted configuration, because the pretrained weights that the recipe names may not be available.
        backbone = rebuild_backbone(info.backbone) if info.backbone else None
    except RecipeError as error:
        raise CheckpointError(f"{path}: {error}; install the transformers that setup.py names") from error
    student = build_student(info.size, len(classes.segmentation), len(classes.detection), backbone)
    set_noted_channels(student, info, path)
    if info.quantization_aware is not None:
        student = _with_rounding(student, info.quantization_aware, path)
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit a student of size {info.size} "
            f"({str(error).splitlines()[-1].strip()[:200]}); it was trained by another version, train it again"
        ) from error
    return student.eval(), info


def _with_rounding(student: Student, noted: dict[str, Any], path: Path | str) -> Student:
    try:
        return quantization_aware(student, QuantizationAwareRecipe.checked(noted))
    except RecipeError as error:
        raise CheckpointError(f"{path}: its notes on quantisation cannot be read ({error}); train it again") from error


def set_noted_channels(student: Student, info: CheckpointInfo, where: Path | str) -> None:
    """Give a new student the shape of the pruned network of a checkpoint, if it is pruned.

    Args:
        student: Network of the size and backbone of the checkpoint; changed.
        info: Notes of the checkpoint.
        where: Name of the file or the run, for the error.

    Raises:
        CheckpointError: The noted channels are not those of this size and backbone.
    """
    if info.channels is not None:
        try:
            set_channels(student, info.channels)
        except ValueError as error:
            raise CheckpointError(
                f"{where}: its notes do not fit a pruned student of size {info.size} ({error}); prune its parent again"
            ) from error


def digest_of_weights(network: Student) -> str:
    """Return the SHA-256 of names and values of all weights and buffers, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the content of a checkpoint, of weights alone or of an exported student, without running code in it.

    Raises:
        CheckpointError: The file is missing, is not a checkpoint, or contains objects other than tensors and plain
            values.
    """
    if path.suffix == WEIGHTS_SUFFIX:
        kept = read_weights(path)
        return _averaged(kept.state, kept.notes)
    if path.suffix == EXPORTED_SUFFIX:
        exported = read_exported(path)
        return _averaged(exported.student.state_dict(), exported.notes)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError.missing(path) from error
    except Exception as error:  # the reader raises many types of errors for damaged files
        raise CheckpointError(
            f"{path}: expected a checkpoint of tensors and plain values, it cannot be read as one "
            f"({' '.join(str(error).split())[:120]}); use a .ckpt that python -m training train wrote"
        ) from error
    if isinstance(content, dict):
        state = content.get("state_dict")
        if isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
            return content
    raise CheckpointError(
        f"{path}: expected a checkpoint with a state_dict of tensors, found none; use a .ckpt of train"
    )


def _averaged(state: Mapping[str, Tensor], notes: dict[str, Any]) -> dict[str, Any]:
    return {"state_dict": {AVERAGED_PREFIX + name: value for name, value in state.items()}, INFO_KEY: notes}


def read_notes(path: Path) -> dict[str, Any]:
    """Read the notes of a checkpoint without checking them; empty if another program wrote it.

    Raises:
        CheckpointError: See `read_checkpoint`.
    """
    notes = read_checkpoint(path).get(INFO_KEY)
    return notes if isinstance(notes, dict) else {}


def read_info(content: dict[str, Any], path: Path) -> CheckpointInfo:
    """Return the notes of a checkpoint.

    Args:
        content: Result of `read_checkpoint`.
        path: Path of the checkpoint, for the error.

    Raises:
        CheckpointError: The checkpoint has no notes, or not those that this version writes.
    """
    try:
        info = CheckpointInfo(**content[INFO_KEY])
        unfit = [item.name for item in fields(info) if not _is_noted_as(item.name, getattr(info, item.name))]
        if unfit:
            raise TypeError(f"{', '.join(unfit)} of another type")
        # Earlier versions noted NaN for a metric that the labels do not yield.
        figures = {
            name: value if value is not None and -inf < value < inf else None for name, value in info.metrics.items()
        }
        return replace(
            info,
            metrics=figures,
            segmentation_classes=tuple(info.segmentation_classes),  # JSON has lists
            detection_classes=tuple(info.detection_classes),
            mean_of=tuple(info.mean_of),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected the notes of python -m training train in it ({INFO_KEY}), got {error}; "
            "use a checkpoint that this version wrote"
        ) from error


def _is_noted_as(name: str, value: Any) -> bool:
    """Return whether a note has the type that `CheckpointInfo` declares."""
    if name == "size":
        return isinstance(value, str) and value in SIZES
    if name == "epoch":
        return isinstance(value, int)
    if name == "metrics":
        return isinstance(value, dict) and all(
            isinstance(figure, str) and (number is None or isinstance(number, (int, float)))
            for figure, number in value.items()
        )
    if name in ("backbone", "label_set", "quantization_aware", "channels", "confidence"):
        return value is None or isinstance(value, dict)
    if name == "licences":
        return value is None or are_licences(value)
    if name == "pretrained_share":
        return isinstance(value, (int, float)) and 0 <= value <= 1
    if name in ("segmentation_classes", "detection_classes", "mean_of"):
        return isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value)
    return isinstance(value, str)


def _noted_classes(info: CheckpointInfo, path: Path) -> LabelSet:
    """Return the label set of a checkpoint. Early versions noted the names of the classes, or had one set only."""
    if info.label_set is not None:
        try:
            return LabelSet.checked(info.label_set)
        except RecipeError as error:
            raise CheckpointError(f"{path}: its label set cannot be read ({error}); train it again") from error
    names = (tuple(info.segmentation_classes), tuple(info.detection_classes))
    shipped = shipped_set_with(*names) if any(names) else load_label_set(DEFAULT_LABEL_SET)
    if shipped:
        return shipped
    segmentation, detection = ([{"id": place, "name": name} for place, name in enumerate(task)] for task in names)
    return LabelSet.checked({"name": path.stem, "segmentation": segmentation, "detection": detection})


def git_commit() -> str:
    """Return the commit of this checkout, with `-dirty` appended if tracked files differ; empty outside a checkout."""
    folder = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the git commit is unknown ({error})", file=sys.stderr)
        return ""
