"""Feature losses against loops in float64, and for sizes and dtypes at which losses fail."""

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

from training.distillation.feature_losses import AttentionTransfer, ChannelWise, Hint, Pearson

Loss = Callable[[Tensor, Tensor], Tensor]
SHAPE = (2, 5, 3, 4)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

LOSSES: dict[str, Loss] = {
    "hint": Hint(at="p3"),
    "attention_transfer": AttentionTransfer(at="p3"),
    "channel_wise": ChannelWise(at="p3", temperature=2.5),
    "pearson": Pearson(at="p3"),
}


def draw(seed: int, shape: tuple[int, ...] = SHAPE, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.3


# The formulas again as loops over frames, channels and positions in float64.


def hint_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    return sum((a - b) ** 2 for a, b in zip(student.ravel(), teacher.ravel(), strict=True)) / student.size


def attention_transfer_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    terms = []
    for frame in range(len(student)):
        maps = []
        for features in (student[frame], teacher[frame]):
            rows, columns = features.shape[1:]
            powers = [np.mean(features[:, y, x] ** 2) for y in range(rows) for x in range(columns)]
            maps.append(np.array(powers) / math.sqrt(sum(power**2 for power in powers)))
        terms.append(sum((maps[0] - maps[1]) ** 2))
    return float(np.mean(terms))


def channel_wise_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    frames, channels = student.shape[:2]
    total = 0.0
    for frame in range(frames):
        for channel in range(channels):
            p, q = (np.exp(side[frame, channel].ravel() / 2.5) for side in (teacher, student))
            p, q = p / p.sum(), q / q.sum()
            total += 2.5**2 / channels * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / frames


def pearson_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    """Compute the other form of the paper: half the squared difference of standardised features."""
    terms = []
    for channel in range(student.shape[1]):
        s, t = student[:, channel].ravel(), teacher[:, channel].ravel()
        terms.append(np.mean(((s - s.mean()) / s.std() - (t - t.mean()) / t.std()) ** 2) / 2)
    return float(np.mean(terms))


BY_LOOP = {
    "hint": hint_by_loop,
    "attention_transfer": attention_transfer_by_loop,
    "channel_wise": channel_wise_by_loop,
    "pearson": pearson_by_loop,
}


def test_every_loss_of_the_file_has_a_loop() -> None:
    assert LOSSES.keys() == BY_LOOP.keys() == kinds_in("feature_losses")


def by_loop(name: str, student: Tensor, teacher: Tensor) -> float:
    return BY_LOOP[name](student.detach().double().numpy(), teacher.detach().double().numpy())


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_slope_equal_the_loop(name: str) -> None:
    student, teacher = draw(1), draw(2)
    value, gradient = value_and_gradient(LOSSES[name], student, teacher)
    assert float(value) == pytest.approx(by_loop(name, student, teacher), rel=1e-5)
    for seed in range(3):
        direction, step = draw(10 + seed, scale=1.0).double(), 1e-5
        ahead = by_loop(name, student.double() + step * direction, teacher)
        behind = by_loop(name, student.double() - step * direction, teacher)
        slope = float((gradient.double() * direction).sum())
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.integers(0, 2**16),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 5), st.integers(2, 5)),
)
def test_value_equals_the_loop_for_any_size(name: str, seed: int, scale: float, shape: tuple[int, ...]) -> None:
    student, teacher = draw(seed, shape, scale), draw(seed + 1, shape, scale)
    expected = by_loop(name, student, teacher)
    assert float(LOSSES[name](student, teacher)) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_attention_transfer_accepts_a_student_with_fewer_channels() -> None:
    student, teacher = draw(1, (2, 3, 3, 4)), draw(2, (2, 8, 3, 4))
    assert float(LOSSES["attention_transfer"](student, teacher)) == pytest.approx(
        by_loop("attention_transfer", student, teacher), rel=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_equal_features_have_zero_loss_and_gradient(name: str) -> None:
    value, gradient = value_and_gradient(LOSSES[name], draw(3), draw(3))
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_the_teacher_gets_no_gradient(name: str) -> None:
    student, teacher = draw(1).requires_grad_(), draw(2).requires_grad_()
    LOSSES[name](student, teacher).backward()
    assert teacher.grad is None
    assert float(student.grad.abs().max()) > 0


def per_channel(seed: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(1, SHAPE[1], 1, 1, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16))
def test_pearson_ignores_positive_affine_changes_of_each_channel(seed: int) -> None:
    student, teacher = draw(seed), draw(seed + 1)
    scale, shift = per_channel(seed, 0.2, 20.0), per_channel(seed + 1, -30.0, 30.0)
    pearson = LOSSES["pearson"]
    plain = pearson(student, teacher)
    torch.testing.assert_close(pearson(scale * student + shift, teacher), plain, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(pearson(student, scale * teacher + shift), plain, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(pearson(-student, teacher), 2 - plain)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 20.0))
def test_attention_ignores_scale_and_channel_wise_ignores_shifts(seed: int, scale: float) -> None:
    student, teacher = draw(seed), draw(seed + 1)
    attention_transfer, channel_wise = LOSSES["attention_transfer"], LOSSES["channel_wise"]
    attention = attention_transfer(student, teacher)
    torch.testing.assert_close(attention_transfer(-scale * student, teacher), attention, rtol=1e-4, atol=1e-6)
    shift = per_channel(seed, -5.0, 5.0)
    torch.testing.assert_close(
        channel_wise(student + shift, teacher), channel_wise(student, teacher), rtol=1e-4, atol=1e-5
    )


def test_channel_wise_keeps_the_size_of_gradients_as_the_temperature_rises() -> None:
    sizes = [
        float(value_and_gradient(ChannelWise(at="p3", temperature=high), draw(1), draw(2))[1].norm())
        for high in (20.0, 80.0)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_pearson_leaves_out_channels_that_are_constant_in_the_teacher() -> None:
    student, teacher = draw(1), draw(2)
    teacher[:, [1, 3]] = 7.0
    heard, pearson = [0, 2, 4], LOSSES["pearson"]
    value, gradient = value_and_gradient(pearson, student, teacher)
    torch.testing.assert_close(value, pearson(student[:, heard], teacher[:, heard]))
    assert (gradient[:, [1, 3]] == 0).all()
    value, gradient = value_and_gradient(pearson, student, torch.full(SHAPE, 7.0))
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_constant_features_give_a_finite_gradient(name: str) -> None:
    for student, teacher in [(torch.zeros(SHAPE), draw(2)), (draw(1), torch.zeros(SHAPE))]:
        value, gradient = value_and_gradient(LOSSES[name], student, teacher)
        assert math.isfinite(float(value))
        assert torch.isfinite(gradient).all()
        assert float(gradient.abs().max()) < 1e4


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_frames_costs_nothing(name: str) -> None:
    none = torch.zeros(0, *SHAPE[1:])
    value, gradient = value_and_gradient(LOSSES[name], none, none)
    assert value == 0
    assert gradient.shape == none.shape


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_big_features_under_autocast(name: str, dtype: torch.dtype, device: str) -> None:
    """300^2 exceeds float16: a square before the conversion to float32 would be infinite."""
    for scale in (1.0, 120.0, 300.0):
        student, teacher = draw(1, scale=scale).to(device, dtype), draw(2, scale=scale).to(device, dtype)
        with torch.autocast(device, dtype=dtype):
            value, gradient = value_and_gradient(LOSSES[name], student, teacher)
        assert torch.isfinite(gradient).all()
        assert float(value) == pytest.approx(float(LOSSES[name](student.float(), teacher.float())), rel=1e-5)
        assert float(value) == pytest.approx(float(LOSSES[name](draw(1, scale=scale), draw(2, scale=scale))), rel=0.03)


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_differ_are_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"got \[2, 5, 3, 4\] and \[2, 5, 6, 8\]: project .* and resize first"):
        LOSSES[name](draw(1), draw(2, (2, 5, 6, 8)))
    if name != "attention_transfer":
        with pytest.raises(ValueError, match="project channels by a 1x1 adapter"):
            LOSSES[name](draw(1), draw(2, (2, 7, 3, 4)))
    with pytest.raises(ValueError, match=r"expected student and teacher \[N, C, H, W\]"):
        LOSSES[name](draw(1)[0], draw(2)[0])


def test_channel_wise_refuses_a_temperature_of_zero() -> None:
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.05"):
        ChannelWise(at="p3", temperature=0)
