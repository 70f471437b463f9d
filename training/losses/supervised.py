"""The loss of supervised training: segmentation and detection against labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.config.licence import Licences
from training.data.batch import Batch
from training.losses.assigner import Targets
from training.losses.detection import detection_loss, teaching_cells
from training.losses.segmentation import (
    count_labels,
    segmentation_cross_entropy,
    soft_jaccard,
    without_unlabeled_classes,
)
from training.networks.heads import DetectionOutputs
from training.networks.strides import SEGMENTATION_STRIDE
from training.networks.student import StudentOutputs

CELLS_PER_OBJECT = 10  # in the one-to-many branch, as in TOOD
BOX_WEIGHT = 2.0  # of the box loss relative to the class loss, as in Generalized Focal Loss
REGION_WEIGHT = 0.5  # of the soft IoU relative to the cross-entropy


class SupervisedLoss(nn.Module):
    """Computes weighted terms by name; training minimises their sum.

    The terms are `segmentation` (cross-entropy) and `segmentation_region` (soft IoU), `detection_class` and
    `detection_box` of the one-to-one branch, and, if the outputs have a one-to-many branch, `one_to_many_class` and
    `one_to_many_box`. Those of a task that the student does not have are absent.

    Attributes:
        teacher_sha256, licences: Always empty, because this loss has no teacher.
    """

    teacher_sha256 = ""

    def __init__(self, segmentation: float = 1.0, detection: float = 1.0, class_weights: Sequence[float] = ()) -> None:
        """Set the weights.

        Args:
            segmentation: Weight of the segmentation.
            detection: Weight of the detection.
            class_weights: Weight of each segmentation class; empty for equal weights.
        """
        super().__init__()
        self.licences: Licences = {}
        self.segmentation_weight = segmentation
        self.detection_weight = detection
        self.register_buffer("class_weights", torch.tensor(class_weights, dtype=torch.float32), persistent=False)
        self.class_weights: Tensor

    def forward(self, outputs: StudentOutputs, batch: Batch, epoch: int = 0) -> dict[str, Tensor]:
        """Return all terms by name, float32 scalars; they do not depend on the epoch.

        Raises:
            ValueError: The number of class weights differs from the number of segmentation classes.
        """
        del epoch
        # Losses need float32, also inside an autocast region.
        with torch.autocast(device_type=batch.images.device.type, enabled=False):
            terms: dict[str, Tensor] = {}
            if outputs.segmentation_logits is not None:
                logits = without_unlabeled_classes(outputs.segmentation_logits, batch.labeled_pixels)
                terms |= self._segmentation(logits, batch)
            if outputs.detection is not None:
                terms |= self._detection("detection", outputs.detection, batch, 1)
            if outputs.detection_one_to_many is not None:
                terms |= self._detection("one_to_many", outputs.detection_one_to_many, batch, CELLS_PER_OBJECT)
        return terms

    def _segmentation(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        classes = logits.shape[1]
        weights = self.class_weights if len(self.class_weights) else logits.new_ones(classes, dtype=torch.float32)
        if len(weights) != classes:
            raise ValueError(f"expected {classes} class weights, one for each class, got {len(weights)}")
        counts = count_labels(batch.masks, classes, SEGMENTATION_STRIDE, batch.confidence)
        return {
            "segmentation": self.segmentation_weight * segmentation_cross_entropy(logits, counts, weights),
            "segmentation_region": self.segmentation_weight * REGION_WEIGHT * soft_jaccard(logits, counts),
        }

    def _detection(
        self, name: str, outputs: DetectionOutputs, batch: Batch, cells_per_object: int
    ) -> dict[str, Tensor]:
        targets = Targets.pad(batch.boxes_xyxy, batch.labels)
        frame_weight = batch.box_weight.float() * batch.has_boxes.float()
        shape = outputs.flat_class_logits().shape
        teaches = teaching_cells(outputs.cells(), batch.labeled_boxes, batch.ignored_xyxy, batch.ignored_labels, shape)
        class_loss, box_loss = detection_loss(outputs, targets, frame_weight, cells_per_object, teaches)
        return {
            f"{name}_class": self.detection_weight * class_loss,
            f"{name}_box": self.detection_weight * BOX_WEIGHT * box_loss,
        }
