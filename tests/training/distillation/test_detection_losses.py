"""Detection losses against loops in float64, and for frames, sizes and dtypes at which losses fail."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from distillation_terms import kinds_in, value_and_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.distillation.detection_losses import (
    ForegroundImitation,
    SoftClassification,
    WeightedBoxIou,
    teacher_foreground,
)

Loss = Callable[[Tensor, Tensor], Tensor]
FRAMES, CELLS, CLASSES = 2, 7, 3
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def draw(seed: int, shape: tuple[int, ...], scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_boxes(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(FRAMES, CELLS, 2, generator=generator)
    return torch.cat([corner, corner + 2 + 50 * torch.rand(FRAMES, CELLS, 2, generator=generator)], dim=2)


SCORES = torch.rand(FRAMES, CELLS, generator=torch.Generator().manual_seed(8))
FOREGROUND = torch.rand(FRAMES, 1, 3, 4, generator=torch.Generator().manual_seed(9)).square()
SHARPNESS = 1.5

soft_classification = SoftClassification(sharpness=SHARPNESS)
weighted_box_iou = WeightedBoxIou()
foreground_imitation = ForegroundImitation(at="p3")
LOSSES: dict[str, Loss] = {
    "soft_classification": soft_classification,
    "weighted_box_iou": lambda s, t: weighted_box_iou(s, t, SCORES.to(s.device)),
    "foreground_imitation": lambda s, t: foreground_imitation(s, t, FOREGROUND.to(s.device)),
}


def sides(name: str) -> tuple[Tensor, Tensor]:
    if name == "weighted_box_iou":
        return draw_boxes(1), draw_boxes(2)
    shape = (FRAMES, CELLS, CLASSES) if name == "soft_classification" else (FRAMES, 5, 3, 4)
    return draw(1, shape), draw(2, shape)


# The formulas again as loops over frames, cells and classes in float64. The weight of the classification loss depends
# on the student but takes no gradient; `at` is the student that this weight is computed from.


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def soft_classification_by_loop(student: np.ndarray, teacher: np.ndarray, at: np.ndarray) -> float:
    total, foreground = 0.0, 0.0
    for frame, cell in np.ndindex(*student.shape[:2]):
        scores = [sigmoid(logit) for logit in teacher[frame, cell]]
        foreground += max(scores)
        for score, logit, logit_at in zip(scores, student[frame, cell], at[frame, cell], strict=True):
            q = sigmoid(logit)
            weight = score + (1 - score) * abs(score - sigmoid(logit_at)) ** SHARPNESS
            total += weight * (score * math.log(score / q) + (1 - score) * math.log((1 - score) / (1 - q)))
    return total / max(foreground, 1.0)


def weighted_box_iou_by_loop(student: np.ndarray, teacher: np.ndarray, at: np.ndarray) -> float:
    total = 0.0
    for frame, cell in np.ndindex(*student.shape[:2]):
        a, b = student[frame, cell], teacher[frame, cell]
        intersection = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
        hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        total += float(SCORES[frame, cell]) * (1 - (intersection / union - (hull - union) / hull))
    return total / max(float(SCORES.double().sum()), 1.0)


def foreground_imitation_by_loop(student: np.ndarray, teacher: np.ndarray, at: np.ndarray) -> float:
    total, weight = 0.0, 0.0
    for frame, y, x in np.ndindex(len(student), *student.shape[2:]):
        share = float(FOREGROUND[frame, 0, y, x])
        total += share * float(np.mean((student[frame, :, y, x] - teacher[frame, :, y, x]) ** 2))
        weight += share
    return total / max(weight, 1.0)


BY_LOOP = {
    "soft_classification": soft_classification_by_loop,
    "weighted_box_iou": weighted_box_iou_by_loop,
    "foreground_imitation": foreground_imitation_by_loop,
}


def test_every_loss_of_the_file_has_a_loop() -> None:
    assert LOSSES.keys() == BY_LOOP.keys() == kinds_in("detection_losses")


def by_loop(name: str, student: Tensor, teacher: Tensor, at: Tensor | None = None) -> float:
    seen = student if at is None else at
    return BY_LOOP[name](*(side.detach().double().numpy() for side in (student, teacher, seen)))


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_slope_equal_the_loop(name: str) -> None:
    student, teacher = sides(name)
    value, gradient = value_and_gradient(LOSSES[name], student, teacher)
    assert float(value) == pytest.approx(by_loop(name, student, teacher), rel=1e-5)
    for seed in range(3):
        direction, step = draw(10 + seed, student.shape, scale=1.0).double(), 1e-5
        ahead = by_loop(name, student.double() + step * direction, teacher, student)
        behind = by_loop(name, student.double() - step * direction, teacher, student)
        slope = float((gradient.double() * direction).sum())
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**16), st.integers(0, 3), st.integers(1, 9), st.integers(1, 4), st.sampled_from([-6.0, 0.0, 3.0])
)
def test_classification_equals_the_loop_for_any_size(
    seed: int, frames: int, cells: int, classes: int, teacher_shift: float
) -> None:
    student, teacher = draw(seed, (frames, cells, classes)), draw(seed + 1, (frames, cells, classes)) + teacher_shift
    expected = by_loop("soft_classification", student, teacher)
    assert float(soft_classification(student, teacher)) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_student_and_teacher_cost_nothing(name: str) -> None:
    _, teacher = sides(name)
    value, gradient = value_and_gradient(LOSSES[name], teacher, teacher)
    assert float(value) == pytest.approx(0, abs=1e-6)
    if name != "weighted_box_iou":  # 1 - IoU is not differentiable there
        assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_neither_the_teacher_nor_its_weights_get_a_gradient(name: str) -> None:
    student, teacher = (side.requires_grad_() for side in sides(name))
    weights = [SCORES.clone().requires_grad_(), FOREGROUND.clone().requires_grad_()]
    loss = {
        "soft_classification": lambda: soft_classification(student, teacher),
        "weighted_box_iou": lambda: weighted_box_iou(student, teacher, weights[0]),
        "foreground_imitation": lambda: foreground_imitation(student, teacher, weights[1]),
    }[name]
    loss().backward()
    assert teacher.grad is None
    assert all(weight.grad is None for weight in weights)
    assert float(student.grad.abs().max()) > 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 1.0, 2.0]))
def test_every_score_moves_towards_the_teachers(seed: int, sharpness: float) -> None:
    """The weight scales the gradient but never changes its sign; with a gradient of its own it could."""
    shape = (FRAMES, CELLS, CLASSES)
    student, teacher = draw(seed, shape), draw(seed + 1, shape)
    _, gradient = value_and_gradient(SoftClassification(sharpness=sharpness), student, teacher)
    assert (gradient.sign() == (student - teacher).sign()).all()


def test_easy_background_hardly_counts_and_objects_of_the_teacher_do() -> None:
    teacher = torch.full((1, 2, 1), -9.0)
    teacher[0, 0] = 3.0
    student = torch.full((1, 2, 1), -4.0)  # misses the object by far, and has some doubt about the background
    _, sharp = value_and_gradient(SoftClassification(sharpness=2.0), student, teacher)
    _, plain = value_and_gradient(SoftClassification(sharpness=0.0), student, teacher)
    assert float(sharp[0, 0].abs()) > 0.9 * float(plain[0, 0].abs())
    assert float(sharp[0, 1].abs()) < 0.001 * float(plain[0, 1].abs())


@pytest.mark.parametrize("name", ["weighted_box_iou", "foreground_imitation"])
def test_cells_of_weight_0_change_neither_value_nor_gradient(name: str) -> None:
    student, teacher = sides(name)
    weights = (SCORES if name == "weighted_box_iou" else FOREGROUND).clone()
    weights[1] = 0.0
    loss = weighted_box_iou if name == "weighted_box_iou" else foreground_imitation
    value, gradient = value_and_gradient(lambda s, t: loss(s, t, weights), student, teacher)
    assert (gradient[1] == 0).all()
    alone = loss(student[:1], teacher[:1], weights[:1])
    torch.testing.assert_close(value, alone)
    value, gradient = value_and_gradient(lambda s, t: loss(s, t, 0 * weights), student, teacher)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", ["weighted_box_iou", "foreground_imitation"])
def test_small_weights_are_not_scaled_up(name: str) -> None:
    student, teacher = sides(name)
    weights = SCORES if name == "weighted_box_iou" else FOREGROUND
    loss = weighted_box_iou if name == "weighted_box_iou" else foreground_imitation
    faint = weights / weights.sum()
    torch.testing.assert_close(loss(student, teacher, 0.01 * faint), 0.01 * loss(student, teacher, faint))
    torch.testing.assert_close(loss(student, teacher, 5.0 * faint), loss(student, teacher, faint))


@pytest.mark.parametrize("shape", [(0, CELLS, CLASSES), (FRAMES, 0, CLASSES), (FRAMES, CELLS, 0)])
def test_no_cells_cost_nothing(shape: tuple[int, ...]) -> None:
    none = torch.zeros(shape)
    assert value_and_gradient(LOSSES["soft_classification"], none, none)[0] == 0
    boxes = torch.zeros(*shape[:2], 4)
    assert value_and_gradient(lambda s, t: weighted_box_iou(s, t, torch.zeros(shape[:2])), boxes, boxes)[0] == 0
    features = torch.zeros(0, 5, 3, 4)
    assert value_and_gradient(lambda s, t: foreground_imitation(s, t, features[:, :1]), features, features)[0] == 0


def test_boxes_of_zero_or_negative_area_give_a_finite_gradient() -> None:
    student, teacher = sides("weighted_box_iou")
    student[0, 0] = student[0, 0, [0, 1, 0, 1]]
    student[0, 1] = student[0, 1, [2, 3, 0, 1]]
    teacher[1, 0] = teacher[1, 0, [0, 1, 0, 1]]
    value, gradient = value_and_gradient(LOSSES["weighted_box_iou"], student, teacher)
    assert math.isfinite(float(value))
    assert torch.isfinite(gradient).all()


def test_the_foreground_is_the_highest_score_of_each_cell() -> None:
    logits = draw(4, (FRAMES, CLASSES, 3, 4))
    found = teacher_foreground(logits.half().requires_grad_())
    assert found.shape == (FRAMES, 1, 3, 4)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    for frame, y, x in np.ndindex(FRAMES, 3, 4):
        expected = max(sigmoid(float(logits[frame, label, y, x])) for label in range(CLASSES))
        assert float(found[frame, 0, y, x]) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_big_values_under_autocast(name: str, dtype: torch.dtype, device: str) -> None:
    """Areas of boxes and squares of features of 300 exceed float16; the scores of logits of 120 are 0 or 1."""
    pairs = [sides(name)]
    if name == "weighted_box_iou":
        pairs += [(10 * draw_boxes(3), 10 * draw_boxes(4))]
    else:
        signs = draw(4, pairs[0][0].shape).sign()
        pairs += [(120 * signs, -120 * signs), (120 * signs, 120 * signs), (300 * signs, -pairs[0][0])]
    for student, teacher in pairs:
        student_half, teacher_half = student.to(device, dtype), teacher.to(device, dtype)
        with torch.autocast(device, dtype=dtype):
            value, gradient = value_and_gradient(LOSSES[name], student_half, teacher_half)
        assert math.isfinite(float(value))
        assert torch.isfinite(gradient).all()
        exact = float(LOSSES[name](student_half.float(), teacher_half.float()))
        assert float(value) == pytest.approx(exact, rel=1e-6)
        assert float(value) == pytest.approx(float(LOSSES[name](student, teacher)), rel=0.05)


def test_shapes_that_differ_are_refused_in_one_sentence() -> None:
    student, teacher = sides("soft_classification")
    with pytest.raises(ValueError, match=r"got \[2, 7, 3\] and \[2, 7, 2\]: take both from the same frames and levels"):
        soft_classification(student, teacher[..., :2])
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        SoftClassification(sharpness=-1)
    with pytest.raises(ValueError, match=r"expected student and teacher \[N, A, 4\]"):
        weighted_box_iou(draw_boxes(1), draw_boxes(2)[:, :5], SCORES)
    with pytest.raises(ValueError, match=r"a score for each, got \[2, 7, 3\] and \[2, 7\]"):
        weighted_box_iou(student, teacher, SCORES)
    with pytest.raises(ValueError, match=r"a score for each, got \[2, 7, 4\] and \[2, 7, 3\]"):
        weighted_box_iou(draw_boxes(1), draw_boxes(2), student)
    student, teacher = sides("foreground_imitation")
    with pytest.raises(ValueError, match="project channels by a 1x1 adapter"):
        foreground_imitation(student, teacher[:, :4], FOREGROUND)
    with pytest.raises(ValueError, match=r"expected a foreground \[N, 1, H, W\] = \[2, 1, 3, 4\], .*got \[2, 3, 4\]"):
        foreground_imitation(student, teacher, FOREGROUND[:, 0])
