"""Layers that compute with rounded weights and activations, as an 8-bit file does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.networks.fake_quantization import ActivationQuantiser, fake_quantised_kernel


class QuantisedConvolution(nn.Conv2d):
    """A convolution with a rounded kernel. The names of its weights are those of the plain convolution.

    Attributes:
        input: Rounds the input; None where the layer before has rounded it.
        output: Rounds the output; None where an activation follows, whose output is rounded instead, or nothing is.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        input: ActivationQuantiser | None = None,
        output: ActivationQuantiser | None = None,
    ) -> None:
        """Take over the parameters of a convolution."""
        super().__init__(**_settings_of(convolution))
        self.weight, self.bias = convolution.weight, convolution.bias
        self.input, self.output = input, output

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features."""
        if self.input is not None:
            inputs = self.input(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            kernel = fake_quantised_kernel(self.weight.float())
        outputs: Tensor = self._conv_forward(inputs, kernel, self.bias)
        rounded: Tensor = outputs if self.output is None else self.output(outputs)
        return rounded

    def plain(self) -> nn.Conv2d:
        """Return the convolution without rounding, with the same parameters."""
        convolution = nn.Conv2d(**_settings_of(self))
        convolution.weight, convolution.bias = self.weight, self.bias
        return convolution

    @torch.no_grad()
    def enlarge_input(self, factor: float) -> None:
        """Compute the same as before for inputs with values `factor` times as large."""
        self.weight.div_(factor)
        if self.input is not None:
            self.input.enlarge(factor)


class QuantisedOutput(nn.Module):
    """A module without weights whose output is rounded.

    Attributes:
        inner: The module.
        output: Rounds its output.
    """

    def __init__(self, inner: nn.Module, output: ActivationQuantiser) -> None:
        super().__init__()
        self.inner, self.output = inner, output

    def forward(self, *inputs: Any) -> Tensor:
        """Return the rounded output."""
        rounded: Tensor = self.output(self.inner(*inputs))
        return rounded


def _settings_of(convolution: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {
        **{name: getattr(convolution, name) for name in names},
        "bias": convolution.bias is not None,
        "device": convolution.weight.device,
    }
