"""Convolution blocks that train with branches and batch normalisation, and run as one plain convolution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class NormalizedConvolution(nn.Module):
    """Convolution, batch normalisation and, by default, an activation: ReLU, or the one of a subclass.

    Input float [N, in_channels, H, W], output float [N, out_channels, H / stride, W / stride].
    """

    activation_type: ClassVar[type[nn.ReLU | nn.ReLU6]] = nn.ReLU

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        activation: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = kernel_size // 2
        self.groups = groups
        self.activation: nn.Module | None = self.activation_type(inplace=True) if activation else None
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.normalization = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def kernel(self) -> Tensor:
        """Return the kernel of the convolution, before normalisation, [out, in / groups, k, k]."""
        return self.weight

    def reshaped(self, in_channels: int, out_channels: int) -> NormalizedConvolution:
        """Return a block of the same kind with other numbers of channels and random weights.

        A depthwise block stays depthwise: both numbers are the same there.
        """
        groups = out_channels if self.groups > 1 else 1
        activates = self.activation is not None
        return type(self)(in_channels, out_channels, self.weight.shape[-1], self.stride, activates, groups)

    @torch.no_grad()
    def cut(self, inputs: Tensor, outputs: Tensor) -> NormalizedConvolution:
        """Return a block with some of the channels, which computes the same from and for them.

        Args:
            inputs: Channels of the input that stay, int64 [fewer in_channels].
            outputs: Channels of the output that stay, int64 [fewer out_channels].
        """
        block = self.reshaped(len(inputs), len(outputs))
        block.weight.copy_(self.weight[outputs] if self.groups > 1 else self.weight[outputs][:, inputs])
        statistics = block.normalization.state_dict()
        for name, value in self.normalization.state_dict().items():
            statistics[name].copy_(value[outputs] if value.ndim else value)
        return block

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of the block."""
        outputs = functional.conv2d(inputs, self.kernel(), None, self.stride, self.padding, groups=self.groups)
        outputs = self.normalization(outputs)
        activated: Tensor = self.activation(outputs) if self.activation else outputs
        return activated

    @torch.no_grad()
    def fused(self) -> nn.Module:
        """Return one convolution with bias (and activation) that computes the same as this block in eval mode."""
        kernel, normalization = self.kernel(), self.normalization
        out_channels, in_channels, size, _ = kernel.shape
        assert normalization.running_mean is not None
        assert normalization.running_var is not None
        scale = normalization.weight / torch.sqrt(normalization.running_var + normalization.eps)
        convolution = nn.Conv2d(
            in_channels * self.groups,
            out_channels,
            size,
            self.stride,
            self.padding,
            groups=self.groups,
            device=kernel.device,
        )
        assert convolution.bias is not None
        convolution.weight.copy_(kernel * scale[:, None, None, None])
        convolution.bias.copy_(normalization.bias - normalization.running_mean * scale)
        return nn.Sequential(convolution, self.activation) if self.activation else convolution


class ReparameterizedConvolution(NormalizedConvolution):
    """A 3x3 convolution trained as the sum of a scaled 3x3, a 1x1 and, where shapes allow, an identity branch.

    RepVGG (Ding et al., 2021) normalises each branch separately. Its fused weights and activations have outliers that
    8-bit quantisation cannot represent. QARepVGG (Chu et al., 2022) normalises the sum of the branches and leaves the
    1x1 and identity branches without a normalisation; this block does the same. QARepVGG still normalises the 3x3
    branch. Here that branch has a learned scale per output channel instead (as in OREPA, Hu et al., 2022). The branches
    can then be added as kernels instead of feature maps, and a training step costs one convolution per block.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, with_identity: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, stride=stride)
        self.scale = nn.Parameter(torch.ones(out_channels, 1, 1, 1))
        self.pointwise = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        nn.init.kaiming_normal_(self.pointwise, mode="fan_out", nonlinearity="relu")
        identity = torch.zeros(out_channels, in_channels, 3, 3)
        if with_identity and in_channels == out_channels and stride == 1:
            nn.init.dirac_(identity)
        self.register_buffer("identity", identity, persistent=False)
        self.identity: Tensor

    def kernel(self) -> Tensor:
        """Return the sum of the branches, [out, in, 3, 3]."""
        return self.scale * self.weight + functional.pad(self.pointwise, (1, 1, 1, 1)) + self.identity

    def reshaped(self, in_channels: int, out_channels: int) -> ReparameterizedConvolution:
        """See `NormalizedConvolution.reshaped`. The block has no identity branch, whatever its shape.

        A block that lost channels would add an input channel to the output channel of another one.
        """
        return type(self)(in_channels, out_channels, self.stride, with_identity=False)

    @torch.no_grad()
    def cut(self, inputs: Tensor, outputs: Tensor) -> NormalizedConvolution:
        """See `NormalizedConvolution.cut`. The 1x1 branch takes over what is left of the identity branch."""
        block = super().cut(inputs, outputs)
        assert isinstance(block, ReparameterizedConvolution)
        block.scale.copy_(self.scale[outputs])
        block.pointwise.copy_((self.pointwise + self.identity[:, :, 1:2, 1:2])[outputs][:, inputs])
        return block


def fuse_blocks(module: nn.Module) -> None:
    """Replace every block below `module` in place by its fused convolution."""
    for name, child in module.named_children():
        if isinstance(child, NormalizedConvolution):
            setattr(module, name, child.fused())
        else:
            fuse_blocks(child)
