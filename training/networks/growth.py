"""Grows a small network into a larger one that computes the same, so that a teacher can start from its student.

Channels and blocks are added as in Net2Net (Chen et al., 2016). If a channel is doubled, the next layer reads a share
of each copy. An added block returns its input. Unlike in the paper, the shares are unequal. The function stays
exactly the same, and the copies still diverge in training, because each of them gets a different gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from training.networks.backbone import Backbone
from training.networks.blocks import NormalizedConvolution, ReparameterizedConvolution
from training.networks.heads import DetectionBranch, SegmentationHead
from training.networks.student import Student

SMALLEST_SHARE = 0.2  # of a copy, before the shares are scaled to add up to one
SMALLEST_VARIANCE = 1e-4  # of a channel that is always zero


@dataclass(frozen=True)
class Channels:
    """Maps the channels of the large network to those of the small one.

    Attributes:
        source: Channel of the small network that each channel of the large network copies, int64 [large channels].
    """

    source: Tensor

    @classmethod
    def spread(cls, small: int, large: int) -> Channels:
        """Copy the `small` channels in turn until there are `large`."""
        return cls(torch.arange(large) % small)

    def repeated(self, times: int, small: int) -> Channels:
        """Return the mapping for `times` concatenated groups of `small` channels each."""
        return Channels(torch.cat([self.source + group * small for group in range(times)]))

    def shares(self) -> Tensor:
        """Draw the share of each copy that the next layer reads, float32 [large channels].

        The shares of the copies of one channel add up to 1.
        """
        weights = torch.rand(len(self.source)) * (1 - SMALLEST_SHARE) + SMALLEST_SHARE
        totals = torch.zeros(int(self.source.max()) + 1).index_add(0, self.source, weights)
        return weights / totals[self.source]


@torch.no_grad()
def grow(small: Student, large: Student) -> None:
    """Give `large` weights with which it computes the same as `small`.

    This is exact in eval mode. In training mode the outputs differ a little, because added blocks normalise by the
    statistics of the batch. The shares are drawn from PyTorch's generator.

    Args:
        small: A network on our own backbone.
        large: A network on our own backbone for the same classes, which is nowhere narrower or shallower; changed.

    Raises:
        ValueError: `large` is narrower or shallower somewhere, a backbone is not our own, or the tasks differ.
    """
    if not isinstance(small.backbone, Backbone) or not isinstance(large.backbone, Backbone):
        raise ValueError("only networks on our own backbone can be grown, one of these is on another")
    if small.tasks != large.tasks:
        raise ValueError(f"expected networks for the same tasks, got {small.tasks} and {large.tasks}; choose such")
    image = Channels(torch.arange(3))
    widths = _grow_backbone(small.backbone, large.backbone, image)
    pyramid = _grow_neck(small, large, widths[2:])
    if isinstance(small.segmentation, SegmentationHead) and isinstance(large.segmentation, SegmentationHead):
        _grow_segmentation(small.segmentation, large.segmentation, widths[1], pyramid)
    branches = ((small.detection, large.detection), (small.detection_one_to_many, large.detection_one_to_many))
    for branch, large_branch in branches:
        if branch is not None and large_branch is not None:
            _grow_detection(branch, large_branch, pyramid)


def _grow_backbone(small: Backbone, large: Backbone, image: Channels) -> list[Channels]:
    """Fill all stages and return the channel mapping of each stage's output."""
    inputs, of_stages = image, []
    for small_stage, large_stage in zip(small.stages, large.stages, strict=True):
        small_blocks, large_blocks = _blocks_of(small_stage), _blocks_of(large_stage)
        if len(large_blocks) < len(small_blocks):
            raise ValueError(f"expected at least {len(small_blocks)} blocks a stage, got {len(large_blocks)}")
        outputs = _spread(small_blocks[0], large_blocks[0])
        for small_block, large_block in zip(small_blocks, large_blocks, strict=False):
            _copy_convolution(small_block, large_block, inputs, outputs)
            inputs = outputs
        for before, added in zip(
            large_blocks[len(small_blocks) - 1 :], large_blocks[len(small_blocks) :], strict=False
        ):
            _pass_on(before, added)
        of_stages.append(outputs)
    return of_stages


def _grow_neck(small: Student, large: Student, widths: list[Channels]) -> Channels:
    """Fill the neck and return the channel mapping of the pyramid."""
    ours, theirs = small.neck, large.neck
    assert ours is not None  # a network on our own backbone has one
    assert theirs is not None
    context, grown = ours.context, theirs.context
    pyramid = _spread(context.reduce, grown.reduce)
    _copy_convolution(context.reduce, grown.reduce, widths[-1], pyramid)
    views = context.merge.weight.shape[1] // context.merge.weight.shape[0]
    _copy_convolution(context.merge, grown.merge, pyramid.repeated(views, context.reduce.weight.shape[0]), pyramid)
    for lateral, large_lateral, inputs in zip(ours.laterals, theirs.laterals, widths, strict=False):
        _copy_convolution(_as_block(lateral), _as_block(large_lateral), inputs, pyramid)
    for output, large_output in zip(ours.outputs, theirs.outputs, strict=True):
        _copy_convolution(_as_block(output), _as_block(large_output), pyramid, pyramid)
    return pyramid


def _grow_segmentation(ours: SegmentationHead, theirs: SegmentationHead, fine: Channels, pyramid: Channels) -> None:
    channels = _spread(ours.merge, theirs.merge)
    _copy_convolution(ours.lateral, theirs.lateral, fine, channels)
    _copy_convolution(ours.above, theirs.above, pyramid, channels)
    _copy_convolution(ours.merge, theirs.merge, channels, channels)
    _copy_predictor(ours.classifier, theirs.classifier, channels)


def _grow_detection(small: DetectionBranch, large: DetectionBranch, pyramid: Channels) -> None:
    for ours, theirs in ((small.class_layers, large.class_layers), (small.distance_layers, large.distance_layers)):
        for layers, large_layers in zip(ours, theirs, strict=True):
            block, predictor = cast(nn.Sequential, layers)
            large_block, large_predictor = cast(nn.Sequential, large_layers)
            _copy_convolution(_as_block(block), _as_block(large_block), pyramid, pyramid)
            _copy_predictor(cast(nn.Conv2d, predictor), cast(nn.Conv2d, large_predictor), pyramid)


def _blocks_of(stage: nn.Module) -> list[ReparameterizedConvolution]:
    return [cast(ReparameterizedConvolution, block) for block in cast(nn.Sequential, stage)]


def _as_block(module: nn.Module) -> NormalizedConvolution:
    return cast(NormalizedConvolution, module)


def _spread(small: NormalizedConvolution, large: NormalizedConvolution) -> Channels:
    few, many = small.weight.shape[0], large.weight.shape[0]
    if many < few:
        raise ValueError(f"expected at least {few} channels, as the smaller network has, got {many}")
    return Channels.spread(few, many)


def _copy_convolution(
    small: NormalizedConvolution, large: NormalizedConvolution, inputs: Channels, outputs: Channels
) -> None:
    shares = inputs.shares().view(1, -1, 1, 1)
    large.weight.copy_(small.weight[outputs.source][:, inputs.source] * shares)
    if isinstance(small, ReparameterizedConvolution):
        # The identity branch reads only the copy's own channel, so it needs no share.
        assert isinstance(large, ReparameterizedConvolution)
        large.pointwise.copy_(small.pointwise[outputs.source][:, inputs.source] * shares)
        large.scale.copy_(small.scale[outputs.source])
    ours, theirs = small.normalization, large.normalization
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(theirs, name).copy_(getattr(ours, name)[outputs.source])


def _copy_predictor(small: nn.Conv2d, large: nn.Conv2d, inputs: Channels) -> None:
    large.weight.copy_(small.weight[:, inputs.source] * inputs.shares().view(1, -1, 1, 1))
    assert small.bias is not None
    assert large.bias is not None
    large.bias.copy_(small.bias)


def _pass_on(before: ReparameterizedConvolution, added: ReparameterizedConvolution) -> None:
    """Leave `added` only its identity branch, and a normalisation that does not change its input.

    In eval mode the normalisation is the identity for any statistics. In training mode it is the identity if the
    statistics are those of the batch. They are estimated: the output of the block before is a rectified normal variable
    of known mean and deviation, so its moments are known.
    """
    added.weight.zero_()
    added.pointwise.zero_()
    added.scale.fill_(1.0)
    mean, variance = rectified_moments(before.normalization.bias, before.normalization.weight.abs())
    normalization = added.normalization
    assert normalization.running_mean is not None
    assert normalization.running_var is not None
    normalization.running_mean.copy_(mean)
    normalization.running_var.copy_(variance)
    normalization.weight.copy_(torch.sqrt(variance + normalization.eps))
    normalization.bias.copy_(mean)


def rectified_moments(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of max(0, x) for normal x (Frey & Hinton, 1999, section 3).

    The variance is at least SMALLEST_VARIANCE.
    """
    deviation = deviation.clamp(min=1e-6)
    ratio = mean / deviation
    density = torch.exp(-ratio.square() / 2) / (2 * torch.pi) ** 0.5
    above = (1 + torch.erf(ratio / 2**0.5)) / 2
    rectified = mean * above + deviation * density
    square = (mean.square() + deviation.square()) * above + mean * deviation * density
    return rectified, (square - rectified.square()).clamp(min=SMALLEST_VARIANCE)
