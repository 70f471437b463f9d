"""Open whatever can perceive labelled frames: a checkpoint, an exported, adopted or quantised file, or teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
import torch

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Detections, Frame, Perception, Timing
from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.config.network_input import check_input_size
from training.errors import RecipeError
from training.evaluation.frame_recorder import network_digest
from training.evaluation.model_size import ModelSize, size_of_onnx, size_of_student
from training.evaluation.scoring import SCORE_FLOOR, Perceives
from training.evaluation.torch_model import TorchModel
from training.export.input_size import choose_input_size
from training.export.settings import ExportSettings
from training.label_sets.label_set import LabelSet
from training.label_sets.of_model import label_set_of
from training.networks.student import Student
from training.teachers.labeling import FrameLabeler
from training.teachers.teachers_file import open_labeler

EXPORTED_SUFFIX = ".onnx"
TEACHERS_SUFFIXES = (".yaml", ".yml")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class EvaluatedModel:
    """A model that perceives frames.

    Attributes:
        perceiver: Perceives frames, with boxes of scores down to SCORE_FLOOR.
        contract: Its contract. Teachers have that of a student of their classes.
        size: Parameters and multiply-accumulates; None for teachers.
        runtime: What runs it, in words.
        digest: Says what it computes and on what it runs.
    """

    perceiver: Perceives
    contract: ModelContract
    size: ModelSize | None
    runtime: str
    digest: str

    @property
    def label_set(self) -> LabelSet:
        """Its classes, with ids that count from 0."""
        return label_set_of(self.contract).as_student()


def open_model(
    path: Path, weights: str, height: int | None, width: int | None, threads: int, device: str = "cpu"
) -> EvaluatedModel:
    """Open a checkpoint or kept weights, an exported file (.onnx), or a file that names teachers (.yaml).

    Args:
        path: Path of the file.
        weights: Which weights of a checkpoint: `ema` or `trained`.
        height: Height of the network input for a checkpoint, in pixels. None: the validation size of its recipe. An
            exported file has its own size, and teachers look at frames as they are.
        width: Width, like `height`.
        threads: Number of threads of inference on the CPU.
        device: `cpu`, `cuda`, `tensorrt` (exported files alone) or `auto`.

    Raises:
        CheckpointError, ModelError, ModelFileError: The file is not one of these; the message says what to do.
        RecipeError: No network can have an input of this size, or the device is missing.
    """
    if path.suffix == EXPORTED_SUFFIX:
        return _open_exported(path, height, width, threads, device)
    torch.set_num_threads(threads)
    found = torch_device(device)
    if path.suffix in TEACHERS_SUFFIXES:
        if height or width:
            raise RecipeError(f"{path}: teachers look at frames as they are; leave --height and --width out")
        return _open_teachers(path, found)
    return _open_checkpoint(path, weights, height, width, found)


def _open_exported(path: Path, height: int | None, width: int | None, threads: int, device: str) -> EvaluatedModel:
    model = OnnxModel.open(path, device=device, intra_op_threads=threads)
    own = model.contract.input
    if (height or own.height, width or own.width) != (own.height, own.width):
        raise ModelError(f"{path} has a fixed input of {own.width}x{own.height}; leave --height and --width out")
    runs = model.provider.what_runs
    return EvaluatedModel(
        Perceiver(model, SCORE_FLOOR),
        model.contract,
        size_of_onnx(path),
        f"ONNX Runtime, {runs}",
        f"{network_digest(path)} {runs}",
    )


def _open_checkpoint(
    path: Path, weights: str, height: int | None, width: int | None, device: torch.device
) -> EvaluatedModel:
    student, info = load_student(path, "trained" if weights == "trained" else "ema")
    return evaluated_student(student, info, height, width, device, f"{weights} weights")


def evaluated_student(
    student: Student,
    info: CheckpointInfo,
    height: int | None = None,
    width: int | None = None,
    device: torch.device = CPU,
    words: str = "weights in memory",
) -> EvaluatedModel:
    """Return what runs a student with the code of the vehicle.

    Args:
        student: The student.
        info: Notes of its checkpoint.
        height: Height of the network input in pixels; None: the validation size of its recipe.
        width: Width, like `height`.
        device: Where it runs.
        words: Which weights it has.

    Raises:
        RecipeError: No network can have an input of this size.
    """
    height, width = choose_input_size(info, height, width)
    check_input_size(height, width, "--height and --width")
    settings = ExportSettings(info.classes, height=height, width=width, confidence=info.confidence or {})
    settings.contract()
    digest = " ".join(map(str, (digest_of_weights(student), *settings.score_scales, f"{height}x{width}", device)))
    size = size_of_student(student.fused(), height, width)
    model = TorchModel(student.to(device), settings)
    perceiver = Perceiver(cast(OnnxModel, model), SCORE_FLOOR)
    return EvaluatedModel(perceiver, model.contract, size, f"torch, {_name(device)}, {words}", digest)


def _open_teachers(path: Path, device: torch.device) -> EvaluatedModel:
    labeler = open_labeler(path, str(device))
    contract = ExportSettings(labeler.label_set, name=path.stem).contract()
    runtime = f"teachers, {_name(device)}"
    return EvaluatedModel(TeacherPerceiver(labeler), contract, None, runtime, f"{labeler.sha256} {device}")


class TeacherPerceiver:
    """Takes the place of a Perceiver for teachers: what they are sure of, at the size of the frames."""

    def __init__(self, labeler: FrameLabeler) -> None:
        self._labeler = labeler

    def warm_up(self) -> float:
        """Do nothing: every frame may have another size."""
        return 0.0

    def perceive(self, frames: Sequence[Frame]) -> list[Perception]:
        """Return what the teachers say of frames. They have no uncertainty of blocks."""
        return [self._perceive(frame) for frame in frames]

    def _perceive(self, frame: Frame) -> Perception:
        started = perf_counter()
        said = self._labeler(np.ascontiguousarray(frame.image_bgr))
        boxes = None
        if self._labeler.label_set.detection_classes:
            order = np.argsort(-said.scores, kind="stable")
            boxes = Detections(said.boxes_xyxy[order], said.scores[order], said.labels[order].astype(np.int32))
        timing = Timing(0.0, (perf_counter() - started) * 1e3, 0.0)
        return Perception(frame.camera, frame.stamp_ns, frame.frame_id, said.mask, boxes, None, timing)


def torch_device(device: str) -> torch.device:
    """Return the device of what PyTorch runs.

    Args:
        device: `cpu`, `cuda` or `auto`.

    Raises:
        RecipeError: PyTorch cannot run there, or finds no GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    if device != "cuda":
        raise RecipeError(f"--device: expected cpu, cuda or auto for what PyTorch runs, got {device}")
    if not torch.cuda.is_available():
        raise RecipeError("--device cuda: PyTorch finds no GPU here; `python -m training doctor` says why; use cpu")
    return torch.device("cuda")


def _name(device: torch.device) -> str:
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
