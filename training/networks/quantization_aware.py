"""Turns a trained student into one that trains with the rounding of an 8-bit file, and back into a plain one.

The layers are rounded where ONNX Runtime's quantiser will put its nodes in the exported graph
(`training.quantization.forms`): the image, the outputs of convolutions with their activations, sums and concatenations.
Max pools and upsampling choose among rounded values, and so does a concatenation of pools, so they need no rounding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.config.sections import QuantizationAwareRecipe
from training.errors import RecipeError
from training.networks.blocks import fuse_blocks
from training.networks.combination import Concatenation, Sum
from training.networks.efficientnet_lite import InvertedResidual
from training.networks.fake_quantization import ActivationQuantiser, IntegerType
from training.networks.heads import DetectionBranch, SegmentationHead
from training.networks.quantised_layers import QuantisedConvolution, QuantisedOutput
from training.networks.student import Student

ACTIVATIONS = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class Placement:
    """Which values a form of 8-bit files rounds, and to which integers.

    Attributes:
        integers: The integers of activations.
        at_inputs: Whether values are rounded only where a layer reads them. A convolution at the end of the network, or
            one whose output is only added to something, then keeps its output in float.
    """

    integers: IntegerType
    at_inputs: bool


PLACEMENTS = {
    "cpu": Placement(IntegerType(0, 255, symmetric=False), at_inputs=False),
    "tensorrt": Placement(IntegerType(-128, 127, symmetric=True), at_inputs=True),
}


def quantization_aware(student: Student, settings: QuantizationAwareRecipe) -> Student:
    """Return a copy of a student with fused blocks that rounds weights and activations.

    The one-to-many branch, which an exported file does not have, stays as it is. Ranges of activations are unknown at
    first; see `calibrate`.

    Args:
        student: Trained network; it is not changed.
        settings: Section of the recipe.

    Raises:
        RecipeError: The backbone has other layers than convolutions, or the form cannot join its features.
    """
    if not student.backbone.plain:
        raise RecipeError(
            "quantization_aware needs a backbone of plain convolutions and rectifiers, "
            f"{student.backbone.architecture} is another; leave the section out, or train a student on our own "
            "backbone, an EfficientNet-Lite or SqueezeNet"
        )
    placement, learned = PLACEMENTS[settings.form], settings.method == "lsq"
    if placement.at_inputs and any(isinstance(module, Concatenation) for module in student.modules()):
        raise RecipeError(
            f"quantization_aware.form {settings.form} needs one scale for features that are put together, those of "
            "this backbone have different ones; choose the form cpu, our own backbone or an EfficientNet-Lite"
        )
    aware = copy.deepcopy(student)
    branch, aware.detection_one_to_many = aware.detection_one_to_many, None
    fuse_blocks(aware)
    in_float = set(_kept_in_float(aware)) if placement.at_inputs else set()
    _quantise_layers(aware, placement.integers, learned, in_float)
    aware.detection_one_to_many = branch
    first = next(module for module in aware.backbone.modules() if isinstance(module, QuantisedConvolution))
    # Not learned: an image has 256 values, which calibration finds exactly.
    first.input = ActivationQuantiser(placement.integers, learned=False)
    if aware.backbone.frozen:
        aware.backbone.freeze()  # fused layers have parameters of their own
    return aware.train(student.training)


def is_quantization_aware(student: Student) -> bool:
    """Return whether a student rounds weights and activations."""
    return any(isinstance(module, QuantisedConvolution) for module in student.modules())


def without_rounding(student: Student) -> Student:
    """Return a copy of a student that computes with its weights as they are; of a plain student, just a copy."""
    plain = copy.deepcopy(student)
    for holder, name, layer in list(_quantised_layers(plain)):
        setattr(holder, name, layer.plain() if isinstance(layer, QuantisedConvolution) else layer.inner)
    return plain


@torch.no_grad()
def calibrate(student: Student, batches: Iterable[Tensor]) -> int:
    """Set the ranges of a student's activations to the smallest and largest values that they take.

    Args:
        student: A student of `quantization_aware`; changed.
        batches: Images, uint8 [N, 3, H, W], BGR.

    Returns:
        Number of tensors that have a range now.

    Raises:
        RecipeError: An activation is NaN or infinite.
    """
    quantisers = [module for module in student.modules() if isinstance(module, ActivationQuantiser)]
    for quantiser in quantisers:
        quantiser.observe()
    training, device = student.training, next(student.parameters()).device
    student.eval()
    for images in batches:
        student(images.to(device).float() / 255)
    student.train(training)
    for quantiser in quantisers:
        quantiser.calibrate()
    return len(quantisers)


def _kept_in_float(student: Student) -> Iterator[nn.Module]:
    """Yield the convolutions whose output nothing but a sum or the end of the network reads."""
    assert student.neck is not None  # only a network with another decoder has none
    yield from student.neck.laterals
    for module in student.modules():
        if isinstance(module, SegmentationHead):
            yield from (module.lateral, module.classifier)
        elif isinstance(module, DetectionBranch):
            yield from (list(layers.children())[-1] for layers in (*module.class_layers, *module.distance_layers))
        elif isinstance(module, InvertedResidual) and module.sum is not None:
            yield module.project


def _quantise_layers(module: nn.Module, integers: IntegerType, learned: bool, in_float: Collection[nn.Module]) -> None:
    """Replace all layers below a module whose values are rounded; `in_float` are convolutions with a float output."""
    children = list(module.named_children())
    followers = [child for _, child in children[1:]] if isinstance(module, nn.Sequential) else []
    for number, (name, child) in enumerate(children):
        activated = number < len(followers) and isinstance(followers[number], ACTIVATIONS)
        if isinstance(child, nn.Conv2d):
            rounds = not activated and child not in in_float
            output = ActivationQuantiser(integers, learned) if rounds else None
            setattr(module, name, QuantisedConvolution(child, output=output))
        elif isinstance(child, (*ACTIVATIONS, Sum, Concatenation)):
            largest = 6.0 if isinstance(child, nn.ReLU6) else math.inf
            setattr(module, name, QuantisedOutput(child, ActivationQuantiser(integers, learned, largest)))
        else:
            _quantise_layers(child, integers, learned, in_float)


def _quantised_layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, QuantisedConvolution | QuantisedOutput]]:
    """Yield each layer that rounds, with the module that holds it and its name there."""
    for name, child in module.named_children():
        if isinstance(child, (QuantisedConvolution, QuantisedOutput)):
            yield module, name, child
        else:
            yield from _quantised_layers(child)
