"""Losses between a student's detections and boxes of any teachers, which need no detection branches like ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from training.distillation.base import Comparison, DistillationTerm, TeacherPart, Weight
from training.distillation.lazy import assigner, detection, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.networks.heads import DetectionOutputs
    from training.teachers.taught import TaughtBoxes

CELLS_PER_OBJECT = 10  # in the one-to-many branch, as in the loss of the labels
BOX_WEIGHT = 2.0  # of the box loss relative to the class loss, as in the loss of the labels


class PseudoBoxes(DistillationTerm):
    """Teaches the fused boxes of the teachers like labels, in both branches.

    The loss of the labels, `training.losses.detection.detection_loss`, where the quality of an object is multiplied by
    the score of its box. Regions in which the teachers are unsure are neither objects nor background, and classes that
    no teacher knows get no gradient.

        - {kind: pseudo_boxes, labeled_too: true}
    """

    kind: Literal["pseudo_boxes"] = "pseudo_boxes"
    """Fused boxes of the teachers, like labels."""
    weight: Weight = 1.0
    """Weight in the sum of all terms."""
    labeled_too: bool = False
    """Teach also the classes whose boxes a frame's own labels have."""

    @property
    def student_tasks(self) -> tuple[str, ...]:
        """See `DistillationTerm.student_tasks`."""
        return ("detection",)

    @property
    def teacher_part(self) -> TeacherPart:
        """See `DistillationTerm.teacher_part`."""
        return "boxes"

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Compare both branches of the student with the fused boxes."""
        boxes, batch = seen.taught.boxes, seen.batch
        assert boxes is not None
        taught = boxes.known.expand(len(batch), -1)
        if not self.labeled_too:
            labeled = batch.has_boxes[:, None].expand_as(taught)
            taught = taught & ~(labeled if batch.labeled_boxes is None else labeled & batch.labeled_boxes)
        branches = ((seen.student.detection, 1), (seen.student.detection_one_to_many, CELLS_PER_OBJECT))
        losses = [self(branch, boxes, taught, cells) for branch, cells in branches if branch is not None]
        return torch.stack(losses).sum()

    def prepare(self, student: Any, teacher: Any, *context: Any) -> tuple[Any, ...]:
        """Return the arguments as they are: they are no tensors of one shape."""
        return student, teacher, *context

    def compute(self, student: Any, teacher: Any, *context: Any, **options: Any) -> Tensor:
        """See the class.

        Args:
            student: `DetectionOutputs` of a branch.
            teacher: `TaughtBoxes`.
            context: bool [N, K], which classes are taught in each frame; and the most cells of an object.
            options: None.
        """
        taught, cells_per_object = context
        return self._loss(student, teacher, taught, cells_per_object)

    def _loss(self, outputs: DetectionOutputs, boxes: TaughtBoxes, taught: Tensor, cells_per_object: int) -> Tensor:
        objects = [frame[known[frame.ids]] for frame, known in zip(boxes.objects, taught, strict=True)]
        targets = assigner.Targets.pad(
            [frame.xyxy for frame in objects], [frame.ids for frame in objects], [frame.scores for frame in objects]
        )
        ignored = [frame.xyxy for frame in boxes.ignored], [frame.ids for frame in boxes.ignored]
        teaches = detection.teaching_cells(outputs.cells(), taught, *ignored, outputs.flat_class_logits().shape)
        frame_weight = torch.ones(len(objects), device=taught.device)
        class_loss, box_loss = detection.detection_loss(outputs, targets, frame_weight, cells_per_object, teaches)
        return class_loss + BOX_WEIGHT * box_loss
