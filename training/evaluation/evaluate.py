"""Score a checkpoint or an exported student on labelled frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ros_kd_perception.drawing.overlay import draw_overlay
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Detections, Perception
from ros_kd_perception.system.output_paths import make_folder
from training.checkpoint import load_student
from training.config.network_input import check_input_size
from training.data.readers.frame_folder import FrameFolder
from training.data.sample import Sample
from training.evaluation.coverage import not_scored, not_scored_lines
from training.evaluation.model_size import ModelSize, size_of_onnx, size_of_student
from training.evaluation.scoring import SCORE_FLOOR, FrameScorer
from training.evaluation.torch_model import TorchModel
from training.export.input_size import choose_input_size
from training.export.settings import ExportSettings
from training.label_sets.label_set import LabelSet
from training.label_sets.of_model import label_set_of
from training.whole_files import write_bytes

MARGIN_PX = 4


@dataclass(frozen=True)
class EvaluatedModel:
    """The model to evaluate: a checkpoint or an exported file, both run by the same Perceiver."""

    perceiver: Perceiver
    contract: ModelContract
    size: ModelSize
    runtime: str

    @property
    def label_set(self) -> LabelSet:
        """Its classes, with ids that count from 0."""
        return label_set_of(self.contract).as_student()


def open_model(path: Path, weights: str, height: int | None, width: int | None, threads: int) -> EvaluatedModel:
    """Open a checkpoint (.ckpt) or an exported student (.onnx).

    Args:
        path: Path of the file.
        weights: Which weights of a checkpoint: `ema` or `trained`.
        height: Height of the network input for a checkpoint, in pixels. None: the validation size of its recipe. An
            exported file has its own size.
        width: Width, like `height`.
        threads: Number of threads of inference on the CPU.

    Raises:
        CheckpointError, ModelError: The file is not a checkpoint or model; the message says what to do.
        RecipeError: No network can have an input of this size.
    """
    if path.suffix == ".onnx":
        onnx_model = OnnxModel.open(path, device="cpu", intra_op_threads=threads)
        own = onnx_model.contract.input
        if (height or own.height, width or own.width) != (own.height, own.width):
            raise ModelError(f"{path} has a fixed input of {own.width}x{own.height}; leave --height and --width out")
        model = EvaluatedModel(
            Perceiver(onnx_model, SCORE_FLOOR), onnx_model.contract, size_of_onnx(path), "ONNX Runtime, CPU"
        )
    else:
        torch.set_num_threads(threads)
        student, info = load_student(path, "trained" if weights == "trained" else "ema")
        height, width = choose_input_size(info, height, width)
        check_input_size(height, width, "--height and --width")
        torch_model = TorchModel(student, ExportSettings(info.classes, height=height, width=width))
        perceiver = Perceiver(cast(OnnxModel, torch_model), SCORE_FLOOR)
        size = size_of_student(torch_model.deployed.student, height, width)
        model = EvaluatedModel(perceiver, torch_model.contract, size, f"torch, CPU, {weights} weights")
    return model


def evaluate(model: EvaluatedModel, source: FrameFolder, pictures: PictureWriter | None = None) -> dict[str, Any]:
    """Score all frames of a source. `FrameScorer.results` describes the figures, `not_scored` the key of its name.

    The labels are mapped to the classes of the model by name.

    Raises:
        RecipeError: A class of the source maps to nothing in the classes of the model.
    """
    source = source.for_student(model.label_set)
    model.perceiver.warm_up()
    scorer = FrameScorer(model.contract)
    for number in tqdm(range(len(source)), desc="evaluating", unit="frame", disable=None):
        sample = source[number]
        perception = scorer.score(model.perceiver, sample)
        if pictures is not None:
            pictures.write(number, sample, perception, scorer.contract)
    return scorer.results() | {"not_scored": not_scored(source.mapping)}


class PictureWriter:
    """Writes every n-th frame: the model's output on the left, the labels on the right."""

    def __init__(self, folder: Path, frames: int, count: int) -> None:
        self.folder = folder
        self._every = max(1, frames // max(1, count))
        make_folder(folder)

    def write(self, number: int, sample: Sample, perception: Perception, contract: ModelContract) -> None:
        """Write the picture of a frame if it is one of those."""
        if number % self._every:
            return
        seen = _above_threshold(perception, contract)
        truth = Perception(
            perception.camera,
            perception.stamp_ns,
            perception.frame_id,
            None if perception.class_map is None else sample.mask,
            None if perception.detections is None else _true_boxes(sample),
            perception.uncertainty,
            perception.timing,
        )
        left, right = (draw_overlay(sample.image_bgr, view, contract) for view in (seen, truth))
        gap = np.full((left.shape[0], MARGIN_PX, 3), 255, np.uint8)
        path = self.folder / f"{sample.name}.jpg"
        _, encoded = cv2.imencode(".jpg", np.hstack([left, gap, right]), [cv2.IMWRITE_JPEG_QUALITY, 90])
        write_bytes(path, encoded.tobytes())


def _true_boxes(sample: Sample) -> Detections:
    return Detections(sample.boxes_xyxy, np.ones(len(sample.labels), np.float32), sample.labels.astype(np.int32))


def _above_threshold(perception: Perception, contract: ModelContract) -> Perception:
    found = perception.detections
    return perception if found is None else replace(perception, detections=found.at_least(contract.score_threshold))


def table(results: dict[str, Any]) -> str:
    """Return the figures as a table for people."""
    height, width = results["input"]
    work = results["multiply_accumulates"]
    lines = [
        f"{results['model']} ({results['runtime']}), input {width}x{height}, "
        f"{results['parameters'] / 1e6:.2f} M parameters, {'-' if work is None else f'{work / 1e9:.2f}'} GMAC, "
        f"median {results['inference_ms_median']:.1f} ms a frame",
        f"{results['frames']} frames of {results['data']}, boxes {results['boxes']}",
    ]
    lines += _segmentation_lines(results) if "miou" in results else []
    lines += _detection_lines(results["detection"]) if "detection" in results else []
    lines += not_scored_lines(results["not_scored"])
    return "\n".join(lines)


def _segmentation_lines(results: dict[str, Any]) -> list[str]:
    return [
        "",
        f"mIoU {percent(results['miou'])}   pixel accuracy {percent(results['pixel_accuracy'])}",
        *(f"  {name:<12} IoU {percent(value):>6}" for name, value in results["iou"].items()),
    ]


def _detection_lines(detection: dict[str, Any]) -> list[str]:
    return [
        "",
        f"AP {percent(detection['ap'])}   AP50 {percent(detection['ap50'])}   (mean over classes that have boxes)",
        *(
            f"  {name:<12} AP {percent(entry['ap']):>6}  AP50 {percent(entry['ap50']):>6}  ({entry['boxes']} boxes)"
            for name, entry in detection["per_class"].items()
        ),
        f"{detection['detections']} detections above the score threshold; of their same-class pairs "
        f"{percent(detection['duplicate_pair_share'])} overlap by IoU 0.7; "
        f"{percent(detection['duplicate_detection_share'])} of the detections repeat a better one",
    ]


def percent(share: float | None) -> str:
    """Return a share 0..1 in percent; a dash for None."""
    return "-" if share is None else f"{100 * share:.2f}"
