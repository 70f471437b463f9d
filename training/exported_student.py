"""Reads an exported student back as weights to train on from, when its checkpoint is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ros_kd_perception.model.contract import ContractError, ModelContract
from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.model.onnx_file import ModelFileError
from training.config.licence import ANY, NOT_STATED, RESEARCH, Licences, not_stated
from training.errors import CheckpointError
from training.label_sets.label_set import LabelSet
from training.label_sets.of_model import label_set_of, shipped_set_with
from training.networks.backbone_table import BACKBONES
from training.networks.deployed import PIXEL_VALUES
from training.networks.student import SIZES, Student, build_student
from training.networks.unfusing import fused_form, fused_shapes, unfuse

SUFFIX = ".onnx"
PREFIX = "student."  # of the names of a network's weights in a file
FIRST_KERNEL = "backbone.stages.0.0.0.weight"  # of our own backbone
FIRST_OF_NECK = "neck.context.reduce.0.weight"
CONSTANTS = ("backbone.mean", "backbone.deviation")  # of a backbone that normalises images itself


@dataclass(frozen=True)
class ExportedStudent:
    """A student that was read back.

    Attributes:
        student: The network as it is trained, in eval mode; it computes what the file computes.
        notes: Values of the notes of its checkpoint, as far as the file has them.
    """

    student: Student
    notes: dict[str, Any]


def read_exported(path: Path) -> ExportedStudent:
    """Read a file of `python -m training export`. Its golden frames set the statistics of the normalisations.

    Raises:
        CheckpointError: The file is missing or damaged, or holds no fp32 student of a size and backbone of ours.
    """
    CheckpointError.check_file(path)
    try:
        file = ContractFile.read(path)
        frames = file.golden_frames()
    except (ModelFileError, ContractError) as error:
        raise CheckpointError(f"expected an exported student to start from, got: {error}") from error
    contract = file.contract
    if contract.precision != "fp32":
        raise CheckpointError(
            f"{path}: expected a student of fp32 to start from, got one of {contract.precision}; name the file that it "
            "was made from"
        )
    images = np.stack([frame.image for frame in frames])
    if contract.input.channels != "bgr":
        images = images[..., ::-1].copy()
    fused = _weights(file.file.content)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / PIXEL_VALUES
    classes = _classes(contract)
    try:
        size = _size(fused)
        student = _student_like(fused, size, classes)
        unfuse(student, fused, batch)
    except ValueError as error:
        raise CheckpointError(
            f"{path}: expected a student of size {', '.join(SIZES)} on a backbone of ours to start from, not pruned, "
            f"got {contract.name} with other layers ({error}); name its checkpoint"
        ) from error
    shape = {"size": size, "backbone": student.backbone.configuration, "label_set": classes.model_dump(mode="json")}
    return ExportedStudent(student, shape | _notes(contract))


def _size(fused: Mapping[str, Tensor]) -> str:
    """Return the size of a student: no two sizes have necks of the same number of channels."""
    if FIRST_OF_NECK not in fused:  # a classifier of pixels on a backbone that decodes
        return next(iter(SIZES))
    channels = len(fused[FIRST_OF_NECK])
    for size, layers in SIZES.items():
        if layers.pyramid_channels == channels:
            return size
    raise ValueError(f"expected a size whose neck has {channels} channels")


def _student_like(fused: Mapping[str, Tensor], size: str, classes: LabelSet) -> Student:
    """Return a network with the layers of a file, and random weights; our own one if no backbone has them."""
    counts = len(classes.segmentation), len(classes.detection)
    own = build_student(size, *counts)
    if FIRST_KERNEL not in fused:
        shapes = {name: tuple(value.shape) for name, value in fused.items()}
        for backbone in BACKBONES.values():
            student = build_student(size, *counts, backbone())
            if fused_shapes(fused_form(student)) == shapes:  # some have the same layers in another width
                return student
    return own


def _weights(content: bytes) -> dict[str, Tensor]:
    """Return the weights of the fused network by name, for images of 0..1."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(content).graph
    weights = {
        tensor.name.removeprefix(PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
        if tensor.name.startswith(PREFIX) and tensor.name.removeprefix(PREFIX) not in CONSTANTS
    }
    if FIRST_KERNEL in weights:
        weights[FIRST_KERNEL] = weights[FIRST_KERNEL] * PIXEL_VALUES
    return weights


def _notes(contract: ModelContract) -> dict[str, Any]:
    origin = contract.provenance
    texts = {key: str(origin.get(key, "")) for key in ("recipe_sha256", "data_sha256", "git_commit")}
    teachers = str(origin.get("teachers", origin.get("teacher", "")))  # early versions named one
    return {
        **texts,
        "recipe": "",
        "epoch": 0,
        "metrics": {},
        "earlier_teacher_sha256": "" if teachers == "none" else teachers,
        "licences": _licences(origin),
        "confidence": dict(contract.confidence) or None,
    }


def _classes(contract: ModelContract) -> LabelSet:
    """Return the classes as a checkpoint notes them: the set of the package with these names, if there is one."""
    found = label_set_of(contract)
    shipped = shipped_set_with([info.name for info in found.segmentation], [info.name for info in found.detection])
    return shipped if shipped and shipped.name == found.name else found


def _licences(origin: Mapping[str, Any]) -> Licences | None:
    """Return the licences in a contract, whose sentence on the use names those that narrow it; None without any."""
    terms, use = origin.get("licences"), str(origin.get("use", NOT_STATED))
    if not isinstance(terms, Mapping) or not terms:
        return None
    narrowed = RESEARCH if use.startswith(RESEARCH) else NOT_STATED
    found: Licences = {}
    for name, text in terms.items():
        if text == NOT_STATED:  # the sentence leaves it out where another licence is narrower
            found |= not_stated(name)
        else:
            found[name] = {"terms": str(text), "use": narrowed if use != ANY and name in use else ANY}
    return found
