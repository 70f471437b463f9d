"""What teachers say about the frames of a score. It is kept in files, so that no teacher sees a frame twice."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros_kd_perception.structures import Detections, UInt8Array
from training.data.readers.frame_folder import FrameFolder
from training.data.sample import Sample
from training.evaluation.scoring import SCORE_FLOOR
from training.label_sets.label_set import UNLABELED_ID
from training.teachers.ensemble import Ensemble
from training.teachers.labeling import FrameLabeler
from training.teachers.settings import FusionSettings, TeacherSettings
from training.whole_files import write_bytes


@dataclass(frozen=True)
class Answer:
    """What teachers say about a frame, in the classes of the student.

    Attributes:
        mask: uint8 (h, w), the most probable class of each pixel, however unsure; 255 where they say nothing.
        taught: bool (h, w), where they are sure enough to teach.
        boxes: Boxes down to the score SCORE_FLOOR.
        known_pixels: bool (segmentation classes,), whether a teacher knows the class.
        known_boxes: bool (detection classes,), like `known_pixels`.
    """

    mask: UInt8Array
    taught: NDArray[np.bool_]
    boxes: Detections
    known_pixels: NDArray[np.bool_]
    known_boxes: NDArray[np.bool_]

    def known_part_of(self, sample: Sample) -> Sample:
        """Return a sample without the labels of classes that the teachers do not know, or that it does not label."""
        pixels, boxes = self.known_pixels, self.known_boxes
        if sample.labeled_pixels is not None:
            pixels = pixels & sample.labeled_pixels
        if sample.labeled_boxes is not None:
            boxes = boxes & sample.labeled_boxes
        void = np.ones(UNLABELED_ID + 1, np.bool_)
        void[: len(pixels)] = ~pixels
        kept = boxes[sample.labels]
        return replace(
            sample,
            mask=np.where(void[sample.mask], UNLABELED_ID, sample.mask).astype(np.uint8),
            boxes_xyxy=sample.boxes_xyxy[kept],
            labels=sample.labels[kept],
            labeled_pixels=pixels,
            labeled_boxes=boxes,
        )


class TeacherAnswers:
    """The answers of one or several teachers to all frames of a source.

    Attributes:
        key: Digest of frames, teachers and settings.
        box_sure: float32 (detection classes,), lowest score from which a box of a teacher is an object to the student.
    """

    def __init__(
        self,
        teachers: Sequence[TeacherSettings],
        fusion: FusionSettings,
        frames: FrameFolder,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        """Load the teachers.

        Args:
            teachers: Settings of the teachers.
            fusion: How their boxes become one.
            frames: The frames, with labels in the classes of the student.
            folder: Folder of all kept answers.
            device: Device of teachers that run in PyTorch.
        """
        self._pixel_sure = min(settings.pixel_confidence_min for settings in teachers)
        # Without thresholds, since a figure of a teacher does not depend on what it teaches.
        open_minded = [
            settings.replace(
                pixel_confidence_min=0.0, box_sure=SCORE_FLOOR, box_unsure=SCORE_FLOOR, box_sure_by_class={}
            )
            for settings in teachers
        ]
        ensemble = Ensemble.open(open_minded, fusion, frames.mapping.student)
        self._labeler = FrameLabeler(ensemble, device)
        self._frames = frames
        lowest = min(settings.box_sure for settings in teachers)
        self.box_sure = _least_sure(teachers, ensemble, lowest)
        said = f"{self._labeler.sha256} {self._pixel_sure} {lowest} {frames.fingerprint()}"
        self._folder = folder / hashlib.sha256(said.encode()).hexdigest()[:24]
        # Limits of classes do not change the answers that are kept, but what follows from them.
        by_class = "" if (self.box_sure == np.float32(lowest)).all() else f" {self.box_sure.tolist()}"
        self.key = hashlib.sha256(f"{said}{by_class}".encode()).hexdigest()

    def __iter__(self) -> Iterator[tuple[Sample, Answer]]:
        """Yield every frame with the labels that the teachers could know, and their answer."""
        for number in tqdm(range(len(self._frames)), desc="teachers' errors", unit="frame", disable=None):
            sample = self._frames[number]
            answer = self._answer(sample)
            yield answer.known_part_of(sample), answer

    def _answer(self, sample: Sample) -> Answer:
        path = self._folder / f"{sample.name}.npz"
        if not path.is_file():
            write_bytes(path, self._ask(sample))
        with np.load(path, allow_pickle=False) as kept:
            boxes = Detections(kept["boxes_xyxy"], kept["scores"], kept["labels"])
            return Answer(kept["mask"], kept["taught"], boxes, kept["known_pixels"], kept["known_boxes"])

    def _ask(self, sample: Sample) -> bytes:
        said = self._labeler.label_frame(sample.image_bgr)
        silent = np.full(sample.mask.shape, UNLABELED_ID, np.uint8)
        mask = silent if said.mask is None else said.mask
        sure = np.zeros(mask.shape, np.float32) if said.confidence is None else said.confidence
        order = np.argsort(-said.scores, kind="stable")
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            mask=mask,
            taught=(mask != UNLABELED_ID) & (sure >= self._pixel_sure),
            boxes_xyxy=said.boxes_xyxy[order],
            scores=said.scores[order],
            labels=said.labels[order].astype(np.int32),
            known_pixels=said.labeled_pixels,
            known_boxes=said.labeled_boxes,
        )
        return buffer.getvalue()


def _least_sure(teachers: Sequence[TeacherSettings], ensemble: Ensemble, lowest: float) -> NDArray[np.float32]:
    """Return the lowest score of each class that some teacher of it takes for an object; `lowest` if none knows it."""
    classes = ensemble.student.detection_classes
    limits: list[list[float]] = [[] for _ in classes]
    for settings, member in zip(teachers, ensemble.members, strict=True):
        for label in np.flatnonzero(member.voice.known_boxes.numpy()).tolist():
            limits[label].append(settings.box_sure_by_class.get(classes[label].name, settings.box_sure))
    return np.array([min(each, default=lowest) for each in limits], np.float32)
