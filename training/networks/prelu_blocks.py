"""Blocks whose activation is a PReLU with a slope for each channel (He et al., 2015)."""

from __future__ import annotations

from torch import Tensor, nn

from training.networks.blocks import NormalizedConvolution


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
        self.activation = nn.PReLU(out_channels) if activation else None


class NormalizedPrelu(nn.Module):
    """Batch normalisation and PReLU of features that no single convolution computes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm2d(channels)
        self.activation = nn.PReLU(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of the same shape."""
        activated: Tensor = self.activation(self.normalization(inputs))
        return activated


def rectify(module: nn.Module) -> None:
    """Replace every PReLU below `module` in place by a rectifier."""
    for name, child in module.named_children():
        if isinstance(child, nn.PReLU):
            setattr(module, name, nn.ReLU(inplace=True))
        else:
            rectify(child)
