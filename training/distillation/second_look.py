"""Shows a student more images than those of the batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from training.networks.student import Student, StudentOutputs


class SecondLook:
    """Runs a student on images, and keeps its running statistics as they are.

    The statistics that an exported student normalises by must be those of frames as the vehicle sees them, not of
    frames that were moved, resampled and made noisy. It is not an `nn.Module`, so that the student does not become a
    part of the loss.
    """

    def __init__(self, student: Student) -> None:
        self._student = student

    def __call__(self, images: Tensor) -> StudentOutputs:
        """Return the outputs for images, float [N, 3, H, W], BGR, 0..1, without the one-to-many branch."""
        norms = [module for module in self._student.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        try:
            for norm in norms:
                norm.momentum = 0.0
            outputs: StudentOutputs = self._student(images, with_one_to_many=False)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
        return outputs
