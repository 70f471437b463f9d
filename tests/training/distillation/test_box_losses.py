"""The loss of boxes of any teachers: like labels, weighted by scores, silent where teachers are unsure."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from said_by_teachers import boxes
from torch import Tensor

from training.data.batch import Batch
from training.distillation.base import Comparison
from training.distillation.box_losses import PseudoBoxes
from training.losses import SupervisedLoss
from training.losses.assigner import Targets, assign
from training.networks.heads import DetectionOutputs
from training.networks.student import StudentFeatures, StudentOutputs
from training.teachers.taught import Taught, TaughtBoxes

HEIGHT, WIDTH, CLASSES = 64, 96, 3
CELLS = sum((HEIGHT // stride) * (WIDTH // stride) for stride in (8, 16, 32))
XYXY = [[[4.0, 4, 40, 40], [30, 10, 80, 60]], [[50, 20, 70, 44]]]
LABELS = [[0, 2], [1]]
ALL = torch.ones(CLASSES, dtype=torch.bool)


def branch(seed: int) -> DetectionOutputs:
    generator = torch.Generator().manual_seed(seed)

    def level(channels: int, stride: int) -> Tensor:
        return torch.randn(2, channels, HEIGHT // stride, WIDTH // stride, generator=generator).requires_grad_()

    strides = (8, 16, 32)
    return DetectionOutputs(tuple(level(CLASSES, s) for s in strides), tuple(level(4, s) for s in strides), strides)


def outputs() -> StudentOutputs:
    nothing = torch.zeros(2, 1, 1, 1)
    return StudentOutputs(torch.zeros(2, 2, 16, 24), branch(1), branch(2), StudentFeatures(*[nothing] * 4))


def batch(has_boxes: bool = False) -> Batch:
    images = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    return replace(Batch.of_images(images), has_boxes=torch.full((2,), has_boxes))


def said(score: float = 1.0, ignored: list[list[float]] | None = None, known: Tensor = ALL) -> Taught:
    objects = [boxes(xyxy, ids, score) for xyxy, ids in zip(XYXY, LABELS, strict=True)]
    doubtful = boxes(ignored or [], [-1] * len(ignored or []))
    return Taught(None, TaughtBoxes(objects, [doubtful, doubtful], known))


def class_gradient(value: Tensor, student: StudentOutputs) -> Tensor:
    """Return the gradient by the class logits of the one-to-one branch, [N, cells, classes]."""
    assert student.detection is not None
    found = torch.autograd.grad(value, student.detection.class_logits, allow_unused=True)
    levels = zip(found, student.detection.class_logits, strict=True)
    flat = [(torch.zeros_like(logits) if gradient is None else gradient).flatten(2) for gradient, logits in levels]
    return torch.cat(flat, dim=2).transpose(1, 2)


def test_sure_boxes_teach_like_labels() -> None:
    student = outputs()
    labels = replace(
        batch(True),
        boxes_xyxy=[torch.tensor(frame) for frame in XYXY],
        labels=[torch.tensor(frame) for frame in LABELS],
        box_weight=torch.ones(2),
    )
    hard = SupervisedLoss()(student, labels)
    expected = sum(value for name, value in hard.items() if not name.startswith("segmentation"))
    torch.testing.assert_close(PseudoBoxes().compare(Comparison(student, said(), batch()), None), expected)


def test_the_quality_of_an_object_is_multiplied_by_its_score() -> None:
    places, ids = [torch.tensor(frame) for frame in XYXY], [torch.tensor(frame) for frame in LABELS]
    detection = branch(1)
    scores, decoded = torch.full((2, CELLS, CLASSES), 0.5), torch.tensor([8.0, 8, 48, 48]).expand(2, CELLS, 4)
    sure = assign(Targets.pad(places, ids), scores, decoded, detection.cells(), 1)
    doubtful = Targets.pad(places, ids, [torch.tensor([0.5, 0.25]), torch.tensor([0.75])])
    found = assign(doubtful, scores, decoded, detection.cells(), 1)
    assert len(found.quality) == 3
    torch.testing.assert_close(found.quality, sure.quality * torch.tensor([0.5, 0.25, 0.75]))


def test_doubtful_regions_and_unknown_classes_get_no_gradient() -> None:
    student = outputs()
    known = torch.tensor([True, True, False])
    region = [0.0, 44, 96, 64]
    value = PseudoBoxes().compare(Comparison(student, said(ignored=[region], known=known), batch()), None)
    gradient = class_gradient(value, student)

    assert student.detection is not None
    inside = student.detection.cells()[:, 1] >= 44
    assert gradient[:, :, 2].abs().max() == 0
    assert gradient[1, inside].abs().max() == 0
    assert (gradient[1, ~inside][:, :2].abs() > 0).all()


@pytest.mark.parametrize("labeled_too", [False, True])
def test_classes_that_a_frame_is_labelled_with_are_left_to_the_labels(labeled_too: bool) -> None:
    student = outputs()
    labelled = replace(
        batch(), has_boxes=torch.tensor([True, False]), labeled_boxes=torch.tensor([[True, False, True]] * 2)
    )
    value = PseudoBoxes(labeled_too=labeled_too).compare(Comparison(student, said(), labelled), None)
    taught = class_gradient(value, student).abs().sum(dim=1) > 0
    assert taught.tolist() == [[labeled_too, True, labeled_too], [True, True, True]]
