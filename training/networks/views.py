"""What a network sees of a frame: the frame as it is, and, if asked for, the frame at half its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from training.networks.heads import DetectionOutputs, cell_centres
from training.networks.strides import DETECTION_STRIDES
from training.networks.student import Student, StudentOutputs


def run_views(student: Student, images: Tensor, half_view: bool = False) -> StudentOutputs:
    """Run the network on images, and for boxes once more at half their size.

    A network knows the sizes of objects that taught it. In an input that is larger than those of its training, near
    objects are larger than all of these; at half its size they are not. The masks are those of the whole size.

    Args:
        student: The network.
        images: As for `Student.forward`. With `half_view`, H and W are multiples of 64.
        half_view: Whether the network looks twice.

    Returns:
        The outputs. With `half_view`, `detection` has the levels of both views, each with its stride in pixels of
        `images`, so that an object may be found twice.
    """
    outputs: StudentOutputs = student(images)
    if not half_view or outputs.detection is None:
        return outputs
    half: StudentOutputs = student(functional.avg_pool2d(images, kernel_size=2))
    assert half.detection is not None
    return replace(outputs, detection=_joined(outputs.detection, half.detection))


def cells_of_views(height: int, width: int, half_view: bool = False) -> Tensor:
    """Return centre x, centre y and stride of all cells of `run_views` in input pixels, float32 [cells, 3]."""
    strides = _strides(half_view)
    return cell_centres([(height // stride, width // stride) for stride in strides], strides)


def _strides(half_view: bool) -> tuple[int, ...]:
    """Return the strides of the levels of `run_views` in input pixels, in their order."""
    return (*DETECTION_STRIDES, *_doubled(DETECTION_STRIDES)) if half_view else DETECTION_STRIDES


def _joined(whole: DetectionOutputs, half: DetectionOutputs) -> DetectionOutputs:
    return DetectionOutputs(
        class_logits=whole.class_logits + half.class_logits,
        distance_logits=whole.distance_logits + half.distance_logits,
        strides=(*whole.strides, *_doubled(half.strides)),
    )


def _doubled(strides: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 * stride for stride in strides)
