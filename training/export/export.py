"""Export a student as one self-describing ONNX file. Nothing is written unless the file agrees with the network."""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from ros_kd_perception.model.golden import GoldenFrame, golden_to_text
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from ros_kd_perception.system.output_paths import make_folder
from training.export.contract_metadata import save_model
from training.export.deployed_student import deployed_student
from training.export.parity import ParityError, ParityReport, measure_parity
from training.export.settings import ExportSettings
from training.networks.auto_backbone import TransformersBackbone
from training.networks.quantization_aware import without_rounding
from training.networks.student import Student

# 18 is the oldest version that torch's exporter writes itself. TensorRT 8.6 and ONNX Runtime 1.14 read it.
OPSET = 18
INTERMEDIATE_REPRESENTATION = 8
EXPORTED_NETWORK = "student"  # name of the network in `DeployedStudent`, and of its weights and nodes in the file
SCOPES_KEY = "pkg.torch.onnx.name_scopes"  # under which the exporter writes the modules around a node


def export_student(
    student: Student,
    output_path: Path,
    settings: ExportSettings,
    golden_images_bgr: Sequence[UInt8Array],
    parity_images_bgr: Sequence[UInt8Array] = (),
) -> ParityReport:
    """Write `student` to `output_path`. Of a quantisation-aware student, it is the network without rounding.

    Args:
        student: The trained student; it is not changed.
        output_path: Path of the file. An existing file is replaced only after all checks have passed.
        settings: Values for the contract.
        golden_images_bgr: Network inputs, uint8 [H, W, 3]. As many as fit go into the file, from the first on. They
            must not come from licensed data.
        parity_images_bgr: More network inputs for the comparison.

    Raises:
        ParityError: The outputs of the file differ from those of the network. Nothing is written.
        ValueError: The settings do not make a valid contract, there are no golden images, or the first one is too
            large.
    """
    contract = settings.contract()
    student = without_rounding(student).eval()
    temporary = output_path.with_name(f".{output_path.name}.{os.getpid()}.tmp")
    try:
        make_folder(output_path.parent)
        graph = build_graph(student, settings)
        save_model(graph, temporary, contract)
        model = OnnxModel.open(temporary, device="cpu", verify_golden=False)
        report = measure_parity(
            student,
            model,
            [*golden_images_bgr, *parity_images_bgr],
            settings.score_scales,
            settings.half_view,
            settings.dropped_overlap,
        )
        if report.failures():
            raise ParityError(
                f"expected the export to agree with the network, but {', '.join(report.failures())}, on "
                f"{report.frames} frames; {output_path} was not written; install the versions of torch, onnx, "
                "onnxscript and onnxruntime that setup.py names and export again; if it is refused again, report "
                "it with the checkpoint"
            )
        golden = [golden_frame(model, image) for image in golden_images_bgr]
        save_model(graph, temporary, contract, golden_text(golden))
        OnnxModel.open(temporary, device="cpu")
        os.replace(temporary, output_path)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def build_graph(student: Student, settings: ExportSettings) -> onnx.ModelProto:
    """Return the student with fused layers as an ONNX model without metadata.

    Raises:
        ValueError: torch cannot express its backbone, from the transformers library, in ONNX.
    """
    deployed = deployed_student(student, settings).cpu()
    # Two frames, because the exporter takes a batch of one for a constant.
    example = torch.zeros(2, settings.height, settings.width, 3, dtype=torch.uint8)
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                deployed,
                (example,),
                input_names=["images"],
                output_names=list(deployed.output_names),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base class
        if not isinstance(student.backbone, TransformersBackbone):
            raise
        architecture = student.backbone.architecture
        raise ValueError(
            f"a student with the backbone {architecture} cannot be exported, torch has no ONNX for it "
            f"({type(error).__name__}); train one on our own backbone, or on resnet, convnextv2, swin, mobilenet_v2 or "
            "dinov2, which can"
        ) from error
    assert program is not None
    model = program.model_proto
    model.ir_version = INTERMEDIATE_REPRESENTATION
    model.producer_name = "ros_kd_perception"
    _name_nodes_by_module(model)
    _strip_source_paths(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def golden_frame(model: OnnxModel, image_bgr: UInt8Array) -> GoldenFrame:
    """Return a network input with the model's output, including the boxes above the score threshold."""
    outputs = model.run(np.ascontiguousarray(image_bgr[None]))
    rows = outputs.rows(0)
    detections = None if rows is None else rows.at_least(model.contract.score_threshold)
    return GoldenFrame(image_bgr, outputs.cells(0), detections)


def golden_text(frames: Sequence[GoldenFrame]) -> str:
    """Return the metadata with as many frames as fit; for a large network input this is one or two.

    Raises:
        ValueError: The first frame alone is too large, or there are no frames.
    """
    for count in range(len(frames), 1, -1):
        with contextlib.suppress(ValueError):
            return golden_to_text(list(frames[:count]))
    return golden_to_text(list(frames[:1]))


def _name_nodes_by_module(model: onnx.ModelProto) -> None:
    """Name each node that belongs to a layer after it: `student.neck.sums.0/Add` instead of `node_add_205`.

    The quantiser reports layers by these names, and finds the ranges that a network has learned by them.
    """
    found: Counter[str] = Counter()
    for node in model.graph.node:
        text = {entry.key: entry.value for entry in node.metadata_props}.get(SCOPES_KEY, "")
        scopes: list[str] = ast.literal_eval(text)[:-1] if text else []
        *_, module = ["", *scopes]
        if module:
            name = f"{module}/{node.op_type}"
            found[name] += 1
            node.name = name if found[name] == 1 else f"{name}_{found[name]}"


def _strip_source_paths(model: onnx.ModelProto) -> None:
    """Remove source paths: the exporter writes for every node the path in the home directory where it was defined."""
    for item in (model, *model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide warnings of the exporter about torchvision and its own internals, which a user cannot act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
