"""Record what a model perceives on labelled frames. Records are kept in files, so that no frame is scored twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.model.contract import CONTRACT_KEY, UNCERTAINTY_BLOCK_PX, InputSpec, ModelContract
from ros_kd_perception.model.letterbox import InputGeometry, class_map_to_source, letterbox_geometry
from ros_kd_perception.structures import Perception, RegionOfInterest
from training.data.sample import Sample
from training.evaluation.boundary import boundary_counts
from training.evaluation.box_matching import BOX_SIZES, IOU_THRESHOLDS, MatchedBoxes, match_boxes
from training.evaluation.class_places import ClassPlaces
from training.evaluation.frame_records import FrameRecords
from training.evaluation.metrics import SegmentationMetrics
from training.evaluation.scoring import SCORE_FLOOR, Perceives, perceive_sample
from training.whole_files import write_bytes

KEPT_VERSION = 3  # of the rules of scoring and of the kept files
# Two class maps are compared at every fourth pixel in each direction. A cell of a student's class map is larger.
SAMPLE_PX = 4
DOUBT_BINS = 64  # of the uncertainty, 0..1
# Sections of a contract that say what a file is worth or came from, and change no output.
SAID_SECTIONS = ("golden", "provenance", "metrics", "derived", "name", "version")


class LabeledFrames(Protocol):
    """Labelled frames in the classes of a model. Every `FrameFolder` is one."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return a frame with its labels."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the pictures and labels of all frames."""
        ...


class FrameRecorder:
    """Collects the counts of frames."""

    def __init__(self, contract: ModelContract) -> None:
        """Begin with no frames.

        Args:
            contract: Contract of the model, with ids that count from 0.
        """
        self._input = contract.input
        self._mask_classes = [info.name for info in contract.segmentation_classes]
        self._box_classes = [info.name for info in contract.detection_classes]
        self._names: list[str] = []
        self._pixels: list[SegmentationMetrics] = []
        self._outlines: list[NDArray[np.int32]] = []
        self._doubt: list[NDArray[np.int32]] = []
        self._boxes: list[list[MatchedBoxes]] = []
        self._seen: list[NDArray[np.uint8]] = []

    def add(self, perception: Perception, sample: Sample) -> None:
        """Add a frame; ids of both count from 0."""
        self._names.append(sample.name)
        self._add_pixels(perception, sample)
        self._boxes.append(self._matched(perception, sample))

    def _add_pixels(self, perception: Perception, sample: Sample) -> None:
        classes = len(self._mask_classes)
        counted = SegmentationMetrics(classes)
        outlines, doubt = np.zeros((classes, 2), np.int32), np.zeros((2, DOUBT_BINS), np.int32)
        seen = perception.class_map
        if seen is not None:
            counted.update(seen, sample.mask, sample.labeled_pixels)
            outlines = boundary_counts(seen, sample.mask, counted.labeled, classes)
            doubt = _doubt(perception, sample, classes, self._input)
            self._seen.append(seen[SAMPLE_PX // 2 :: SAMPLE_PX, SAMPLE_PX // 2 :: SAMPLE_PX].ravel())
        self._pixels.append(counted)
        self._outlines.append(outlines)
        self._doubt.append(doubt)

    def _matched(self, perception: Perception, sample: Sample) -> list[MatchedBoxes]:
        """Return what the boxes are worth among those of every size, then among those of each size."""
        classes = len(self._box_classes)
        if perception.detections is None:
            nothing = np.zeros((len(IOU_THRESHOLDS), 0), np.bool_)
            empty = MatchedBoxes(np.zeros(0, np.int32), np.zeros(0), nothing, nothing, np.zeros(classes, np.int32))
            return [empty] * (1 + len(BOX_SIZES))
        found = perception.detections
        return [
            match_boxes(found, sample, classes),
            *(match_boxes(found, sample, classes, area_px) for area_px in BOX_SIZES.values()),
        ]

    def records(self) -> FrameRecords:
        """Return the counts of all frames so far; at least one frame must have been added."""
        of_every_size, *of_sizes = zip(*self._boxes, strict=True)
        return FrameRecords(
            names=np.array(self._names, np.str_),
            mask_classes=np.array(self._mask_classes, np.str_),
            box_classes=np.array(self._box_classes, np.str_),
            confusion=np.stack([each.confusion for each in self._pixels]).astype(np.int32),
            outlines=np.stack(self._outlines),
            labeled=np.stack([each.labeled for each in self._pixels]),
            doubt=np.stack(self._doubt),
            true_boxes=np.stack([each.true_boxes for each in of_every_size]),
            true_boxes_by_size=np.stack([[each.true_boxes for each in of_size] for of_size in of_sizes]),
            frame=np.repeat(np.arange(len(of_every_size), dtype=np.int32), [len(e.scores) for e in of_every_size]),
            label=_joined((each.labels for each in of_every_size), np.int32),
            score=_joined((each.scores for each in of_every_size), np.float64),
            hits=np.concatenate([each.hits for each in of_every_size], axis=1),
            ignored=np.concatenate([each.ignored for each in of_every_size], axis=1),
            hits_by_size=np.stack([np.concatenate([e.hits for e in of_size], axis=1) for of_size in of_sizes]),
            ignored_by_size=np.stack([np.concatenate([e.ignored for e in of_size], axis=1) for of_size in of_sizes]),
            seen=_joined(self._seen, np.uint8),
        )


def record(perceiver: Perceives, contract: ModelContract, frames: LabeledFrames, title: str) -> FrameRecords:
    """Perceive all frames and return their records.

    Args:
        perceiver: Perceives the frames.
        contract: Contract of the model.
        frames: Labelled frames in the classes of the model.
        title: Text beside the progress bar.

    Raises:
        CheckpointError: The outputs of the network contain NaN or infinity.
    """
    places = ClassPlaces(contract)
    recorder = FrameRecorder(places.contract)
    perceiver.warm_up()
    for number in tqdm(range(len(frames)), desc=title, unit="frame", disable=None):
        sample = frames[number]
        recorder.add(perceive_sample(perceiver, places, sample), sample)
    return recorder.records()


def keep_records(
    perceiver: Perceives, contract: ModelContract, digest: str, frames: LabeledFrames, folder: Path, title: str
) -> FrameRecords:
    """Return the records of a model on frames: those that are kept, or new ones, which are kept then.

    Args:
        perceiver: Perceives the frames, with boxes of scores down to SCORE_FLOOR.
        contract: Contract of the model.
        digest: Says what the model computes and on what it runs, for example by `network_digest`.
        frames: Labelled frames in the classes of the model.
        folder: Folder of the kept records.
        title: Text beside the progress bar.

    Raises:
        CheckpointError: The outputs of the network contain NaN or infinity.
    """
    said = f"{KEPT_VERSION} {SCORE_FLOOR} {digest} {frames.fingerprint()}"
    path = folder / f"{hashlib.sha256(said.encode()).hexdigest()[:24]}.npz"
    if not path.is_file():
        write_bytes(path, record(perceiver, contract, frames, title).to_bytes())
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


def _joined(parts: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _doubt(perception: Perception, sample: Sample, classes: int, spec: InputSpec) -> NDArray[np.int32]:
    """Return wrong and right pixels by the uncertainty of their block, int32 (2, DOUBT_BINS)."""
    seen, uncertainty = perception.class_map, perception.uncertainty
    if seen is None or uncertainty is None or not uncertainty.size:
        return np.zeros((2, DOUBT_BINS), np.int32)
    bins = np.minimum((uncertainty * DOUBT_BINS).astype(np.uint8), DOUBT_BINS - 1)
    of_pixel = class_map_to_source(bins, UNCERTAINTY_BLOCK_PX, _geometry(spec, *seen.shape))
    valid = sample.mask < classes
    right = seen[valid] == sample.mask[valid]
    counts = np.bincount(right * DOUBT_BINS + of_pixel[valid].astype(np.int64), minlength=2 * DOUBT_BINS)
    return counts.reshape(2, DOUBT_BINS).astype(np.int32)


def _geometry(spec: InputSpec, height: int, width: int) -> InputGeometry:
    """Return where a whole frame lies in the input of a network."""
    if spec.resize == "stretch":
        return InputGeometry(height, width, spec.height, spec.width, RegionOfInterest(0, 0, width, height))
    return letterbox_geometry(height, width, spec.height, spec.width)
