"""The teachers of a run: networks whose words a student learns from. They are never trained themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from training.data.batch import Batch
from training.distillation.base import DistillationTerm
from training.distillation.cache import OutputCache, arrays_of_frames
from training.distillation.frame_words import taught_of
from training.distillation.refused_sizes import refused_sizes
from training.errors import RecipeError
from training.networks.student import Student, StudentOutputs
from training.teachers.ensemble import Ensemble
from training.teachers.taught import Taught


class Teachers:
    """Takes what an ensemble said about whole frames from the batch, or asks it, or a cache of what it said of views.

    It is not an `nn.Module`: the methods of a training run that go through all modules (`train`, `parameters`,
    `state_dict`, the move to a device) must not find the networks.

    Attributes:
        ensemble: The teachers.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self._cache: OutputCache | None = None

    def keep_outputs_in(self, cache: OutputCache) -> None:
        """Ask the networks only about views that the cache does not hold."""
        self._cache = cache

    def __call__(self, batch: Batch) -> Taught:
        """Return what the teachers say about a batch, on the device of the batch."""
        if batch.taught is not None:
            return taught_of(batch.taught)
        if self._cache is None or "" in batch.views:
            return self.ensemble(batch.images)
        return self._cache.outputs(batch, self.ensemble)

    def cache_growth(self, views: int, pixels_per_view: int) -> tuple[Path, int] | None:
        """Return how much the cache grows if it gets the outputs of all views of a run.

        Args:
            views: Number of different views in the run.
            pixels_per_view: Pixels of a view.

        Returns:
            Folder of the cache and bytes to come; None without a cache.
        """
        if self._cache is None:
            return None
        side = 64  # the size of nearly every output is proportional to the number of pixels
        (arrays,) = arrays_of_frames(self.ensemble(torch.zeros(1, 3, side, side, dtype=torch.uint8)))
        bytes_per_pixel = sum(array.nbytes for array in arrays.values()) / side**2
        return self._cache.folder, round(max(0, views - len(self._cache)) * pixels_per_view * bytes_per_pixel)


def check_teachers(
    student: Student, teachers: Teachers, terms: Sequence[DistillationTerm], height: int, width: int
) -> tuple[StudentOutputs, StudentOutputs | None]:
    """Run student and teachers on a black frame, and refuse terms for which one of them lacks something.

    Args:
        student: Network to train.
        teachers: The teachers.
        terms: What the recipe compares.
        height: Height of the frames of the run in pixels.
        width: Width of the frames of the run in pixels.

    Returns:
        Outputs of the student, and of the teacher that is a network of ours; None if no term needs one.

    Raises:
        RecipeError: A term compares what student or teachers do not have, or a teacher does not look at such frames.
    """
    was_training = student.training
    with torch.no_grad():
        # In eval mode, so that the black frame does not change the running statistics of the student.
        of_student: StudentOutputs = student.eval()(torch.zeros(1, 3, 64, 64), with_one_to_many=True)
    student.train(was_training)
    teachers.ensemble.parts = frozenset(term.teacher_part for term in terms)
    images = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    with refused_sizes(images, "change the size of data.crop_height and data.crop_width"):
        taught = teachers.ensemble(images)
    for number, term in enumerate(terms):
        where = f"distillation.terms.{number}"
        _check_student(where, term, of_student)
        _check_taught(where, term, taught, teachers.ensemble)
    return of_student, taught.outputs


def _check_student(where: str, term: DistillationTerm, outputs: StudentOutputs) -> None:
    absent = [task for task in term.student_tasks if task not in outputs.tasks]
    if absent:
        raise RecipeError(
            f"{where}: expected a student with the task {absent[0]} for {term.kind}, it has only {outputs.tasks[0]}; "
            "leave the term out, or give the student that task"
        )


def _check_taught(where: str, term: DistillationTerm, taught: Taught, ensemble: Ensemble) -> None:
    if term.teacher_part == "pixels" and (taught.pixels is None or int(taught.pixels.known.sum()) < 2):
        raise RecipeError(
            f"{where}: expected a teacher of at least two classes of masks for {term.kind}, there is none; leave the "
            "term out, or add a teacher with the task segmentation"
        )
    if term.teacher_part == "boxes" and taught.boxes is None:
        raise RecipeError(
            f"{where}: expected a teacher of boxes for {term.kind}, there is none; leave the term out, or add a "
            "teacher with the task detection"
        )
    if term.teacher_part != "outputs":
        return
    if taught.outputs is None:
        raise RecipeError(
            f"{where}: {term.kind} compares features or detection branches, for which it needs a teacher of kind "
            "checkpoint that looks at whole frames; leave the term out, or add one. Other teachers teach by terms of "
            "class logits, and by pseudo_boxes"
        )
    absent = [task for task in term.teacher_tasks if task not in taught.outputs.tasks]
    if absent:
        raise RecipeError(
            f"{where}: expected a teacher with the task {absent[0]} for {term.kind}, it has only "
            f"{taught.outputs.tasks[0]}; leave the term out, or give the teacher that task"
        )
    own = ensemble.own
    if term.needs_own_boxes and own is not None and not own.has_boxes_of(ensemble.student):
        names = ", ".join(info.name for info in own.teacher.label_set.detection_classes)
        raise RecipeError(
            f"{where}: {term.kind} compares detection branches, for which a teacher needs the student's classes of "
            f"boxes, {own.where} has {names}; use pseudo_boxes, or train a teacher with the label set "
            f"{ensemble.student.name}"
        )
