"""Logit losses against loops in float64, and for pixels, sizes and dtypes at which losses fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from distillation_terms import kinds_in
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.data.batch import Batch
from training.distillation.base import Comparison
from training.distillation.logit_losses import DecoupledKl, Dist, LogitMse, LogitTerm, StandardizedKl, TemperatureKl
from training.networks.student import StudentFeatures, StudentOutputs
from training.teachers.taught import Taught, TaughtPixels

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
SHAPE = (2, 5, 3, 4)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def draw(seed: int, shape: tuple[int, ...] = SHAPE, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_mask(seed: int = 5) -> Tensor:
    return torch.rand(SHAPE[0], *SHAPE[2:], generator=torch.Generator().manual_seed(seed)) < 0.6


CLASSES, VOID = SHAPE[1], 255
LABELS = torch.randint(0, CLASSES + 1, (SHAPE[0], *SHAPE[2:]), generator=torch.Generator().manual_seed(6))
LABELS = torch.where(LABELS < CLASSES, LABELS, VOID)

TERMS: dict[str, LogitTerm] = {
    "temperature_kl": TemperatureKl(temperature=3.0),
    "logit_mse": LogitMse(),
    "dist": Dist(temperature=1.5, inter_weight=0.7, intra_weight=2.0),
    "standardized_kl": StandardizedKl(temperature=2.0),
    "decoupled_kl": DecoupledKl(target_weight=1.2, other_weight=0.4, temperature=2.0),
}


def masked(term: LogitTerm, labels: Tensor = LABELS) -> Loss:
    """Return a loss of the pixels in a mask; the others get void labels. Without a mask, all pixels count."""

    def loss(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        seen = labels.to(student.device)
        if mask is None:
            return term(student, teacher, seen)
        if isinstance(term, DecoupledKl):
            return term(student, teacher, torch.where(mask, seen, VOID))
        return term.model_copy(update={"labeled_only": True})(student, teacher, torch.where(mask, 0, VOID))

    return loss


LOSSES: dict[str, Loss] = {name: masked(term) for name, term in TERMS.items()}


# The formulas again as loops over lists of pixels in float64.


def softmax(logits: np.ndarray) -> np.ndarray:
    power = np.exp(logits - logits.max())
    return power / power.sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return sum(float(a * math.log(a / b)) for a, b in zip(p, q, strict=True))


def temperature_kl_by_loop(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    return 9 * float(np.mean([kl(softmax(t / 3), softmax(s / 3)) for s, t in zip(student, teacher, strict=True)]))


def logit_mse_by_loop(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([(a - b) ** 2 for a, b in zip(student.ravel(), teacher.ravel(), strict=True)]))


def dist_by_loop(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    p_student = np.stack([softmax(s / 1.5) for s in student])
    p_teacher = np.stack([softmax(t / 1.5) for t in teacher])
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p_student, p_teacher, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p_student.T, p_teacher.T, strict=True)])
    return float(1.5**2 * (0.7 * inter + 2.0 * intra))


def standardized_kl_by_loop(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    terms = []
    for s, t in zip(student, teacher, strict=True):
        z_s, z_t = (s - s.mean()) / s.std(), (t - t.mean()) / t.std()
        terms.append(kl(softmax(z_t / 2), softmax(z_s / 2)))
    return 4 * float(np.mean(terms))


def decoupled_kl_by_loop(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    terms = []
    for s, t, label in zip(student, teacher, labels, strict=True):
        if label >= len(s):
            continue
        p_s, p_t = softmax(s / 2), softmax(t / 2)
        target = kl(np.array([p_t[label], 1 - p_t[label]]), np.array([p_s[label], 1 - p_s[label]]))
        others_s, others_t = np.delete(p_s, label), np.delete(p_t, label)
        others = kl(others_t / others_t.sum(), others_s / others_s.sum())
        terms.append(1.2 * target + 0.4 * others)
    return 4 * float(np.mean(terms))


BY_LOOP = {
    "temperature_kl": temperature_kl_by_loop,
    "logit_mse": logit_mse_by_loop,
    "dist": dist_by_loop,
    "standardized_kl": standardized_kl_by_loop,
    "decoupled_kl": decoupled_kl_by_loop,
}


def test_every_loss_of_the_file_has_a_loop() -> None:
    assert LOSSES.keys() == BY_LOOP.keys() == kinds_in("logit_losses")


def by_loop(name: str, student: Tensor, teacher: Tensor, mask: Tensor | None) -> float:
    keep = torch.ones_like(LABELS, dtype=torch.bool) if mask is None else mask
    sides = [side.detach().double().permute(0, 2, 3, 1)[keep].numpy() for side in (student, teacher)]
    return BY_LOOP[name](*sides, LABELS[keep].numpy())


def value_and_gradient(loss: Loss, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    value = loss(student, teacher, mask)
    assert value.dtype == torch.float32
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_slope_equal_the_loop(name: str, masked: bool) -> None:
    student, teacher, mask = draw(1), draw(2), draw_mask() if masked else None
    value, gradient = value_and_gradient(LOSSES[name], student, teacher, mask)
    assert float(value) == pytest.approx(by_loop(name, student, teacher, mask), rel=1e-5)
    for seed in range(3):
        direction, step = draw(10 + seed, scale=1.0).double(), 1e-5
        ahead = by_loop(name, student.double() + step * direction, teacher, mask)
        behind = by_loop(name, student.double() - step * direction, teacher, mask)
        slope = float((gradient.double() * direction).sum())
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(LOSSES)), st.integers(0, 2**16), st.sampled_from([0.1, 1.0, 4.0]), st.floats(0.1, 1.0))
def test_value_equals_the_loop_for_any_logits(name: str, seed: int, scale: float, share: float) -> None:
    student, teacher = draw(seed, scale=scale), draw(seed + 1, scale=scale)
    mask = torch.rand(LABELS.shape, generator=torch.Generator().manual_seed(seed)) < share
    mask[0, 0, :3] = True
    if name == "decoupled_kl" and not (mask & (LABELS != VOID)).any():
        return
    expected = by_loop(name, student, teacher, mask)
    assert float(LOSSES[name](student, teacher, mask)) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_logits_have_zero_loss_and_gradient(name: str) -> None:
    value, gradient = value_and_gradient(LOSSES[name], draw(3), draw(3), None)
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_the_teacher_gets_no_gradient(name: str) -> None:
    student, teacher = draw(1).requires_grad_(), draw(2).requires_grad_()
    LOSSES[name](student, teacher, None).backward()
    assert teacher.grad is None
    assert float(student.grad.abs().max()) > 0


@pytest.mark.parametrize("name", LOSSES)
def test_masked_pixels_reach_neither_value_nor_gradient(name: str) -> None:
    student, teacher, mask = draw(1), draw(2), draw_mask()
    value, gradient = value_and_gradient(LOSSES[name], student, teacher, mask)
    hidden = ~mask[:, None].expand(SHAPE)
    broken_student, broken_teacher = student.masked_fill(hidden, math.nan), teacher.masked_fill(hidden, math.inf)
    broken_value, broken_gradient = value_and_gradient(LOSSES[name], broken_student, broken_teacher, mask)
    assert broken_value == value
    torch.testing.assert_close(broken_gradient, gradient)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_compare_costs_nothing(name: str) -> None:
    nothing = torch.zeros(LABELS.shape, dtype=torch.bool)
    value, gradient = value_and_gradient(LOSSES[name], draw(1), draw(2), nothing)
    assert value == 0
    assert (gradient == 0).all()
    no_frames = torch.zeros(0, *SHAPE[1:])
    assert value_and_gradient(masked(TERMS[name], LABELS[:0]), no_frames, no_frames, None)[0] == 0


def test_void_labels_are_left_out_and_all_void_costs_nothing() -> None:
    student, teacher = draw(1), draw(2)
    for void in (VOID, CLASSES, -1):
        labels = torch.where(LABELS == VOID, void, LABELS)
        loss = TERMS["decoupled_kl"](student, teacher, labels)
        assert float(loss) == pytest.approx(by_loop("decoupled_kl", student, teacher, None), rel=1e-5)
    assert TERMS["decoupled_kl"](student, teacher, LABELS.to(torch.uint8)) == loss
    all_void = torch.full_like(LABELS, VOID)
    value, gradient = value_and_gradient(masked(TERMS["decoupled_kl"], all_void), student, teacher, None)
    assert value == 0
    assert (gradient == 0).all()


def test_decoupled_kl_equals_kl_with_the_weights_of_the_teacher() -> None:
    """Equation 6 of the paper, pixel by pixel, because 1 - p of the teacher differs between pixels."""
    student, teacher = draw(1), draw(2)
    for row in range(SHAPE[2]):
        for column in range(SHAPE[3]):
            at = (slice(0, 1), slice(None), slice(row, row + 1), slice(column, column + 1))
            label = torch.tensor([[[2]]])
            other_weight = 1 - float((teacher[at] / 2).softmax(dim=1)[0, 2])
            decoupled = DecoupledKl(target_weight=1.0, other_weight=other_weight, temperature=2.0)
            plain = TemperatureKl(temperature=2.0)
            torch.testing.assert_close(
                decoupled(student[at], teacher[at], label), plain(student[at], teacher[at], label)
            )


def test_dist_ignores_positive_affine_changes_of_the_probabilities() -> None:
    """Probabilities p and a p + b, where b keeps the sum at one, have correlation 1 across the classes of a pixel."""
    probability = draw(1).softmax(dim=1)
    flattened = 0.3 * probability + 0.7 / CLASSES
    value = Dist()(flattened.log(), probability.log(), LABELS)
    assert float(value) == pytest.approx(0, abs=1e-5)
    assert float(Dist()(probability.log(), (1 - probability).log(), LABELS)) > 1


def test_dist_leaves_out_pixels_where_all_classes_of_the_teacher_are_equal() -> None:
    student, teacher = draw(1), draw(2)
    undecided = torch.zeros(LABELS.shape, dtype=torch.bool)
    undecided[:, 0] = True
    teacher = teacher.masked_fill(undecided[:, None], 0.5)
    only_inter = masked(Dist(inter_weight=1.0, intra_weight=0.0))
    torch.testing.assert_close(only_inter(student, teacher, None), only_inter(student, teacher, ~undecided))
    value, gradient = value_and_gradient(masked(Dist()), student, torch.zeros(SHAPE), None)
    assert value == 0
    assert (gradient == 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.2, 20.0), st.floats(-30.0, 30.0))
def test_standardized_kl_ignores_positive_affine_changes_of_the_logits(seed: int, scale: float, shift: float) -> None:
    student, teacher = draw(seed), draw(seed + 1)
    term = TERMS["standardized_kl"]
    plain = term(student, teacher, LABELS)
    torch.testing.assert_close(term(scale * student + shift, teacher, LABELS), plain, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(term(student, scale * teacher + shift, LABELS), plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["temperature_kl", "decoupled_kl"])
def test_temperature_keeps_the_size_of_gradients(name: str) -> None:
    """At high T the gradient tends to (s - t) / C of centred logits, independent of T (Hinton et al., eq. 4)."""
    student, teacher = draw(1), draw(2)
    at: dict[str, Callable[[float], Loss]] = {
        "temperature_kl": lambda temperature: masked(TemperatureKl(temperature=temperature)),
        "decoupled_kl": lambda temperature: masked(DecoupledKl(other_weight=1.0, temperature=temperature)),
    }
    sizes = [float(value_and_gradient(at[name](high), student, teacher, None)[1].norm()) for high in (20.0, 80.0)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
    if name == "temperature_kl":
        centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
        assert sizes[1] == pytest.approx(float(centred.norm()) / CLASSES / LABELS.numel(), rel=0.1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_big_logits_under_autocast(name: str, dtype: torch.dtype, device: str) -> None:
    signs = draw(4).sign()
    for student, teacher in [(120 * signs, 120 * draw(7).sign()), (draw(1), draw(2)), (120 * signs, -120 * signs)]:
        student_half, teacher_half = student.to(device, dtype), teacher.to(device, dtype)
        with torch.autocast(device, dtype=dtype):
            value, gradient = value_and_gradient(LOSSES[name], student_half, teacher_half, None)
        exact, _ = value_and_gradient(LOSSES[name], student_half.float(), teacher_half.float(), None)
        assert math.isfinite(float(value))
        assert torch.isfinite(gradient).all()
        assert float(value) == pytest.approx(float(exact), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_student_of_equal_logits_gets_a_finite_gradient(name: str) -> None:
    value, gradient = value_and_gradient(LOSSES[name], torch.zeros(SHAPE), draw(2), None)
    assert math.isfinite(float(value))
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) < 1e3


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_differ_are_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected student and teacher \[N, C, H, W\].*got \[2, 5, 3, 4\] and \[2, 5, 6, 4\]"
    ):
        LOSSES[name](draw(1), draw(2, (2, 5, 6, 4)), None)
    with pytest.raises(ValueError, match="project channels by a 1x1 adapter"):
        LOSSES[name](draw(1), draw(2, (2, 7, 3, 4)), None)
    with pytest.raises(ValueError, match=r"expected labels \[N, H, W\] = \[2, 3, 4\].*, got \[2, 6, 8\]"):
        TERMS[name](draw(1), draw(2), torch.zeros(2, 6, 8, dtype=torch.int64))


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    student, teacher = draw(1), draw(2)
    for term in (TemperatureKl, Dist, StandardizedKl, DecoupledKl):
        for temperature in (0, -1):
            with pytest.raises(ValueError, match=rf"temperature\n.*or equal to 0\.05 .*input_value={temperature}"):
                term(temperature=temperature)
    with pytest.raises(ValueError, match=r"expected labels \[N, H, W\] = \[2, 3, 4\]"):
        TERMS["decoupled_kl"](student, teacher, LABELS[:, :2])
    with pytest.raises(ValueError, match="expected at least two classes"):
        TERMS["decoupled_kl"](student[:, :1], teacher[:, :1], LABELS)


def test_pixels_where_no_teacher_speaks_and_classes_that_none_knows_do_not_count() -> None:
    generator = torch.Generator().manual_seed(7)
    student, teacher = (torch.randn(1, 4, 2, 2, generator=generator) for _ in range(2))
    student.requires_grad_()
    masks = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    masks[:, :4] = 3
    batch = replace(Batch.of_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), masks=masks)
    known, counts = torch.tensor([True, False, True, True]), torch.tensor([[[True, False], [True, True]]])
    taught = Taught(TaughtPixels(teacher, counts, known), None)
    outputs = StudentOutputs(student, None, None, StudentFeatures(*[torch.zeros(1, 1, 1, 1)] * 4))

    for term, cells in ((TemperatureKl(), [(0, 0), (1, 0), (1, 1)]), (DecoupledKl(), [(0, 0)])):
        value = term.compare(Comparison(outputs, taught, batch), None)
        ours, theirs = (
            torch.stack([logits[0, known, row, column] for row, column in cells]) for logits in (student, teacher)
        )
        expected = term.compute(ours, theirs, torch.full((len(cells),), 2))  # the label is the third known class
        torch.testing.assert_close(value, expected)
        (gradient,) = torch.autograd.grad(value, student)
        assert gradient[:, 1].abs().max() == gradient[:, :, 0, 1].abs().max() == 0
