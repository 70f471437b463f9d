"""Losses between what the student says about a frame and about its neighbour in time. They need no teacher.

A student that is trained frame by frame may answer differently on two frames that hardly differ. These losses teach it
to give the same answer. The neighbour is made from the frame itself, see `training.distillation.neighbour_view`, so
that every still image serves, with labels or without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from training.distillation.base import Comparison, DistillationTerm, TeacherPart, Weight
from training.distillation.lazy import functional, loss_math, neighbour_view

if TYPE_CHECKING:
    from torch import Tensor, nn

Change = Annotated[float, Field(ge=0.0, le=0.5)]


class TemporalConsistency(DistillationTerm):
    """Compares the student's class probabilities of a frame with those of a synthetic neighbouring frame.

    KL(p || softmax(s)), summed over classes, mean over the pixels of the neighbour that the frame shows, too. p are the
    student's probabilities of the frame, warped to the neighbour; they take no gradient. s are its logits of the
    neighbour. The student runs a second time in each step. It learns what is right from labels or teachers: alone, the
    term is least for a student that always says the same.

        - {kind: temporal_consistency, weight: 1.0}
    """

    kind: Literal["temporal_consistency"] = "temporal_consistency"
    """The student's own class probabilities of a frame and of a synthetic neighbour in time. Needs no teacher."""
    weight: Weight = 1.0
    """Weight in the sum of all terms."""
    zoom: Change = 0.05
    """Largest growth between the two frames, as a share of the size."""
    shift: Change = 0.02
    """Largest shift, as a share of width and height."""
    turn_degrees: Annotated[float, Field(ge=0.0, le=45.0)] = 1.0
    """Largest turn about the optical axis."""
    tilt: Change = 0.02
    """Largest growth of one edge against the opposite one, as a share of the size."""
    light: Change = 0.1
    """Largest change of the exposure, as a share."""
    noise: Annotated[float, Field(ge=0.0, le=64.0)] = 6.0
    """Largest standard deviation of the noise in the neighbour, in levels of 0..255."""

    def compare(self, seen: Comparison, adapter: nn.Module | None) -> Tensor:
        """Show the student the neighbours of the frames, and compare what it says."""
        del adapter
        assert seen.look_again is not None
        assert seen.student.segmentation_logits is not None
        view = neighbour_view.neighbours_of(seen.batch.images, self._change())
        logits = seen.look_again(view.images).segmentation_logits
        probabilities = seen.student.segmentation_logits.detach().float().softmax(dim=1)
        return self(logits, *view.warped(probabilities))

    def prepare(self, student: Tensor, teacher: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
        """Take the pixels that count out of logits and probabilities [N, C, H, W], by a mask, bool [N, H, W]."""
        student, teacher = loss_math.comparable(student, teacher, self.axes, self.may_differ)
        (counts,) = context
        return student.movedim(1, -1)[counts], teacher.movedim(1, -1)[counts]

    def compute(self, student: Tensor, teacher: Tensor, *context: Any, **options: Any) -> Tensor:
        """Return the loss of P pixels.

        Args:
            student: Logits of the neighbour, float32 [P, C].
            teacher: Probabilities of the frame, warped to the neighbour, float32 [P, C].
            context: Nothing.
            options: Nothing.
        """
        del context, options
        log_student = functional.log_softmax(student, dim=-1)
        terms = functional.kl_div(log_student, teacher, reduction="none").sum(dim=-1)
        return loss_math.mean(terms)

    @property
    def student_tasks(self) -> tuple[str, ...]:
        """See `DistillationTerm.student_tasks`."""
        return ("segmentation",)

    @property
    def teacher_part(self) -> TeacherPart:
        """See `DistillationTerm.teacher_part`."""
        return "nothing"

    def _change(self) -> Any:
        return neighbour_view.ViewChange(self.zoom, self.shift, self.turn_degrees, self.tilt, self.light, self.noise)
