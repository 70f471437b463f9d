"""Export a student as one self-describing ONNX file; nothing is written unless it says what the network says."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from ros_kd_perception.model.contract import CONTRACT_KEY
from ros_kd_perception.model.golden import GOLDEN_KEY, GoldenFrame, golden_to_text
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import Detections, UInt8Array
from ros_kd_perception.system.output_paths import make_folder
from training.export.parity import ParityError, ParityReport, measure_parity
from training.export.settings import ExportSettings
from training.networks.auto_backbone import TransformersBackbone
from training.networks.deployed import DeployedStudent
from training.networks.student import Student

# 18 is the oldest that torch's exporter writes by itself; TensorRT 8.6 and ONNX Runtime 1.14 read it.
OPSET = 18
INTERMEDIATE_REPRESENTATION = 8
OUTPUT_NAMES = ("class_map", "boxes", "scores", "labels", "uncertainty")


def export_student(
    student: Student,
    output_path: Path,
    settings: ExportSettings,
    golden_images_bgr: Sequence[UInt8Array],
    parity_images_bgr: Sequence[UInt8Array] = (),
) -> ParityReport:
    """Write `student` to `output_path`.

    Args:
        student: as trained; it is left as it is.
        output_path: replaced only when everything has passed.
        settings: what goes into the contract.
        golden_images_bgr: network inputs, uint8 [H, W, 3], that go into the file as far as they fit, from the first
            on; never of licensed data.
        parity_images_bgr: network inputs to compare on besides the golden ones.

    Raises:
        ParityError: the file does not say what the network says; nothing is written.
        ValueError: settings that make no contract, no golden images, or a first one that is too large for a file.
    """
    contract = settings.contract()
    student = student.eval()
    temporary = output_path.with_name(f".{output_path.name}.{os.getpid()}.tmp")
    try:
        make_folder(output_path.parent)
        graph = build_graph(student, settings)
        _save(graph, temporary, {CONTRACT_KEY: contract.to_json()})
        model = OnnxModel.open(temporary, device="cpu", verify_golden=False)
        report = measure_parity(student, model, [*golden_images_bgr, *parity_images_bgr])
        if report.failures():
            raise ParityError(
                f"expected the export to say what the network says, but {', '.join(report.failures())}, on "
                f"{report.frames} frames; {output_path} was not written; install the versions of torch, onnx, "
                "onnxscript and onnxruntime that setup.py names and export again, and report it with the checkpoint if "
                "it is refused then, too"
            )
        golden = [golden_frame(model, image) for image in golden_images_bgr]
        _save(graph, temporary, {CONTRACT_KEY: contract.to_json(), GOLDEN_KEY: golden_text(golden)})
        OnnxModel.open(temporary, device="cpu")
        os.replace(temporary, output_path)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def build_graph(student: Student, settings: ExportSettings) -> onnx.ModelProto:
    """The fused student as an ONNX model without metadata.

    Raises:
        ValueError: torch cannot express its backbone, one of the transformers library, in ONNX.
    """
    deployed = DeployedStudent(student, settings.height, settings.width, settings.max_detections).cpu()
    # Two frames: a batch of one would be taken for a constant.
    example = torch.zeros(2, settings.height, settings.width, 3, dtype=torch.uint8)
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                deployed,
                (example,),
                input_names=["images"],
                output_names=list(OUTPUT_NAMES),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common class
        if not isinstance(student.backbone, TransformersBackbone):
            raise
        architecture = student.backbone.configuration["model_type"]
        raise ValueError(
            f"a student with the backbone {architecture} cannot be exported, torch has no ONNX for it "
            f"({type(error).__name__}); train one on our own backbone, or on resnet, convnextv2, swin, mobilenet_v2 or "
            "dinov2, which can"
        ) from error
    assert program is not None
    model = program.model_proto
    model.ir_version = INTERMEDIATE_REPRESENTATION
    model.producer_name = "ros_kd_perception"
    _strip_source_paths(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def golden_frame(model: OnnxModel, image_bgr: UInt8Array) -> GoldenFrame:
    """What `model` says of a network input, of its boxes those that count by default."""
    outputs = model.run(np.ascontiguousarray(image_bgr[None]))
    counts = outputs.scores[0] >= model.contract.detections.score_threshold
    detections = Detections(outputs.boxes_xyxy[0][counts], outputs.scores[0][counts], outputs.labels[0][counts])
    return GoldenFrame(image_bgr, outputs.class_map[0], detections)


def golden_text(frames: Sequence[GoldenFrame]) -> str:
    """Metadata with as many of the frames as a file may hold: of a large network input that is one or two.

    Raises:
        ValueError: the first alone is too large, or there are none.
    """
    for count in range(len(frames), 1, -1):
        with contextlib.suppress(ValueError):
            return golden_to_text(list(frames[:count]))
    return golden_to_text(list(frames[:1]))


def _save(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))


def _strip_source_paths(model: onnx.ModelProto) -> None:
    """The exporter notes for every node where in whose home directory it came from; that is nobody's business."""
    for item in (model, *model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns of torchvision's absence and of its own internals; nobody who exports can act on either."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
