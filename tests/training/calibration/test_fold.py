"""Test what goes into the weights: logits change as they should, and no decision about a pixel does."""

from __future__ import annotations

import pytest
import torch
from checkout import ROOT

from training.calibration.boxes import ScoreScale
from training.calibration.fold import folded
from training.checkpoint import load_student
from training.networks.student import Student, build_student

KEPT = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"
SCALES = {0: ScoreScale(1.6, 0.5), 2: ScoreScale(0.7, -1.0)}


@pytest.fixture(scope="module")
def student() -> Student:
    return load_student(KEPT)[0].eval()


@torch.inference_mode()
def test_logits_are_scaled_class_by_class_and_boxes_stay(student: Student) -> None:
    images = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    before, after = student(images), folded(student, 1.7, SCALES)(images)

    torch.testing.assert_close(after.segmentation_logits, before.segmentation_logits / 1.7)
    assert torch.equal(after.segmentation_logits.argmax(1), before.segmentation_logits.argmax(1))
    for old, new in zip(before.detection.class_logits, after.detection.class_logits, strict=True):
        for label in range(old.shape[1]):
            scale = SCALES.get(label, ScoreScale())
            torch.testing.assert_close(new[:, label], scale.scale * old[:, label] + scale.shift, atol=1e-4, rtol=1e-4)
    for old, new in zip(before.detection.distance_logits, after.detection.distance_logits, strict=True):
        assert torch.equal(old, new)


def test_the_given_student_stays_as_it_is(student: Student) -> None:
    before = {name: value.clone() for name, value in student.state_dict().items()}

    folded(student, 2.0, SCALES)

    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@torch.inference_mode()
@pytest.mark.parametrize(("masks", "boxes"), [(5, 0), (0, 3)])
def test_students_of_one_task(masks: int, boxes: int) -> None:
    student, images = build_student("n", masks, boxes).eval(), torch.rand(1, 3, 64, 64)

    after = folded(student, 2.0, {1: ScoreScale(2.0, 1.0)} if boxes else {})(images)

    before = student(images)
    if masks:
        torch.testing.assert_close(after.segmentation_logits, before.segmentation_logits / 2)
    else:
        torch.testing.assert_close(
            after.detection.class_logits[0][:, 1], 2 * before.detection.class_logits[0][:, 1] + 1
        )
