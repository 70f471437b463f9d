"""The parts of a contract: input, class map, boxes, classes, golden limits. Each checks itself and knows its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ros_kd_perception.model.contract_reader import JsonSection, require

UNCERTAINTY_BLOCK_PX = 32
MAX_SIDE_PX = 8192
MAX_DETECTIONS = 1000
DYNAMIC_BATCH = "dynamic"
STRIDES = (1, 2, 4, 8, 16, 32)


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
        resize: How a frame is fitted into the input: `letterbox` keeps its aspect ratio and pads the rest, `stretch`
            fills the input.
        pad_value: The value of the padding beside the image, 0..255.
        batch: `dynamic` if the file runs any number of frames at once, 1 if it runs one frame only.
    """

    height: int
    width: int
    channels: str = "bgr"
    resize: str = "letterbox"
    pad_value: int = 114
    batch: str | int = DYNAMIC_BATCH

    @classmethod
    def from_section(cls, size: JsonSection, version: int) -> InputSpec:
        """Read the section `input` of a contract of a version."""
        first = version == 1  # whose inputs all have a dynamic batch
        return cls(
            size.integer("height"),
            size.integer("width"),
            size.text("channels"),
            size.text("resize"),
            size.integer("pad_value"),
            DYNAMIC_BATCH if first else size.value("batch", (str, int), f'"{DYNAMIC_BATCH}" or 1'),
        )

    def check(self) -> None:
        """Raise a ContractError if a value is out of range."""
        least, most = UNCERTAINTY_BLOCK_PX, MAX_SIDE_PX
        for side in (self.height, self.width):
            require(least <= side <= most, f"input sides of {least}..{most} px", f"{self.height}x{self.width}")
        require(self.channels in ("bgr", "rgb"), "input.channels bgr or rgb", repr(self.channels))
        require(self.resize in ("letterbox", "stretch"), "input.resize letterbox or stretch", repr(self.resize))
        require(0 <= self.pad_value <= 255, "input.pad_value 0..255", self.pad_value)
        require(self.batch in (DYNAMIC_BATCH, 1), f'input.batch "{DYNAMIC_BATCH}" or 1', repr(self.batch))


@dataclass(frozen=True)
class ClassMapSpec:
    """The class map: one cell for each `stride` x `stride` input pixels.

    Attributes:
        stride: Input pixels to a cell.
        unlabeled_id: Value of cells without a class.
        classes: The classes. Each cell holds the id of one of them, or `unlabeled_id`.
        drivable: Names of the classes that a vehicle can drive on, for free space. Empty if the file names none.
    """

    stride: int
    unlabeled_id: int
    classes: tuple[ClassInfo, ...]
    drivable: tuple[str, ...] = ()

    @classmethod
    def from_section(cls, section: JsonSection) -> ClassMapSpec:
        """Read the section `class_map`."""
        return cls(
            section.integer("stride"), section.integer("unlabeled_id"), classes_of(section), section.names("drivable")
        )

    def to_json(self) -> dict[str, Any]:
        """Return the section `class_map`."""
        named = {"drivable": list(self.drivable)} if self.drivable else {}
        return {
            "stride": self.stride,
            "unlabeled_id": self.unlabeled_id,
            "classes": _classes_to_json(self.classes),
            **named,
        }

    def check(self) -> None:
        """Raise a ContractError if a value is out of range."""
        require(self.stride in STRIDES, "class_map.stride 1, 2, 4, 8, 16 or 32", self.stride)
        require(0 <= self.unlabeled_id <= 255, "class_map.unlabeled_id 0..255", self.unlabeled_id)
        _check_classes("class_map", self.classes)
        require(
            self.unlabeled_id not in {c.id for c in self.classes},
            "a class_map.unlabeled_id that no class has",
            self.unlabeled_id,
        )
        strange = sorted(set(self.drivable) - {c.name for c in self.classes})
        require(not strange, "names of class_map.classes in class_map.drivable", strange)


@dataclass(frozen=True)
class DetectionSpec:
    """The boxes.

    Attributes:
        max: Rows that the network returns for each frame.
        score_threshold: Rows below this score are dropped by default, 0..1.
        classes: The classes of the boxes.
        nms_iou: IoU above which the perceiver drops the lower-scored of two boxes of one class, 0..1. None if the
            network reports each object once.
    """

    max: int
    score_threshold: float
    classes: tuple[ClassInfo, ...]
    nms_iou: float | None = None

    @classmethod
    def from_section(cls, section: JsonSection, version: int) -> DetectionSpec:
        """Read the section `detections` of a contract of a version."""
        return cls(
            section.integer("max"),
            section.number("score_threshold"),
            classes_of(section),
            None if version == 1 else section.number_or_null("nms_iou"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the section `detections`."""
        return {
            "max": self.max,
            "score_threshold": self.score_threshold,
            "nms_iou": self.nms_iou,
            "classes": _classes_to_json(self.classes),
        }

    def check(self) -> None:
        """Raise a ContractError if a value is out of range."""
        require(1 <= self.max <= MAX_DETECTIONS, f"detections.max 1..{MAX_DETECTIONS}", self.max)
        require(0 <= self.score_threshold <= 1, "detections.score_threshold 0..1", self.score_threshold)
        require(self.nms_iou is None or 0 <= self.nms_iou <= 1, "detections.nms_iou null or 0..1", self.nms_iou)
        _check_classes("detections", self.classes)


@dataclass(frozen=True)
class GoldenLimits:
    """How far the results of golden frames may differ on another execution provider.

    Attributes:
        class_map_agreement_min: The smallest share of equal class-map cells, 0..1.
        box_iou_min: The smallest IoU of an expected box with its match, 0..1.
        score_difference_max: The largest difference between the scores of an expected box and its match, 0..1.
    """

    class_map_agreement_min: float = 0.995
    box_iou_min: float = 0.9
    score_difference_max: float = 0.05

    @classmethod
    def from_section(cls, section: JsonSection) -> GoldenLimits:
        """Read the section `golden`. The limit of the scores may be absent."""
        scores = {key: section.number(key) for key in ("score_difference_max",) if key in section.values}
        return cls(section.number("class_map_agreement_min"), section.number("box_iou_min"), **scores)

    def check(self) -> None:
        """Raise a ContractError if a value is out of range."""
        require(0 <= self.class_map_agreement_min <= 1, "golden.class_map_agreement_min 0..1", self)
        require(0 <= self.box_iou_min <= 1, "golden.box_iou_min 0..1", self)
        require(0 <= self.score_difference_max <= 1, "golden.score_difference_max 0..1", self)


def classes_of(section: JsonSection) -> tuple[ClassInfo, ...]:
    """Read the list `classes` of a section."""
    classes = []
    for row in section.sections("classes"):
        color = row.value("color", (list,), "a list of three integers 0..255")
        valid = len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)
        require(valid, "three integers 0..255 as the color of a class", f"{color!r} in {row.values!r}")
        classes.append(ClassInfo(row.integer("id"), row.text("name"), (color[0], color[1], color[2])))
    return tuple(classes)


def _classes_to_json(classes: tuple[ClassInfo, ...]) -> list[dict[str, Any]]:
    return [{"id": c.id, "name": c.name, "color": list(c.color_rgb)} for c in classes]


def _check_classes(section: str, classes: tuple[ClassInfo, ...]) -> None:
    ids, names = [c.id for c in classes], [c.name for c in classes]
    require(0 < len(ids) <= 255, f"1..255 {section}.classes", len(ids))
    require(len(set(ids)) == len(ids), f"different ids in {section}.classes", ids)
    require(all(0 <= i <= 255 for i in ids), f"ids 0..255 in {section}.classes", ids)
    require(len(set(names)) == len(names), f"different names in {section}.classes", names)
    require(all(names), f"a name for every class of {section}", names)
