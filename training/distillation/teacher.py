"""The teacher: a trained network that is asked, never trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import digest_of_weights, load_student
from training.data.batch import Batch
from training.distillation.cache import OutputCache, to_arrays
from training.errors import CheckpointError
from training.networks.student import Student, StudentOutputs


class Teacher:
    """Asks a network without gradients and in eval mode.

    Not a module: what walks the modules of a training run (train(), parameters(), state_dict(), the move to a device)
    must not find it.

    Attributes:
        weights_sha256: of the weights that teach, in the order of their names.
    """

    def __init__(self, network: Student) -> None:
        self._network = network.eval().requires_grad_(False)
        self._cache: OutputCache | None = None
        self.weights_sha256 = digest_of_weights(network)

    @classmethod
    def load(cls, checkpoint: Path | str) -> Teacher:
        """The averaged weights of a checkpoint.

        Raises:
            CheckpointError: not such a file, or of another table of classes.
        """
        try:
            network, _ = load_student(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f"distillation.teacher: {error}") from error
        return cls(network)

    def keep_outputs_in(self, cache: OutputCache) -> None:
        """From now on ask about each view once only."""
        self._cache = cache

    @torch.no_grad()
    def __call__(self, batch: Batch) -> StudentOutputs:
        """What the teacher says of a batch, both detection branches included, on the batch's device."""
        if self._cache is None or "" in batch.views:
            return self._ask(batch.images)
        return self._cache.outputs(batch, self._ask)

    def cache_growth(self, views: int, pixels_per_view: int) -> tuple[Path, int] | None:
        """Folder and bytes that the outputs of so many views take beside those kept; None where none are kept."""
        if self._cache is None:
            return None
        side = 64  # all outputs grow with the pixels
        with torch.no_grad():
            said = to_arrays(self._ask(torch.zeros(1, 3, side, side, dtype=torch.uint8)))
        bytes_per_pixel = sum(array.nbytes for array in said.values()) / side**2
        return self._cache.folder, round(max(0, views - len(self._cache)) * pixels_per_view * bytes_per_pixel)

    def _ask(self, images: Tensor) -> StudentOutputs:
        if next(self._network.parameters()).device != images.device:
            self._network.to(images.device)
        # Something may have put it back into training mode together with its surroundings; asking is cheap.
        self._network.eval()
        outputs: StudentOutputs = self._network(images.float() / 255, with_one_to_many=True)
        return outputs


def check_teacher(student: Student, teacher: Teacher, name: str) -> tuple[StudentOutputs, StudentOutputs]:
    """What both say of an empty frame.

    Raises:
        CheckpointError: they cannot be compared; said before anything is trained.
    """
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    batch = Batch.of_images(images)
    was_training = student.training
    with torch.no_grad():
        # In eval mode, or the running statistics of the student would take in an empty frame.
        seen_by_student = student.eval()(images.float() / 255, with_one_to_many=True)
    student.train(was_training)
    seen_by_teacher = teacher(batch)
    pairs = {
        "segmentation logits": (seen_by_student.segmentation_logits, seen_by_teacher.segmentation_logits),
        "detection logits": (
            seen_by_student.detection.flat_class_logits(),
            seen_by_teacher.detection.flat_class_logits(),
        ),
    }
    for what, (ours, theirs) in pairs.items():
        if ours.shape != theirs.shape:
            raise CheckpointError(
                f"{name}: expected a teacher whose {what} are {tuple(ours.shape)} for a frame of 64x64 as the "
                f"student's are, got {tuple(theirs.shape)}; train a teacher with the same classes and strides"
            )
    return seen_by_student, seen_by_teacher
