"""What one or several teachers say about images, in the classes of a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.data.taught_frame import SMALLEST_PROBABILITY
from training.label_sets.mapping import BACKGROUND_BOX, IGNORED_BOX, LabelMapping
from training.networks.student import StudentOutputs
from training.teachers.box_fusion import fuse, overlaps
from training.teachers.joining import join
from training.teachers.seen import Boxes, Seen
from training.teachers.settings import FusionSettings, TeacherSettings


@dataclass(frozen=True)
class TaughtPixels:
    """What teachers say about the classes of masks, at stride 4.

    Attributes:
        logits: float32 [N, C, h, w], of the student's classes. Those of classes that no teacher knows mean nothing.
        counts: bool [N, h, w], False where the teachers are unsure, or see what the student has no class for. None =
            True everywhere.
        known: bool [C], whether any teacher knows a class.
    """

    logits: Tensor
    counts: Tensor | None
    known: Tensor


@dataclass(frozen=True)
class TaughtBoxes:
    """What teachers say about boxes; one entry a frame.

    Attributes:
        objects: Boxes of the student's classes.
        ignored: Regions that are neither objects nor background; the id -1 stands for every class.
        known: bool [K], whether any teacher knows a class.
    """

    objects: list[Boxes]
    ignored: list[Boxes]
    known: Tensor


@dataclass(frozen=True)
class Taught:
    """What teachers say about N images.

    Attributes:
        pixels: Classes of masks; None if no teacher teaches them.
        boxes: Boxes; None if no teacher teaches them.
        outputs: Outputs of a network of ours, for losses between features or detection branches; None if there is no
            such teacher, or they are not needed.
    """

    pixels: TaughtPixels | None
    boxes: TaughtBoxes | None
    outputs: StudentOutputs | None = None


@dataclass(frozen=True)
class Voice:
    """How much a teacher counts, and for what.

    Attributes:
        settings: Its thresholds and weight.
        mapping: Its classes to the student's.
        known_pixels: bool [C], the student's classes of masks that it teaches; empty if it teaches none.
        known_boxes: bool [K], the student's classes of boxes that it teaches; empty if it teaches none.
    """

    settings: TeacherSettings
    mapping: LabelMapping
    known_pixels: Tensor
    known_boxes: Tensor

    @classmethod
    def of(cls, settings: TeacherSettings, mapping: LabelMapping) -> Voice:
        """Find out what a teacher with this mapping teaches."""
        chosen = settings.classes
        pixels = [
            covered and (not chosen or info.name in chosen)
            for covered, info in zip(mapping.covered_segmentation, mapping.student.segmentation_classes, strict=True)
        ]
        made = {rule.becomes for rule in settings.joined}
        boxes = [
            (covered or info.name in made) and (not chosen or info.name in chosen)
            for covered, info in zip(mapping.covered_detection, mapping.student.detection_classes, strict=True)
        ]
        none = torch.zeros(0, dtype=torch.bool)
        return cls(
            settings,
            mapping,
            torch.tensor(pixels) if any(pixels) else none,
            torch.tensor(boxes) if any(boxes) else none,
        )

    def mapped(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities of the student's classes, and where the teacher says something.

        Args:
            probabilities: Of its own classes, float [N, C_own, h, w].

        Returns:
            float32 [N, C, h, w]; bool [N, 1, h, w], False where a class that maps to nothing is more probable than any
            other, or no class is probable enough.
        """
        ids = {info.name: place for place, info in enumerate(self.mapping.student.segmentation_classes)}
        targets = [self.mapping.segmentation[info.name] for info in self.mapping.source.segmentation_classes]
        table = torch.zeros(len(ids) + 1, len(targets), device=probabilities.device)
        for own, target in enumerate(targets):
            table[ids.get(target, len(ids)), own] = 1.0
        everything = torch.einsum("kc,nchw->nkhw", table, probabilities.float())
        # What is missing to 1 belongs to classes that the network does not report.
        missing = (1.0 - everything.sum(dim=1, keepdim=True)).clamp(min=0.0)
        mapped, ignored = everything[:, :-1], everything[:, -1:] + missing
        highest = mapped.amax(dim=1, keepdim=True)
        return mapped, (highest > ignored) & (highest >= self.settings.pixel_confidence_min)

    def sorted_out(self, boxes: Boxes) -> tuple[Boxes, Boxes]:
        """Return the objects that the teacher is sure of, and the regions in which it is not, in the student's ids."""
        translated = self._translated(boxes)
        noticed = translated[(translated.scores >= self.settings.box_unsure) & (translated.ids != BACKGROUND_BOX)]
        # A box that a tile cuts may not be the whole object, however sure the teacher is.
        sure = (noticed.scores >= self._box_sure(noticed.ids)) & (noticed.ids != IGNORED_BOX) & ~noticed.cut
        return noticed[sure], noticed[~sure]

    def _translated(self, boxes: Boxes) -> Boxes:
        """Return boxes in the student's ids, IGNORED_BOX or BACKGROUND_BOX; pairs of a rule are joined."""
        objects = []
        for rule in self.settings.joined:
            joined = join(boxes, rule, self.mapping.source)
            boxes = joined.boxes
            objects.append(self._of_student(joined.objects, rule.becomes))
        ids = torch.full((1 + max(self.mapping.box_ids),), BACKGROUND_BOX, device=boxes.ids.device)
        for own, student in self.mapping.box_ids.items():
            ids[own] = self._taught_id(student)
        return Boxes.joined([replace(boxes, ids=ids[boxes.ids]), *objects])

    def _box_sure(self, ids: Tensor) -> Tensor:
        """Return the score from which each box is an object, for ids of the student."""
        limits = torch.full_like(ids, self.settings.box_sure, dtype=torch.float32)
        for info in self.mapping.student.detection:
            if info.name in self.settings.box_sure_by_class:
                limits[ids == info.id] = self.settings.box_sure_by_class[info.name]
        return limits

    def _of_student(self, boxes: Boxes, name: str) -> Boxes:
        (student,) = (info.id for info in self.mapping.student.detection if info.name == name)
        return replace(boxes, ids=torch.full_like(boxes.ids, self._taught_id(student)))

    def _taught_id(self, student: int) -> int:
        return student if student < 0 or bool(self.known_boxes[student]) else BACKGROUND_BOX


def fused_pixels(voices: Sequence[Voice], seen: Sequence[Seen]) -> TaughtPixels | None:
    """Return the mean of the probabilities of all teachers that know a class.

    A pixel counts if each class that is known at all is known by a teacher that says something there.
    """
    speaking = [
        (voice, said.probabilities)
        for voice, said in zip(voices, seen, strict=True)
        if len(voice.known_pixels) and said.probabilities is not None
    ]
    if not speaking:
        return None
    total = weight = torch.zeros(())
    for voice, probabilities in speaking:
        mapped, says = voice.mapped(probabilities)
        share = voice.settings.weight * says * voice.known_pixels.to(says.device).view(1, -1, 1, 1)
        total, weight = total.to(says.device) + share * mapped, weight.to(says.device) + share
    known = torch.stack([voice.known_pixels for voice, _ in speaking]).any(dim=0).to(weight.device)
    counts = (weight[:, known] > 0).all(dim=1)
    mean = total / weight.clamp(min=1e-9)
    mean = mean / mean.sum(dim=1, keepdim=True).clamp(min=SMALLEST_PROBABILITY)
    least = min(voice.settings.pixel_confidence_min for voice, _ in speaking)
    counts &= mean.amax(dim=1) >= least
    return TaughtPixels(mean.clamp(min=SMALLEST_PROBABILITY).log(), counts, known)


def fused_boxes(voices: Sequence[Voice], seen: Sequence[Seen], fusion: FusionSettings) -> TaughtBoxes | None:
    """Return the objects of all teachers, one box each, and the regions in which they are unsure of an object."""
    speaking = [
        (voice, said.boxes)
        for voice, said in zip(voices, seen, strict=True)
        if len(voice.known_boxes) and said.boxes is not None
    ]
    if not speaking:
        return None
    objects, ignored = [], []
    for frame in range(len(speaking[0][1])):
        parts = [voice.sorted_out(boxes[frame]) for voice, boxes in speaking]
        weights = [
            torch.full_like(sure.scores, voice.settings.weight)
            for (voice, _), (sure, _) in zip(speaking, parts, strict=True)
        ]
        found = fuse(Boxes.joined([sure for sure, _ in parts]), fusion, torch.cat(weights))
        unsure = fuse(Boxes.joined([doubtful for _, doubtful in parts]), FusionSettings(iou=fusion.iou))
        objects.append(found)
        ignored.append(unsure[~overlaps(unsure, found, fusion.iou)])
    known = torch.stack([voice.known_boxes for voice, _ in speaking]).any(dim=0).to(objects[0].ids.device)
    return TaughtBoxes(objects, ignored, known)
