"""Turns fused convolutions back into blocks that can be trained. They compute the same, but have new branches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.networks.blocks import NormalizedConvolution, ReparameterizedConvolution
from training.networks.student import Student

TRAINED_BRANCH, OTHER_BRANCH = "detection", "detection_one_to_many"


@torch.no_grad()
def unfuse(student: Student, fused: Mapping[str, Tensor], images: Tensor) -> None:
    """Give a student the weights of its fused form, as `Student.fused` makes it.

    A sum of branches cannot be taken apart: the 3x3 branch takes all of it, and the 1x1 branch is 0. A normalisation
    gets the mean and variance that it sees on `images`, and a scale and shift that undo them. The one-to-many branch is
    not in the fused form; it becomes a copy of the other one.

    Args:
        student: Network of our own family; it is changed, and put into eval mode.
        fused: Weights of the fused form, by name.
        images: Images, float [N, 3, H, W], BGR, 0..1. The closer to the training frames, the less the student
            changes when it goes into training mode.

    Raises:
        ValueError: The names or shapes are not those of the student's fused form.
    """
    expected = {name: tuple(value.shape) for name, value in student.fused().state_dict().items()}
    found = {name: tuple(value.shape) for name, value in fused.items()}
    if expected != found:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(f"expected the layers of its fused form, {len(differing)} differ, such as {differing[0]}")
    for name, module in student.named_modules():
        source = name.replace(OTHER_BRANCH, TRAINED_BRANCH)
        if isinstance(module, NormalizedConvolution):
            place = f"{source}.0" if module.activation else source
            _set_kernel(module, fused[f"{place}.weight"], fused[f"{place}.bias"])
        elif isinstance(module, nn.Conv2d):
            module.load_state_dict({key: fused[f"{source}.{key}"] for key in ("weight", "bias")})
    _set_statistics(student, images)


def _set_kernel(block: NormalizedConvolution, kernel: Tensor, bias: Tensor) -> None:
    """Set the kernel of a block, each output channel as large as at the start of a training, and undo the factor.

    The normalisation makes the size of a kernel arbitrary, but an optimiser's steps are relative to it.
    """
    # A kernel starts with values of variance 2 / (out k k) (He et al., 2015, by fan-out). The k cancels out.
    usual_norm = (2 * kernel.shape[1] / kernel.shape[0]) ** 0.5
    factor = usual_norm / kernel.flatten(1).norm(dim=1).clamp(min=1e-12)
    if isinstance(block, ReparameterizedConvolution):
        # Two branches of the usual size: the sum of independent ones is larger by the root of two.
        factor *= 2**0.5
    enlarged = kernel * factor[:, None, None, None]
    if isinstance(block, ReparameterizedConvolution):
        block.scale.fill_(1)
        block.pointwise.zero_()
        enlarged = enlarged - block.identity
    block.weight.copy_(enlarged)
    normalization = block.normalization
    normalization.load_state_dict(
        {
            "running_mean": torch.zeros_like(bias),
            "running_var": torch.full_like(bias, 1 - normalization.eps),
            "weight": 1 / factor,
            "bias": bias,
            "num_batches_tracked": torch.tensor(0),
        }
    )


def _set_statistics(student: Student, images: Tensor) -> None:
    """Set mean and variance of each normalisation to those of its inputs, without changing what it computes."""
    moments: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def measure(normalization: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(normalization, nn.BatchNorm2d)
        variance, mean = torch.var_mean(inputs[0].double(), dim=(0, 2, 3), correction=0)
        moments[normalization] = (mean, variance)

    layers = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    watches = [layer.register_forward_pre_hook(measure) for layer in layers]
    student.eval()(images, with_one_to_many=True)
    for watch in watches:
        watch.remove()
    for layer, (mean, variance) in moments.items():
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        layer.bias.add_(layer.weight * layer.running_mean)
        layer.weight.mul_(torch.sqrt(layer.running_var + layer.eps))
