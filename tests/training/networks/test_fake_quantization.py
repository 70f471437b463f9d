"""Fake quantisation: values, and gradients as the papers define them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.errors import RecipeError
from training.networks.fake_quantization import (
    ActivationQuantiser,
    FakeQuantization,
    IntegerType,
    fake_quantised_kernel,
)

UNSIGNED = IntegerType(0, 255, symmetric=False)
SIGNED = IntegerType(-128, 127, symmetric=True)


def quantiser_for(integers: IntegerType, values: torch.Tensor, largest: float = math.inf) -> ActivationQuantiser:
    quantiser = ActivationQuantiser(integers, learned=True, largest=largest)
    quantiser.observe()
    quantiser(values)
    quantiser.calibrate()
    return quantiser


@given(
    st.floats(-100, 100, width=32), st.floats(-100, 100, width=32), st.sampled_from([UNSIGNED, SIGNED]), st.integers(0)
)
def test_the_rounded_values_are_those_of_onnx(low: float, high: float, integers: IntegerType, seed: int) -> None:
    low, high = sorted((low + 0.0, high + 0.0))  # NumPy refuses a range from 0.0 to -0.0
    values = np.random.default_rng(seed).uniform(low, high, 64).astype(np.float32)
    scale, zero_point = integers.scale_and_zero_point(float(values.min()), float(values.max()))
    quantiser = quantiser_for(integers, torch.from_numpy(values))
    scale = float(quantiser.scale().detach())
    with torch.no_grad():
        found = quantiser(torch.from_numpy(values)).numpy()

    # QuantizeLinear and DequantizeLinear of the ONNX standard, in float32.
    integer = np.clip(np.rint(values / np.float32(scale)) + zero_point, integers.lowest, integers.highest)
    assert int(quantiser.zero_point) == zero_point
    np.testing.assert_array_equal(found, (integer - zero_point).astype(np.float32) * np.float32(scale))
    assert np.abs(found - values).max() <= scale * 1.001


def test_gradients_are_those_of_the_learned_step_size() -> None:
    # Esser et al., 2020, equations 3 and 5, value by value.
    values = torch.tensor([-9.0, -2.6, -0.2, 0.0, 0.7, 1.3, 3.9, 8.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    lowest, highest, gradient_scale = torch.tensor(-4.0), torch.tensor(7.0), 0.25
    weights = torch.arange(1.0, 9.0, dtype=torch.float64)
    (FakeQuantization.apply(values, scale, lowest, highest, gradient_scale) * weights).sum().backward()

    of_values, of_scale = [], 0.0
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        v = value / 0.5
        if v <= -4.0:
            step = -4.0
        elif v >= 7.0:
            step = 7.0
        else:
            step = -v + round(v)
        of_values.append(weight if -4.0 < v < 7.0 else 0.0)
        of_scale += weight * step
    assert values.grad is not None
    assert scale.grad is not None
    assert values.grad.tolist() == of_values
    assert float(scale.grad) == pytest.approx(0.25 * of_scale)


def test_the_scale_learns_with_the_gradient_scale_of_the_paper() -> None:
    torch.manual_seed(0)
    values = torch.rand(3, 4, 5, 6) * 3
    quantiser = quantiser_for(UNSIGNED, values / 2)  # half of the values are cut off
    quantiser(values).sum().backward()

    scale = quantiser.scale().detach()
    v = values / scale
    step = torch.where(v > 255, torch.tensor(255.0), v.round() - v).sum()
    expected = step * scale / math.sqrt(4 * 5 * 6 * 255)  # the parameter is the logarithm of the scale
    assert quantiser.log_scale.grad is not None
    torch.testing.assert_close(quantiser.log_scale.grad, expected)


def test_straight_through_has_no_gradient_to_the_range() -> None:
    quantiser = ActivationQuantiser(UNSIGNED, learned=False)
    values = torch.tensor([[-1.0, 0.4, 300.0]], requires_grad=True)
    quantiser(values).sum().backward()
    assert quantiser.log_scale.grad is None
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 1.0, 0.0]]


def test_every_channel_of_a_kernel_has_its_scale_and_passes_its_gradient() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4, 3, 3, 3) * torch.tensor([0.01, 1.0, 50.0, 0.0]).view(4, 1, 1, 1)
    kernel.requires_grad_(True)
    rounded = fake_quantised_kernel(kernel)
    scale = kernel.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    error = (rounded - kernel).detach().abs()
    assert bool((error <= scale * 0.5001).all())
    integers = (rounded.detach() / scale.clamp(min=1e-9)).abs()
    torch.testing.assert_close(integers, integers.round(), atol=1e-3, rtol=0)
    rounded.sum().backward()
    assert kernel.grad is not None
    assert bool((kernel.grad == 1).all())


def test_a_range_ends_at_the_largest_value_and_can_shrink_from_there() -> None:
    quantiser = quantiser_for(UNSIGNED, torch.tensor([0.0, 6.0]), largest=6.0)
    with torch.no_grad():
        quantiser.log_scale.add_(1.0)
    assert float(quantiser.scale().detach() * 255) == pytest.approx(6.0)
    quantiser.scale().backward()
    assert float(quantiser.log_scale.grad) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_calibration_refuses_values_that_are_not_finite(value: float) -> None:
    quantiser = ActivationQuantiser(UNSIGNED, learned=True)
    quantiser.observe()
    with pytest.raises(RecipeError, match=r"expected finite activations on the calibration batches.*initial_weights"):
        quantiser(torch.tensor([0.0, value, 1.0]))


def test_values_that_are_all_zero_have_a_range() -> None:
    quantiser = quantiser_for(UNSIGNED, torch.zeros(2, 3))
    assert float(quantiser.scale()) == 1.0
    assert quantiser(torch.zeros(2, 3)).abs().sum() == 0


def test_autocast_does_not_reach_the_rounding() -> None:
    values = torch.linspace(0, 1, 64)
    quantiser = quantiser_for(UNSIGNED, values)
    with torch.no_grad():
        expected = quantiser(values)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(quantiser(values), expected)
