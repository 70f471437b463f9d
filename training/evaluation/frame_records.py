"""What one file perceives on labelled frames, frame by frame. It is kept in files, so that no frame is scored twice.

Figures of a whole set cannot say how sure they are. With the counts of each frame, the figures of any choice of the
frames follow without running a network again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.contract import CONTRACT_KEY
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Perception
from training.data.sample import Sample
from training.evaluation.box_matching import IOU_THRESHOLDS, MatchedBoxes, match_boxes
from training.evaluation.class_places import ClassPlaces
from training.evaluation.metrics import SegmentationMetrics
from training.evaluation.scoring import SCORE_FLOOR, perceive_sample
from training.whole_files import write_bytes

KEPT_VERSION = 1  # of the rules of scoring and of the kept files
# Two class maps are compared at every fourth pixel in each direction. A cell of a student's class map is larger.
SAMPLE_PX = 4
# Sections of a contract that say what a file is worth or came from, and change no output.
SAID_SECTIONS = ("golden", "provenance", "metrics", "derived", "name", "version")


class LabeledFrames(Protocol):
    """Labelled frames in the classes of a file. Every `FrameFolder` is one."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return a frame with its labels."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the pictures and labels of all frames."""
        ...


@dataclass(frozen=True)
class FrameRecords:
    """Counts of each frame. A task that the file does not do has no classes.

    Attributes:
        mask_classes: str (c,), names of the classes of the class map.
        box_classes: str (k,), names of the classes of boxes.
        confusion: int32 (frames, c, c + 1), pixels by true and perceived class; the last column is outside the classes.
        labeled: bool (frames, c), whether the source of the frame labels the class.
        true_boxes: int32 (frames, k), number of true boxes.
        frame: int32 (d,), frame of each detection, in ascending order.
        label: int32 (d,), its class.
        score: float64 (d,), its score.
        hits: bool (thresholds, d), whether it is right at each of IOU_THRESHOLDS.
        ignored: bool (thresholds, d), whether it counts neither as right nor as wrong.
        seen: uint8 (n,), every fourth pixel of the class maps of all frames.
    """

    mask_classes: NDArray[np.str_]
    box_classes: NDArray[np.str_]
    confusion: NDArray[np.int32]
    labeled: NDArray[np.bool_]
    true_boxes: NDArray[np.int32]
    frame: NDArray[np.int32]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    seen: NDArray[np.uint8]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.confusion)

    def agreement(self, other: FrameRecords) -> float | None:
        """Return the share of the pixels that both perceive as the same class; None if they cannot be compared."""
        alike = np.array_equal(self.mask_classes, other.mask_classes) and self.seen.size == other.seen.size
        return float(np.mean(self.seen == other.seen)) if alike and self.seen.size else None

    def to_bytes(self) -> bytes:
        """Return the content of a file to keep."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> FrameRecords:
        """Read a kept file."""
        with np.load(path, allow_pickle=False) as kept:
            return cls(**{field.name: kept[field.name] for field in fields(cls)})


def keep_records(model: OnnxModel, network: str, frames: LabeledFrames, folder: Path, title: str) -> FrameRecords:
    """Return the records of a file on frames: those that are kept, or new ones, which are kept then.

    Args:
        model: The opened file.
        network: What `network_digest` returns of it.
        frames: Labelled frames in the classes of the file.
        folder: Folder of the kept records.
        title: Text beside the progress bar.

    Raises:
        CheckpointError: The outputs of the network contain NaN or infinity.
    """
    said = f"{KEPT_VERSION} {SCORE_FLOOR} {network} {model.provider.used} {frames.fingerprint()}"
    key = hashlib.sha256(said.encode()).hexdigest()
    path = folder / f"{key[:24]}.npz"
    if not path.is_file():
        write_bytes(path, _record(model, frames, title).to_bytes())
    return FrameRecords.read(path)


def network_digest(path: Path) -> str:
    """Return a SHA-256 of what a file computes: its graph, and the parts of its contract that change results.

    It stays the same when a proof is written into the contract, so that a file need not be scored again for it.
    """
    model = onnx.load(str(path))
    texts = {item.key: item.value for item in model.metadata_props}
    del model.metadata_props[:]
    contract: dict[str, Any] = json.loads(texts.get(CONTRACT_KEY, "{}"))
    read = {key: value for key, value in contract.items() if key not in SAID_SECTIONS}
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    digest.update(json.dumps(read, sort_keys=True, allow_nan=False).encode())
    return digest.hexdigest()


def _record(model: OnnxModel, frames: LabeledFrames, title: str) -> FrameRecords:
    perceiver, places = Perceiver(model, SCORE_FLOOR), ClassPlaces(model.contract)
    perceiver.warm_up()
    masks = [info.name for info in places.contract.segmentation_classes]
    boxes = [info.name for info in places.contract.detection_classes]
    pixels: list[SegmentationMetrics] = []
    matched: list[MatchedBoxes] = []
    seen: list[NDArray[np.uint8]] = []
    for number in tqdm(range(len(frames)), desc=title, unit="frame", disable=None):
        sample = frames[number]
        perception = perceive_sample(perceiver, places, sample)
        pixels.append(_pixels(perception, sample, len(masks)))
        matched.append(_boxes(perception, sample, len(boxes)))
        if perception.class_map is not None:
            seen.append(perception.class_map[SAMPLE_PX // 2 :: SAMPLE_PX, SAMPLE_PX // 2 :: SAMPLE_PX].ravel())
    return FrameRecords(
        np.array(masks, np.str_),
        np.array(boxes, np.str_),
        np.stack([each.confusion for each in pixels]).astype(np.int32),
        np.stack([each.labeled for each in pixels]),
        np.stack([each.true_boxes for each in matched]),
        np.repeat(np.arange(len(matched), dtype=np.int32), [len(each.scores) for each in matched]),
        _joined((each.labels for each in matched), np.int32),
        _joined((each.scores for each in matched), np.float64),
        np.concatenate([each.hits for each in matched], axis=1),
        np.concatenate([each.ignored for each in matched], axis=1),
        _joined(seen, np.uint8),
    )


def _joined(parts: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _pixels(perception: Perception, sample: Sample, classes: int) -> SegmentationMetrics:
    found = SegmentationMetrics(classes)
    if perception.class_map is not None:
        found.update(perception.class_map, sample.mask, sample.labeled_pixels)
    return found


def _boxes(perception: Perception, sample: Sample, classes: int) -> MatchedBoxes:
    if perception.detections is None:
        nothing = np.zeros((len(IOU_THRESHOLDS), 0), np.bool_)
        return MatchedBoxes(np.zeros(0, np.int32), np.zeros(0), nothing, nothing, np.zeros(classes, np.int32))
    return match_boxes(perception.detections, sample, classes)
