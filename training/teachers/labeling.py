"""FrameLabeler: makes labels of what teachers say about a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ros_kd_perception.structures import UInt8Array
from training.config.loading import load_settings
from training.label_sets.gaps import unlabeled_classes
from training.label_sets.label_set import UNLABELED_ID, LabelSet
from training.teachers.ensemble import Ensemble
from training.teachers.pseudo_labels import PseudoLabels
from training.teachers.registry import TeacherList
from training.teachers.seen import Boxes
from training.teachers.taught import TaughtBoxes, TaughtPixels


class FrameLabeler:
    """Labels frames by teachers.

    Attributes:
        label_set: The classes of the labels: the student's.
        sha256: Digest of the teachers and of all settings that the labels depend on.
    """

    def __init__(self, teachers: Ensemble, device: str = "cpu") -> None:
        """Set the teachers.

        Args:
            teachers: The teachers.
            device: Device of those that run in PyTorch.
        """
        self.label_set = teachers.student
        self.sha256 = teachers.key
        self._teachers = teachers
        self._device = device

    @property
    def gaps(self) -> str:
        """Which classes no teacher labels, in words; empty if there are none."""
        return unlabeled_classes(self.label_set, self._teachers.known)

    @classmethod
    def open(cls, path: Path, student: LabelSet, device: str = "cpu") -> FrameLabeler:
        """Load the teachers that a file names.

        Args:
            path: A YAML file, see `training.teachers.registry.TeacherList`.
            student: Classes of the labels.
            device: Device of the teachers that run in PyTorch.

        Raises:
            CheckpointError, ModelFileError, RecipeError: The file is not valid, or a teacher cannot be used.
        """
        listed = load_settings(path, TeacherList)
        ensemble = Ensemble.open(listed.teachers, listed.fusion, student, f"{path}: teachers")
        return cls(ensemble, device)

    def __call__(self, image_bgr: UInt8Array) -> PseudoLabels:
        """Return what the teachers say about a frame; see `label_frame`."""
        return self.label_frame(image_bgr)

    def label_frame(self, image_bgr: UInt8Array) -> PseudoLabels:
        """Return what the teachers say about a frame.

        Args:
            image_bgr: uint8 (h, w, 3).

        Raises:
            RecipeError: There is not enough memory.
        """
        images = torch.from_numpy(np.ascontiguousarray(image_bgr.transpose(2, 0, 1)))[None].to(self._device)
        taught = self._teachers(images)
        mask = confidence = None
        labeled_pixels = np.zeros(len(self._teachers.student.segmentation_classes), np.bool_)
        if taught.pixels is not None:
            labeled_pixels = taught.pixels.known.cpu().numpy()
            shares = shares_of(taught.pixels)
            counts = torch.ones_like(shares[:, 0]) if taught.pixels.counts is None else taught.pixels.counts
            mask, confidence = _full_size(shares[0], counts[0], *image_bgr.shape[:2])
        boxes = taught.boxes or _no_boxes(len(self._teachers.student.detection_classes))
        objects, ignored = boxes.objects[0], boxes.ignored[0]
        return PseudoLabels(
            mask=mask,
            confidence=confidence,
            boxes_xyxy=objects.xyxy.cpu().numpy(),
            labels=objects.ids.cpu().numpy(),
            scores=objects.scores.cpu().numpy(),
            ignored_xyxy=ignored.xyxy.cpu().numpy(),
            ignored_labels=ignored.ids.cpu().numpy(),
            labeled_pixels=labeled_pixels,
            labeled_boxes=boxes.known.cpu().numpy(),
        )


def _no_boxes(classes: int) -> TaughtBoxes:
    nothing = Boxes.of(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
    return TaughtBoxes([nothing], [nothing], torch.zeros(classes, dtype=torch.bool))


def shares_of(pixels: TaughtPixels) -> Tensor:
    """Return the probabilities, float32 [N, C, h, w], 0 for classes that no teacher knows."""
    known = pixels.known.view(1, -1, 1, 1).to(pixels.logits.device)
    return pixels.logits.masked_fill(~known, -torch.inf).softmax(dim=1)


def _full_size(
    shares: Tensor, counts: Tensor, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the most probable class of each pixel and its probability; 255 where the nearest cell does not count.

    Class after class, because all probabilities of a large frame at once would need gigabytes.
    """

    def enlarged(cells: Tensor, mode: str) -> Tensor:
        options = {"align_corners": False} if mode == "bilinear" else {}
        return functional.interpolate(cells[None, None], size=(height, width), mode=mode, **options)[0, 0]

    best = torch.zeros(height, width, device=shares.device)
    mask = torch.full((height, width), UNLABELED_ID, dtype=torch.uint8, device=shares.device)
    for number, share in enumerate(shares):
        full = enlarged(share, "bilinear")
        better = full > best
        best = torch.where(better, full, best)
        mask = torch.where(better, number, mask).to(torch.uint8)
    valid = enlarged(counts.float(), "nearest-exact") > 0
    mask[~valid] = UNLABELED_ID
    return mask.cpu().numpy(), best.cpu().numpy()
