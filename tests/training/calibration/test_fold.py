"""Test what goes into the weights: logits of pixels change as they should, and no decision about a pixel does."""

from __future__ import annotations

import pytest
import torch
from checkout import ROOT

from training.calibration.fold import folded
from training.checkpoint import load_student
from training.networks.student import Student, build_student

KEPT = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"


@pytest.fixture(scope="module")
def student() -> Student:
    return load_student(KEPT)[0].eval()


@torch.inference_mode()
def test_logits_of_pixels_are_divided_and_boxes_stay(student: Student) -> None:
    images = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    before, after = student(images), folded(student, 1.7)(images)

    torch.testing.assert_close(after.segmentation_logits, before.segmentation_logits / 1.7)
    assert torch.equal(after.segmentation_logits.argmax(1), before.segmentation_logits.argmax(1))
    for kind in ("class_logits", "distance_logits"):
        for old, new in zip(getattr(before.detection, kind), getattr(after.detection, kind), strict=True):
            assert torch.equal(old, new)


def test_the_given_student_stays_as_it_is(student: Student) -> None:
    before = {name: value.clone() for name, value in student.state_dict().items()}

    folded(student, 2.0)

    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@torch.inference_mode()
@pytest.mark.parametrize(("masks", "boxes"), [(5, 0), (0, 3)])
def test_students_of_one_task(masks: int, boxes: int) -> None:
    student, images = build_student("n", masks, boxes).eval(), torch.rand(1, 3, 64, 64)

    after = folded(student, 2.0)(images)

    before = student(images)
    if masks:
        torch.testing.assert_close(after.segmentation_logits, before.segmentation_logits / 2)
    else:
        torch.testing.assert_close(after.detection.class_logits[0], before.detection.class_logits[0])
