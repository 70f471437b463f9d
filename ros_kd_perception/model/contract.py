"""ModelContract: describes the inputs, outputs and classes of an exported student, as JSON inside its ONNX file.

The node, replay, evaluation and benchmarks read the contract from the model file only. No YAML file overrides it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONTRACT_KEY = "ros_kd_perception.contract"
CONTRACT_VERSION = 1
UNCERTAINTY_BLOCK_PX = 32
MAX_CONTRACT_CHARACTERS = 1 << 20
MAX_SIDE_PX = 8192
MAX_DETECTIONS = 1000


class ContractError(ValueError):
    """The contract is missing, malformed, too new or does not match its file. The text is one sentence."""


@dataclass(frozen=True)
class ClassInfo:
    """One class.

    Attributes:
        id: The value in the network's output, 0..255.
        name: The name in messages and reports.
        color_rgb: The colour in pictures, 0..255 for each channel.
    """

    id: int
    name: str
    color_rgb: tuple[int, int, int]


@dataclass(frozen=True)
class InputSpec:
    """The network input.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        channels: Channel order, `bgr` or `rgb`.
        resize: How a frame is fitted into the input. Only `letterbox` exists.
        pad_value: The value of the padding beside the image, 0..255.
    """

    height: int
    width: int
    channels: str = "bgr"
    resize: str = "letterbox"
    pad_value: int = 114


@dataclass(frozen=True)
class ClassMapSpec:
    """The class map: one cell for each `stride` x `stride` input pixels.

    Each cell holds the id of one of `classes`, or `unlabeled_id`.
    """

    stride: int
    unlabeled_id: int
    classes: tuple[ClassInfo, ...]


@dataclass(frozen=True)
class DetectionSpec:
    """The boxes.

    Attributes:
        max: Rows that the network returns for each frame.
        score_threshold: Rows below this score are dropped by default, 0..1.
        classes: The classes of the boxes.
    """

    max: int
    score_threshold: float
    classes: tuple[ClassInfo, ...]


@dataclass(frozen=True)
class GoldenLimits:
    """How far the results of golden frames may differ on another execution provider.

    Attributes:
        class_map_agreement_min: The smallest share of equal class-map cells, 0..1.
        box_iou_min: The smallest IoU of an expected box with its match, 0..1.
    """

    class_map_agreement_min: float = 0.995
    box_iou_min: float = 0.9


@dataclass(frozen=True)
class ModelContract:
    """Everything needed to run a student correctly. docs/model_contract.md describes the JSON form."""

    name: str
    version: str
    precision: str
    input: InputSpec
    class_map: ClassMapSpec
    detections: DetectionSpec
    golden: GoldenLimits = field(default_factory=GoldenLimits)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each output for one frame, without the batch axis."""
        height, width = self.input.height, self.input.width
        stride, count = self.class_map.stride, self.detections.max
        block = UNCERTAINTY_BLOCK_PX
        return {
            "class_map": (height // stride, width // stride),
            "boxes": (count, 4),
            "scores": (count,),
            "labels": (count,),
            "uncertainty": (height // block, width // block),
        }

    def to_json(self) -> str:
        """Return the JSON text for the metadata of the ONNX file. `from_json` turns it back into an equal contract."""
        golden = self.golden
        return json.dumps(
            {
                "contract_version": CONTRACT_VERSION,
                "name": self.name,
                "version": self.version,
                "precision": self.precision,
                "input": vars(self.input),
                "class_map": {
                    "stride": self.class_map.stride,
                    "unlabeled_id": self.class_map.unlabeled_id,
                    "classes": [_class_to_json(c) for c in self.class_map.classes],
                },
                "detections": {
                    "max": self.detections.max,
                    "score_threshold": self.detections.score_threshold,
                    "classes": [_class_to_json(c) for c in self.detections.classes],
                },
                "golden": vars(golden),
                "provenance": dict(self.provenance),
                "metrics": dict(self.metrics),
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> ModelContract:
        """Parse and check a contract.

        Raises:
            ContractError: The text is not JSON, has a newer version, lacks a field, or has a value of the wrong type
                or range.
        """
        document = _parse(text)
        reader = _Reader(document, "")
        class_map, detections = reader.section("class_map"), reader.section("detections")
        size, golden = reader.section("input"), reader.section("golden")
        return cls(
            name=reader.text("name"),
            version=reader.text("version"),
            precision=reader.text("precision"),
            input=InputSpec(
                size.integer("height"),
                size.integer("width"),
                size.text("channels"),
                size.text("resize"),
                size.integer("pad_value"),
            ),
            class_map=ClassMapSpec(class_map.integer("stride"), class_map.integer("unlabeled_id"), class_map.classes()),
            detections=DetectionSpec(
                detections.integer("max"), detections.number("score_threshold"), detections.classes()
            ),
            golden=GoldenLimits(golden.number("class_map_agreement_min"), golden.number("box_iou_min")),
            provenance=reader.section("provenance").values,
            metrics=reader.section("metrics").values,
        )


def _class_to_json(info: ClassInfo) -> dict[str, Any]:
    return {"id": info.id, "name": info.name, "color": list(info.color_rgb)}


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_CONTRACT_CHARACTERS:
        raise ContractError(
            f"expected a contract of at most {MAX_CONTRACT_CHARACTERS} characters, got {len(text)}; "
            "export the model again"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"expected the contract to be JSON, got {error}; export the model again") from None
    if not isinstance(document, dict):
        raise ContractError(
            f"expected the contract to be a JSON object, got {type(document).__name__}; export the model again"
        )
    version = document.get("contract_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ContractError(
            f"expected an integer contract_version of 1 or more, got {version!r}; export the model again"
        )
    if version > CONTRACT_VERSION:
        raise ContractError(
            f"expected contract version {CONTRACT_VERSION}, got {version}, which is newer; "
            "update ros_kd_perception on this machine, or export the model again with the version installed here"
        )
    return document


class _Reader:
    """Gives typed access to one JSON object. Its errors name the field."""

    def __init__(self, values: dict[str, Any], path: str) -> None:
        self.values = values
        self._path = path

    def _get(self, key: str, kinds: tuple[type, ...], expected: str) -> Any:
        name = self._path + key
        if key not in self.values:
            raise ContractError(
                f"expected the contract to have {name} ({expected}), it has none; export the model again"
            )
        value = self.values[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ContractError(
                f"expected {name} of the contract to be {expected}, got {str(value)[:80]!r}; export the model again"
            )
        return value

    def section(self, key: str) -> _Reader:
        return _Reader(self._get(key, (dict,), "an object"), f"{self._path}{key}.")

    def text(self, key: str) -> str:
        return str(self._get(key, (str,), "a string"))

    def integer(self, key: str) -> int:
        return int(self._get(key, (int,), "an integer"))

    def number(self, key: str) -> float:
        value = float(self._get(key, (int, float), "a number"))
        if not math.isfinite(value):
            raise ContractError(f"expected {self._path}{key} of the contract to be finite, got {value}")
        return value

    def classes(self) -> tuple[ClassInfo, ...]:
        rows = self._get("classes", (list,), "a list of classes")
        classes = []
        for index, row in enumerate(rows):
            name = f"{self._path}classes[{index}]"
            if not isinstance(row, dict):
                raise ContractError(f"expected {name} of the contract to be an object, got {str(row)[:80]!r}")
            reader = _Reader(row, f"{name}.")
            color = reader._get("color", (list,), "a list of three integers 0..255")
            if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
                raise ContractError(f"expected {name}.color of the contract to be three integers 0..255, got {color!r}")
            classes.append(ClassInfo(reader.integer("id"), reader.text("name"), (color[0], color[1], color[2])))
        return tuple(classes)


def _require(condition: bool, expected: str, got: object) -> None:
    if not condition:
        raise ContractError(f"expected {expected} in the contract, got {got}; export the model again")


def _check(contract: ModelContract) -> None:
    size, class_map, detections, golden = contract.input, contract.class_map, contract.detections, contract.golden
    for side in (size.height, size.width):
        _require(
            0 < side <= MAX_SIDE_PX and side % UNCERTAINTY_BLOCK_PX == 0,
            f"input sides of {UNCERTAINTY_BLOCK_PX}..{MAX_SIDE_PX} px in multiples of {UNCERTAINTY_BLOCK_PX}",
            f"{size.height}x{size.width}",
        )
    _require(size.channels in ("bgr", "rgb"), "input.channels bgr or rgb", repr(size.channels))
    _require(size.resize == "letterbox", "input.resize letterbox", repr(size.resize))
    _require(0 <= size.pad_value <= 255, "input.pad_value 0..255", size.pad_value)
    _require(class_map.stride in (1, 2, 4, 8, 16, 32), "class_map.stride 1, 2, 4, 8, 16 or 32", class_map.stride)
    _require(0 <= class_map.unlabeled_id <= 255, "class_map.unlabeled_id 0..255", class_map.unlabeled_id)
    _require(1 <= detections.max <= MAX_DETECTIONS, f"detections.max 1..{MAX_DETECTIONS}", detections.max)
    _require(0 <= detections.score_threshold <= 1, "detections.score_threshold 0..1", detections.score_threshold)
    _require(0 <= golden.class_map_agreement_min <= 1, "golden.class_map_agreement_min 0..1", golden)
    _require(0 <= golden.box_iou_min <= 1, "golden.box_iou_min 0..1", golden)
    for name, classes in (("class_map", class_map.classes), ("detections", detections.classes)):
        ids = [c.id for c in classes]
        _require(0 < len(ids) <= 255, f"1..255 {name}.classes", len(ids))
        _require(len(set(ids)) == len(ids), f"different ids in {name}.classes", ids)
        _require(all(0 <= i <= 255 for i in ids), f"ids 0..255 in {name}.classes", ids)
        _require(
            len({c.name for c in classes}) == len(ids), f"different names in {name}.classes", [c.name for c in classes]
        )
        _require(all(c.name for c in classes), f"a name for every class of {name}", [c.name for c in classes])
    _require(
        class_map.unlabeled_id not in {c.id for c in class_map.classes},
        "a class_map.unlabeled_id that no class has",
        class_map.unlabeled_id,
    )
