"""Blocks whose activation is a PReLU with a slope for each channel (He et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.blocks import NormalizedConvolution


class Prelu(nn.PReLU):
    """A PReLU that trains faster on a CPU, as the difference of two rectifiers: its own gradient takes longer."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of the same shape; they are those of `nn.PReLU`."""
        if inputs.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(inputs)
        slopes = self.weight.to(inputs.dtype).view(-1, 1, 1)
        return functional.relu(inputs) - slopes * functional.relu(-inputs)


class PreluConvolution(NormalizedConvolution):
    """Convolution, batch normalisation and PReLU. It is fused like every normalised convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        activation: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, activation, groups)
        self.activation = Prelu(out_channels) if activation else None


class NormalizedPrelu(nn.Module):
    """Batch normalisation and PReLU of features that no single convolution computes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm2d(channels)
        self.activation = Prelu(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of the same shape."""
        activated: Tensor = self.activation(self.normalization(inputs))
        return activated


class MaximumPrelu(nn.Module):
    """A PReLU in operators that ONNX Runtime is fast at on CPUs; its own operator for PReLU is not.

    Where no slope is above 1, the result is the larger of a value and its multiple; else it is a sum of both parts.
    """

    def __init__(self, prelu: nn.PReLU) -> None:
        """Take the slopes of a trained PReLU."""
        super().__init__()
        slopes = prelu.weight.detach().clone().view(-1, 1, 1)
        self.register_buffer("slopes", slopes)
        self.slopes: Tensor
        self.gentle = bool((slopes <= 1).all())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of the same shape."""
        if self.gentle:
            return torch.maximum(inputs, inputs * self.slopes)
        return inputs * self.slopes + functional.relu(inputs) * (1 - self.slopes)


def replace_prelus(module: nn.Module) -> None:
    """Replace every PReLU below `module` in place by the form for export, which computes the same."""
    for name, child in module.named_children():
        if isinstance(child, nn.PReLU):
            setattr(module, name, MaximumPrelu(child))
        else:
            replace_prelus(child)
