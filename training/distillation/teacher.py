"""The teacher: a trained network whose outputs a student learns from. It is never trained itself."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import digest_of_weights, load_student
from training.data.batch import Batch
from training.distillation.cache import OutputCache, to_arrays
from training.errors import CheckpointError
from training.label_sets.label_set import LabelSet
from training.networks.student import Student, StudentOutputs


class Teacher:
    """Runs a network without gradients and in eval mode.

    A teacher is not an `nn.Module`: the methods of a training run that go through all modules (`train`, `parameters`,
    `state_dict`, the move to a device) must not find it.

    Attributes:
        weights_sha256: SHA-256 of the network's weights, see `digest_of_weights`.
    """

    def __init__(self, network: Student) -> None:
        self._network = network.eval().requires_grad_(False)
        self._cache: OutputCache | None = None
        self.weights_sha256 = digest_of_weights(network)

    @classmethod
    def load(cls, checkpoint: Path | str, classes: LabelSet) -> Teacher:
        """Load the averaged weights of a checkpoint.

        Args:
            checkpoint: A checkpoint of `train`.
            classes: Label set of the student.

        Raises:
            CheckpointError: The file is not a checkpoint of `train`, or its network has other classes.
        """
        try:
            network, info = load_student(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f"distillation.teacher: {error}") from error
        for task, ours in classes.by_task.items():
            expected, found = ([one.name for one in each] for each in (ours, info.classes.by_task[task]))
            if expected != found:
                raise CheckpointError(
                    f"distillation.teacher: {checkpoint}: expected a network with the {task} classes "
                    f"{', '.join(expected)}, its own are {', '.join(found)}; train a teacher with the label set "
                    f"{classes.name}"
                )
        return cls(network)

    def keep_outputs_in(self, cache: OutputCache) -> None:
        """Run the network only for views that the cache does not hold."""
        self._cache = cache

    @torch.no_grad()
    def __call__(self, batch: Batch) -> StudentOutputs:
        """Return the outputs for a batch on the device of the batch, with both detection branches."""
        if self._cache is None or "" in batch.views:
            return self._run(batch.images)
        return self._cache.outputs(batch, self._run)

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
        side = 64  # the size of every output is proportional to the number of pixels
        with torch.no_grad():
            arrays = to_arrays(self._run(torch.zeros(1, 3, side, side, dtype=torch.uint8)))
        bytes_per_pixel = sum(array.nbytes for array in arrays.values()) / side**2
        return self._cache.folder, round(max(0, views - len(self._cache)) * pixels_per_view * bytes_per_pixel)

    def _run(self, images: Tensor) -> StudentOutputs:
        if next(self._network.parameters()).device != images.device:
            self._network.to(images.device)
        # Cheap, and other code may have put the network back into training mode.
        self._network.eval()
        outputs: StudentOutputs = self._network(images.float() / 255, with_one_to_many=True)
        return outputs


def check_teacher(student: Student, teacher: Teacher, name: str) -> tuple[StudentOutputs, StudentOutputs]:
    """Run both networks on a black frame and compare the shapes of their outputs, for the tasks that both have.

    Args:
        student: Network to train.
        teacher: Network to learn from.
        name: Name of the teacher's checkpoint, for the error.

    Returns:
        Outputs of student and teacher.

    Raises:
        CheckpointError: The outputs have different shapes.
    """
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    batch = Batch.of_images(images)
    was_training = student.training
    with torch.no_grad():
        # In eval mode, so that the black frame does not change the running statistics of the student.
        of_student = student.eval()(images.float() / 255, with_one_to_many=True)
    student.train(was_training)
    of_teacher = teacher(batch)
    ours_by_name, theirs_by_name = (_class_logits(outputs) for outputs in (of_student, of_teacher))
    for what in ours_by_name.keys() & theirs_by_name.keys():
        ours, theirs = ours_by_name[what], theirs_by_name[what]
        if ours.shape != theirs.shape:
            raise CheckpointError(
                f"{name}: expected a teacher whose {what} are {tuple(ours.shape)} for a frame of 64x64 as the "
                f"student's are, got {tuple(theirs.shape)}; train a teacher with the same classes and strides"
            )
    return of_student, of_teacher


def _class_logits(outputs: StudentOutputs) -> dict[str, Tensor]:
    found = {}
    if outputs.segmentation_logits is not None:
        found["segmentation logits"] = outputs.segmentation_logits
    if outputs.detection is not None:
        found["detection logits"] = outputs.detection.flat_class_logits()
    return found
