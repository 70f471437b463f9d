"""Writes a foreign network as a file with our contract. Nothing is written unless it agrees with the foreign file."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ros_kd_perception.model.contract import (
    ClassMapSpec,
    DetectionSpec,
    InputSpec,
    ModelContract,
)
from ros_kd_perception.model.contract_notes import MAX_NAME_CHARACTERS
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.sample_drive import SampleDrive
from ros_kd_perception.structures import Frame, UInt8Array
from ros_kd_perception.system.output_paths import make_folder
from training.adoption.agreement import Agreement, ForeignRun, batches_agree
from training.export.contract_metadata import save_model
from training.export.export import golden_frame, golden_text
from training.export.network_inputs import GOLDEN_VIEWS, LARGEST_RENDERED_PX
from training.export.settings import golden_limits
from training.foreign.classes import own_label_set
from training.foreign.description import ForeignDescription
from training.foreign.foreign_file import ForeignFile
from training.foreign.graph import ForeignGraph, build_graph
from training.foreign.network import Batch
from training.label_sets.label_set import UNLABELED_ID
from training.label_sets.of_model import LABEL_SET_KEY


@dataclass(frozen=True)
class Adoption:
    """What was written, and how well it agrees with the foreign file.

    Attributes:
        contract: The contract of the written file.
        agreement: The comparison on the golden frames.
    """

    contract: ModelContract
    agreement: Agreement


def adopt(source: Path, description: ForeignDescription, output_path: Path, name: str, version: str) -> Adoption:
    """Write a foreign network to `output_path` as a file that the node, the replay and the evaluation run.

    Args:
        source: The foreign ONNX file.
        description: Meaning of its inputs and outputs.
        output_path: Path of the file. An existing file is replaced only after all checks have passed.
        name: Name in the contract.
        version: Version in the contract.

    Raises:
        ModelFileError: The foreign file cannot be used, is not as described, or gives other results once adopted.
        RecipeError: The description names classes that do not exist, or does not fit the file.
        ModelError: The written file cannot be run.
    """
    file = ForeignFile.read(source)
    temporary = output_path.with_name(f".{output_path.name}.{os.getpid()}.tmp")
    try:
        make_folder(output_path.parent)
        graph, model = _first_that_runs(file, description, temporary, name, version)
        images = _golden_inputs(model)
        agreement = ForeignRun(file, description, graph).compare(model, images)
        agreement.check(file)
        golden = golden_text([golden_frame(model, image) for image in images])
        save_model(graph.model, temporary, model.contract, golden)
        OnnxModel.open(temporary, device="cpu")
        os.replace(temporary, output_path)
    finally:
        temporary.unlink(missing_ok=True)
    return Adoption(model.contract, agreement)


def _first_that_runs(
    file: ForeignFile, description: ForeignDescription, temporary: Path, name: str, version: str
) -> tuple[ForeignGraph, OnnxModel]:
    """Return the graph for any number of frames if it gives the same results for each, else the one for one frame."""
    batches = _batches(file, description)
    for batch in batches:
        try:
            graph = build_graph(file, description, batch, "contract")
            contract = _contract_of(graph, file, description, name, version)
            save_model(graph.model, temporary, contract)
            model = OnnxModel.open(temporary, device="cpu", verify_golden=False)
        except (ModelError, ModelFileError):
            if batch == batches[-1]:
                raise
            continue
        if batch == 1 or batches_agree(model, _golden_inputs(model)):
            return graph, model
    raise ModelFileError(
        f"{file.path}: expected the same results for several frames at once as for each alone, got others; write "
        "`batch: 1` below input"
    )


def _batches(file: ForeignFile, description: ForeignDescription) -> tuple[Batch, ...]:
    """Return the batches to try. Most files that declare a fixed batch of 1 count on it inside of the graph."""
    if description.input.batch is not None:
        return (description.input.batch,)
    source = file.inputs.get(description.input.name) or next(iter(file.inputs.values()), None)
    is_open = source is not None and source.shape is not None and source.shape[:1] == (None,)
    return ("dynamic", 1) if is_open else (1,)


def _contract_of(
    graph: ForeignGraph, file: ForeignFile, description: ForeignDescription, name: str, version: str
) -> ModelContract:
    part, masks, boxes = description.detection, graph.segmentation, graph.detection
    source = description.input
    now = datetime.datetime.now(datetime.timezone.utc)
    return ModelContract(
        name=name,
        version=version,
        precision=graph.precision,
        input=InputSpec(graph.height, graph.width, source.channels, source.resize, source.pad_value, batch=graph.batch),
        class_map=ClassMapSpec(graph.stride, UNLABELED_ID, masks.classes) if graph.stride and masks else None,
        detections=DetectionSpec(graph.rows, part.score_threshold, boxes.classes, part.nms_iou)
        if graph.rows and part and boxes
        else None,
        golden=golden_limits(
            -(-graph.height // graph.stride) * -(-graph.width // graph.stride) if graph.stride else 0, graph.precision
        ),
        provenance={
            LABEL_SET_KEY: own_label_set(description, name).name,
            "description": description.model_dump(mode="json", exclude_defaults=True),
            "created": now.isoformat(timespec="seconds"),
        },
        derived={
            "from_sha256": file.sha256,
            "from_name": file.path.name[:MAX_NAME_CHARACTERS],
            "steps": [f"adopt {file.path.name[:MAX_NAME_CHARACTERS]}"],
        },
    )


def _golden_inputs(model: OnnxModel) -> list[UInt8Array]:
    """Return rendered frames, fitted into the input of a model; the same ones on every call."""
    perceiver = Perceiver(model)
    frames = [
        Frame(camera, 0, "camera", SampleDrive(seed, weather).render(camera, time_s).image_bgr)
        for seed, weather, camera, time_s in GOLDEN_VIEWS
    ]
    return [_coarse(perceiver.prepare(frame).network_input) for frame in frames]


def _coarse(image: UInt8Array) -> UInt8Array:
    """Repeat every second, fourth ... pixel of a large input, so that one fits into the file as PNG."""
    height, width, _ = image.shape
    repeat = 1
    while height * width > LARGEST_RENDERED_PX * repeat**2:
        repeat *= 2
    coarse = image[::repeat, ::repeat].repeat(repeat, axis=0).repeat(repeat, axis=1)
    return np.ascontiguousarray(coarse[:height, :width])
