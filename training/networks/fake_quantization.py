"""Fake quantisation: rounds values to what 8-bit integers can represent, and lets gradients pass.

An integer q stands for the value scale * (q - zero point), as in QuantizeLinear and DequantizeLinear of ONNX. With the
limits `lowest` and `highest`, which are those of the integer type minus the zero point:

    values -> scale * clip(round(values / scale), lowest, highest)

Ties are rounded to the even integer, as ONNX Runtime does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import RecipeError

KERNEL_LIMIT = 127  # of symmetric signed weights


@dataclass(frozen=True)
class IntegerType:
    """The integers that activations become.

    Attributes:
        lowest, highest: Limits of the type.
        symmetric: Whether the zero point is 0, in the middle of the range.
    """

    lowest: int
    highest: int
    symmetric: bool

    def scale_and_zero_point(self, low: float, high: float) -> tuple[float, int]:
        """Return scale and zero point for values from `low` to `high`; both are moved, so that zero lies between.

        ONNX Runtime's quantiser has the same rule, so that both find the same integers for a range.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if self.symmetric:
            scale = max(-low, high) / self.highest
        else:
            scale = (high - low) / (self.highest - self.lowest)
        if scale < torch.finfo(torch.float32).tiny:
            return 1.0, 0  # all values are zero
        return scale, 0 if self.symmetric else round(self.lowest - low / scale)


class FakeQuantization(torch.autograd.Function):
    """Rounds values as the docstring of this file says, with the gradients of LSQ (Esser et al., 2020, equation 3).

    With v = values / scale, the gradient to the values passes where `lowest` <= v <= `highest` and is zero elsewhere.
    The gradient to the scale is round(v) - v there, and `lowest` or `highest` elsewhere. It is multiplied by
    `gradient_scale`. The straight-through estimator (Bengio et al., 2013) is the case without a gradient to the scale.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, scale: Tensor, lowest: Tensor, highest: Tensor, gradient_scale: float
    ) -> Tensor:
        """Return the rounded values; scale and limits are broadcast."""
        ctx.save_for_backward(values, scale, lowest, highest)
        ctx.gradient_scale = gradient_scale
        return (values / scale).clamp_(lowest, highest).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients to values and scale."""
        (gradient,) = gradients
        values, scale, lowest, highest = ctx.saved_tensors
        scaled = values / scale
        inside = (scaled >= lowest) & (scaled <= highest)
        of_scale = None
        if ctx.needs_input_grad[1]:
            rounding = scaled.clamp(lowest, highest).round_() - torch.where(inside, scaled, 0.0)
            of_scale = (gradient * rounding).sum() * ctx.gradient_scale
        return gradient * inside, of_scale, None, None, None


def fake_quantised_kernel(kernel: Tensor) -> Tensor:
    """Return a kernel [out, in, k, k], rounded to symmetric signed integers with a scale for each output channel.

    The scale follows from the largest weight of the channel. Gradients pass unchanged.
    """
    largest = kernel.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    scale = torch.where(largest > 0, largest / KERNEL_LIMIT, 1.0)
    # The largest weight is 127 scales, more or less by rounding; wider limits let its gradient pass, too.
    limit = scale.new_tensor(KERNEL_LIMIT + 1.0)
    rounded: Tensor = FakeQuantization.apply(kernel, scale, -limit, limit, 1.0)  # type: ignore[no-untyped-call]
    return rounded


class ActivationQuantiser(nn.Module):
    """Rounds activations to 8-bit integers with one scale for a whole tensor.

    The parameter is the logarithm of the scale: a step of AdamW is about the learning rate, whatever the gradient, and
    must change scales of all sizes by the same share (Jain et al., Trained Quantization Thresholds, 2020). Zero points
    stay as calibration found them: where a layer ends in ReLU it is 0, and elsewhere a wider range is a larger scale.

    Attributes:
        integers: The integers that the values become.
        log_scale: Logarithm of the scale, float32 []; a parameter that is trained or not.
        zero_point: Integer of zero, int64 [].
        largest: Largest value that can come. The range does not grow beyond it.
    """

    def __init__(self, integers: IntegerType, learned: bool, largest: float = math.inf) -> None:
        super().__init__()
        self.integers = integers
        self.largest = largest
        self.log_scale = nn.Parameter(torch.zeros(()), requires_grad=learned)
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int64))
        self.zero_point: Tensor
        self._seen: tuple[float, float] | None = None

    def scale(self) -> Tensor:
        """Return the scale, float32 []."""
        limit = math.log(self.largest / self.integers.highest)
        # The gradient passes at the limit, so that a scale that has reached it can shrink again.
        excess = (self.log_scale - self.log_scale.clamp(max=limit)).detach()
        return (self.log_scale - excess).exp()

    def forward(self, values: Tensor) -> Tensor:
        """Return the rounded values in float32, also under autocast; unchanged between `observe` and `calibrate`."""
        if self._seen is not None:
            self._seen = _wider(self._seen, values)
            return values
        with torch.autocast(values.device.type, enabled=False):
            zero_point = self.zero_point.float()
            features = max(1, values[0].numel())  # LSQ counts those of one image
            rounded: Tensor = FakeQuantization.apply(  # type: ignore[no-untyped-call]
                values.float(),
                self.scale(),
                self.integers.lowest - zero_point,
                self.integers.highest - zero_point,
                1 / math.sqrt(features * self.integers.highest),
            )
        return rounded

    def observe(self) -> None:
        """Note the range of the values from now on, without rounding them."""
        self._seen = (math.inf, -math.inf)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Take the range of the values since `observe`, and round from now on."""
        assert self._seen is not None
        (low, high), self._seen = self._seen, None
        if low > high:
            return  # no value came
        scale, zero_point = self.integers.scale_and_zero_point(low, high)
        self.log_scale.fill_(math.log(scale))
        self.zero_point.fill_(zero_point)

    @torch.no_grad()
    def enlarge(self, factor: float) -> None:
        """Expect values `factor` times as large from now on."""
        self.log_scale.add_(math.log(factor))
        self.largest *= factor


def _wider(seen: tuple[float, float], values: Tensor) -> tuple[float, float]:
    """Return a range with those of some values in it.

    Raises:
        RecipeError: A value is NaN or infinite.
    """
    low, high = (float(edge) for edge in values.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RecipeError(
            "quantization_aware: expected finite activations on the calibration batches, got NaN or infinity; name "
            "other initial_weights"
        )
    return min(seen[0], low), max(seen[1], high)
