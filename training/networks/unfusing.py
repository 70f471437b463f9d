"""Turns fused convolutions back into blocks that can be trained. They compute the same, but have new branches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.networks.blocks import NormalizedConvolution, ReparameterizedConvolution
from training.networks.prelu_blocks import MaximumPrelu, NormalizedPrelu
from training.networks.student import Student

TRAINED_BRANCH, OTHER_BRANCH = "detection", "detection_one_to_many"
COUNTER = "num_batches_tracked"  # of a normalisation; no output depends on it


def fused_form(student: Student) -> Student:
    """Return the form of a student that is exported, for images of 0..1."""
    form = student.fused()
    form.backbone.prepare_export(1.0)
    return form


def fused_shapes(form: Student) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a fused form, by name."""
    return {name: tuple(value.shape) for name, value in form.state_dict().items() if not name.endswith(COUNTER)}


@torch.no_grad()
def unfuse(student: Student, fused: Mapping[str, Tensor], images: Tensor) -> None:
    """Give a student the weights of its form for export, see `fused_form`.

    A sum of branches cannot be taken apart: the 3x3 branch takes all of it, and the 1x1 branch is 0. A normalisation
    that was fused gets the mean and variance that it sees on `images`, and a scale and shift that undo them. The
    one-to-many branch is not in the fused form; it becomes a copy of the other one.

    Args:
        student: Network on a backbone of ours; it is changed, and put into eval mode.
        fused: Weights of the fused form, by name.
        images: Images, float [N, 3, H, W], BGR, 0..1. The closer to the training frames, the less the student
            changes when it goes into training mode.

    Raises:
        ValueError: The names or shapes are not those of the student's fused form.
    """
    form = fused_form(student)
    expected = fused_shapes(form)
    found = {name: tuple(value.shape) for name, value in fused.items()}
    if expected != found:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(f"expected the layers of its fused form, {len(differing)} differ, such as {differing[0]}")
    for name, module in student.named_modules():
        source = name.replace(OTHER_BRANCH, TRAINED_BRANCH)
        if isinstance(module, NormalizedConvolution):
            convolution = _place_of(nn.Conv2d, form, source)
            _set_kernel(module, fused[f"{convolution}.weight"], fused[f"{convolution}.bias"])
            if isinstance(module.activation, nn.PReLU):
                _set_slopes(module.activation, fused[f"{_place_of(MaximumPrelu, form, source)}.slopes"])
        elif isinstance(module, NormalizedPrelu):
            statistics = module.normalization.state_dict()
            for key in statistics.keys() - {COUNTER}:
                statistics[key].copy_(fused[f"{source}.normalization.{key}"])
        elif isinstance(module, nn.Conv2d):
            module.load_state_dict({key: fused[f"{source}.{key}"] for key in module.state_dict()})
        elif isinstance(module, nn.PReLU) and f"{source}.slopes" in fused:  # not one of a block
            _set_slopes(module, fused[f"{source}.slopes"])
    _set_statistics(student, images)


def _place_of(kind: type[nn.Module], form: Student, block: str) -> str:
    """Return the name of the only layer of a kind in what a block became."""
    (name,) = (name for name, layer in form.get_submodule(block).named_modules() if isinstance(layer, kind))
    return f"{block}.{name}" if name else block


def _set_slopes(prelu: nn.PReLU, slopes: Tensor) -> None:
    prelu.weight.copy_(slopes.flatten())


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
    """Set mean and variance of each fused normalisation to those of its inputs, which changes no result."""
    moments: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def measure(normalization: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(normalization, nn.BatchNorm2d)
        variance, mean = torch.var_mean(inputs[0].double(), dim=(0, 2, 3), correction=0)
        moments[normalization] = (mean, variance)

    layers = [module.normalization for module in student.modules() if isinstance(module, NormalizedConvolution)]
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
