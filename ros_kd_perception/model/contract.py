"""ModelContract: describes the inputs, outputs and classes of a model, as JSON inside its ONNX file.

The node, replay, evaluation and benchmarks read the contract from the model file only. No YAML file overrides it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ros_kd_perception.model.contract_notes import check_confidence, check_derived
from ros_kd_perception.model.contract_parts import (
    DYNAMIC_BATCH,
    MAX_DETECTIONS,
    MAX_SIDE_PX,
    UNCERTAINTY_BLOCK_PX,
    ClassInfo,
    ClassMapSpec,
    DetectionSpec,
    GoldenLimits,
    InputSpec,
)
from ros_kd_perception.model.contract_reader import (
    CONTRACT_VERSION,
    ContractError,
    JsonSection,
    parse_contract,
    require,
)

__all__ = [
    "CONTRACT_KEY",
    "CONTRACT_VERSION",
    "DETECTION",
    "DYNAMIC_BATCH",
    "FILE_PRECISIONS",
    "MAX_DETECTIONS",
    "MAX_SIDE_PX",
    "SEGMENTATION",
    "TASKS",
    "UNCERTAINTY_BLOCK_PX",
    "ClassInfo",
    "ClassMapSpec",
    "ContractError",
    "DetectionSpec",
    "GoldenLimits",
    "InputSpec",
    "ModelContract",
]

CONTRACT_KEY = "ros_kd_perception.contract"
FILE_PRECISIONS = ("fp32", "fp16", "int8")
SEGMENTATION, DETECTION = TASKS = ("segmentation", "detection")
SECTION_OF_TASK = {SEGMENTATION: "class_map", DETECTION: "detections"}


@dataclass(frozen=True)
class ModelContract:
    """Everything needed to run a model correctly. docs/model_contract.md describes the JSON form.

    Attributes:
        name, version, precision: The model's name, its version, and `fp32`, `fp16` or `int8`.
        input: The network input.
        class_map: The class map. None for a model without segmentation.
        detections: The boxes. None for a model without detection. One of the two tasks is always there.
        golden: How far golden frames may differ.
        provenance, metrics: What the model was made from, and its scores. Free form.
        derived: What a pruned, quantised or adopted file was made from, and how. Empty for other files.
        confidence: Calibration of the scores, which its outputs contain. Empty for a file that is not calibrated.
    """

    name: str
    version: str
    precision: str
    input: InputSpec
    class_map: ClassMapSpec | None
    detections: DetectionSpec | None
    golden: GoldenLimits = field(default_factory=GoldenLimits)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Any] = field(default_factory=dict)
    confidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.precision in FILE_PRECISIONS, f"a precision of {', '.join(FILE_PRECISIONS)}", repr(self.precision))
        require(bool(self.tasks), f"at least one of the tasks {' and '.join(TASKS)}", "none")
        for part in (self.input, self.class_map, self.detections, self.golden):
            if part is not None:
                part.check()
        check_derived(self.derived)
        check_confidence(self.confidence, {c.name for c in self.segmentation_classes + self.detection_classes})

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model does: `segmentation`, `detection` or both, in this order."""
        parts = {SEGMENTATION: self.class_map, DETECTION: self.detections}
        return tuple(task for task, part in parts.items() if part is not None)

    def without_effect(self, parameter: str, task: str) -> str:
        """Return the sentence about a parameter that is set in vain, because the model lacks a task; or nothing."""
        if task in self.tasks:
            return ""
        return (
            f"{parameter} has no effect: expected a model that does {task}, got {self.name}, which does "
            f"{' and '.join(self.tasks)}; use another model, or set {parameter}: false"
        )

    @property
    def segmentation_classes(self) -> tuple[ClassInfo, ...]:
        """The classes of the class map. Empty for a model without segmentation."""
        return () if self.class_map is None else self.class_map.classes

    @property
    def detection_classes(self) -> tuple[ClassInfo, ...]:
        """The classes of the boxes. Empty for a model without detection."""
        return () if self.detections is None else self.detections.classes

    @property
    def score_threshold(self) -> float:
        """The score at which boxes count by default, 0..1. 1 for a model without detection."""
        return 1.0 if self.detections is None else self.detections.score_threshold

    @property
    def unlabeled_id(self) -> int:
        """The value of pixels without a class. 255 for a model without segmentation."""
        return 255 if self.class_map is None else self.class_map.unlabeled_id

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each output for one frame, without the batch axis.

        The outputs of a task that the model does not do are absent. `uncertainty` belongs to segmentation. Cells and
        blocks at the right and lower edge may reach beyond the input.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        if self.class_map is not None:
            shapes["class_map"] = self._cells(self.class_map.stride)
        if self.detections is not None:
            count = self.detections.max
            shapes |= {"boxes": (count, 4), "scores": (count,), "labels": (count,)}
        if self.class_map is not None:
            shapes["uncertainty"] = self._cells(UNCERTAINTY_BLOCK_PX)
        return shapes

    def _cells(self, side_px: int) -> tuple[int, int]:
        return -(-self.input.height // side_px), -(-self.input.width // side_px)

    def to_json(self) -> str:
        """Return the JSON text for the metadata of the ONNX file. `from_json` turns it back into an equal contract."""
        document: dict[str, Any] = {
            "contract_version": CONTRACT_VERSION,
            "name": self.name,
            "version": self.version,
            "precision": self.precision,
            "tasks": list(self.tasks),
            "input": vars(self.input),
        }
        if self.class_map is not None:
            document["class_map"] = self.class_map.to_json()
        if self.detections is not None:
            document["detections"] = self.detections.to_json()
        document["golden"] = vars(self.golden)
        for key in ("derived", "confidence"):
            if getattr(self, key):
                document[key] = dict(getattr(self, key))
        document |= {"provenance": dict(self.provenance), "metrics": dict(self.metrics)}
        return json.dumps(document, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelContract:
        """Parse and check a contract of this version or an older one.

        Raises:
            ContractError: The text is not JSON, has a newer version, lacks a field, or has a value of the wrong type
                or range.
        """
        document = parse_contract(text)
        version = document.integer("contract_version")
        tasks = TASKS if version == 1 else _tasks_of(document)
        size = InputSpec.from_section(document.section("input"), version)
        if version == 1:
            _check_first_version(size)
        return cls(
            name=document.text("name"),
            version=document.text("version"),
            precision=document.text("precision"),
            input=size,
            class_map=ClassMapSpec.from_section(document.section("class_map")) if SEGMENTATION in tasks else None,
            detections=DetectionSpec.from_section(document.section("detections"), version)
            if DETECTION in tasks
            else None,
            golden=GoldenLimits.from_section(document.section("golden")),
            provenance=document.section("provenance").values,
            metrics=document.section("metrics").values,
            derived={} if version == 1 else document.optional_section("derived"),
            confidence={} if version == 1 else document.optional_section("confidence"),
        )


def _tasks_of(document: JsonSection) -> tuple[str, ...]:
    """Return the tasks of a contract, checked against the sections that it has."""
    tasks = document.value("tasks", (list,), f"a list of {' and '.join(TASKS)}")
    valid = len(tasks) > 0 and all(isinstance(task, str) and task in TASKS for task in tasks)
    require(valid and len(set(tasks)) == len(tasks), f"tasks to be {' or '.join(TASKS)} or both", repr(tasks))
    for task, section in SECTION_OF_TASK.items():
        require(task in tasks or section not in document.values, f"no {section} without the task {task}", repr(tasks))
    return tuple(tasks)


def _check_first_version(size: InputSpec) -> None:
    block = UNCERTAINTY_BLOCK_PX
    require(
        size.height % block == 0 and size.width % block == 0,
        f"input sides in multiples of {block} px (contract version 1)",
        f"{size.height}x{size.width}",
    )
    require(size.resize == "letterbox", "input.resize letterbox (contract version 1)", repr(size.resize))
