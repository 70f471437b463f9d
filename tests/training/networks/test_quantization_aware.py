"""Students that round: they compute what 8-bit files compute, keep their names, and become plain ones again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.config.sections import BackboneRecipe, QuantizationAwareRecipe
from training.errors import RecipeError
from training.networks.fake_quantization import ActivationQuantiser
from training.networks.quantised_layers import QuantisedConvolution
from training.networks.quantization_aware import (
    calibrate,
    is_quantization_aware,
    quantization_aware,
    without_rounding,
)
from training.networks.selected_backbone import build_backbone
from training.networks.student import Student, build_student
from training.run.lightning_module import split_by_decay

LSQ = QuantizationAwareRecipe()
STRAIGHT_THROUGH = QuantizationAwareRecipe(method="straight_through")


def random_student(architecture: str = "", segmentation: int = 5, detection: int = 3) -> Student:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneRecipe(architecture=architecture)) if architecture else None
    student = build_student("n", segmentation, detection, backbone)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return student.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_of(student: Student, images: torch.Tensor) -> torch.Tensor:
    logits = student(images.float() / 255).segmentation_logits
    assert logits is not None
    return logits


@pytest.mark.parametrize(
    ("architecture", "form"),
    [("", "cpu"), ("", "tensorrt"), ("efficientnet_lite0", "cpu"), ("efficientnet_lite0", "tensorrt"),
     ("squeezenet", "cpu")],
)  # fmt: skip
def test_a_calibrated_student_is_close_to_its_parent(architecture: str, form: str, images: torch.Tensor) -> None:
    parent = random_student(architecture)
    aware = quantization_aware(parent, QuantizationAwareRecipe.checked({"form": form}))
    count = calibrate(aware, [images])

    expected, found = logits_of(parent, images), logits_of(aware, images)
    assert count == sum(isinstance(module, ActivationQuantiser) for module in aware.modules()) > 20
    assert not torch.equal(found, expected)
    assert (found - expected).square().mean().sqrt() < 0.15 * expected.std()
    convolutions = [module for module in aware.modules() if isinstance(module, nn.Conv2d)]
    rounded = [module for module in convolutions if isinstance(module, QuantisedConvolution)]
    assert aware.detection_one_to_many is not None
    plain = {id(module) for module in aware.detection_one_to_many.modules()}
    assert [module for module in convolutions if id(module) not in plain] == rounded


@pytest.mark.parametrize("architecture", ["", "efficientnet_lite0", "squeezenet"])
def test_without_rounding_it_is_the_parent(architecture: str, images: torch.Tensor) -> None:
    parent = random_student(architecture)
    aware = quantization_aware(parent, LSQ)
    calibrate(aware, [images])
    plain = without_rounding(aware)

    assert not is_quantization_aware(plain)
    assert is_quantization_aware(aware)
    torch.testing.assert_close(logits_of(plain, images), logits_of(parent, images), rtol=1e-3, atol=1e-3)
    assert plain.fused().state_dict().keys() == parent.fused().state_dict().keys()


def test_the_deployed_form_rounds_pixels_of_255(images: torch.Tensor) -> None:
    aware = quantization_aware(random_student(), LSQ)
    calibrate(aware, [images])
    fused = aware.fused()
    fused.backbone.prepare_export(255.0)
    with torch.no_grad():
        found = fused(images.float()).segmentation_logits
    torch.testing.assert_close(found, logits_of(aware, images), rtol=1e-4, atol=1e-4)
    assert aware.fused().detection_one_to_many is None


@pytest.mark.parametrize(("segmentation", "detection"), [(5, 0), (0, 3)])
def test_a_student_of_one_task_rounds(segmentation: int, detection: int, images: torch.Tensor) -> None:
    aware = quantization_aware(random_student("", segmentation, detection), LSQ).train()
    calibrate(aware, [images])
    outputs = aware(images.float() / 255)
    assert aware.training
    total = outputs.features.p3.sum()
    if outputs.segmentation_logits is not None:
        total = total + outputs.segmentation_logits.sum()
    for branch in (outputs.detection, outputs.detection_one_to_many):
        if branch is not None:
            total = total + branch.flat_class_logits().sum() + branch.flat_distance_logits().sum()
    total.backward()
    missing = [name for name, value in aware.named_parameters() if value.requires_grad and value.grad is None]
    assert not missing, "training on several devices waits for the gradient of every parameter"


def test_the_one_to_many_branch_trains_as_before(images: torch.Tensor) -> None:
    parent = random_student()
    aware = quantization_aware(parent, LSQ)
    assert aware.detection_one_to_many is not None
    assert parent.detection_one_to_many is not None
    assert aware.detection_one_to_many.state_dict().keys() == parent.detection_one_to_many.state_dict().keys()
    assert not any(isinstance(module, nn.Conv2d) and type(module) is not nn.Conv2d
                   for module in aware.detection_one_to_many.modules())  # fmt: skip


def test_scales_learn_without_weight_decay_or_not_at_all() -> None:
    for settings, learned in ((LSQ, True), (STRAIGHT_THROUGH, False)):
        aware = quantization_aware(random_student(), settings)
        decayed, free = split_by_decay(aware)
        scales = {id(value) for name, value in aware.named_parameters() if name.endswith("log_scale")}
        assert not scales & {id(value) for value in decayed}
        # The range of the image is never learned.
        assert len(scales & {id(value) for value in free}) == (len(scales) - 1 if learned else 0)


def test_a_frozen_backbone_stays_frozen(images: torch.Tensor) -> None:
    parent = random_student("efficientnet_lite0")
    parent.backbone.freeze()
    aware = quantization_aware(parent, LSQ)
    assert not any(value.requires_grad for value in aware.backbone.parameters())
    assert any(value.requires_grad for value in aware.neck.parameters())


def test_tensorrt_has_no_two_scales_in_a_concatenation() -> None:
    with pytest.raises(RecipeError, match=r"form tensorrt needs one scale for features that are put together"):
        quantization_aware(random_student("squeezenet"), QuantizationAwareRecipe(form="tensorrt"))


def test_backbones_of_transformers_are_refused() -> None:
    backbone = build_backbone(
        BackboneRecipe(architecture="resnet", settings={"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]})
    )
    student = build_student("n", 5, 3, backbone)
    with pytest.raises(RecipeError, match="needs a backbone of plain convolutions and rectifiers, resnet is another"):
        quantization_aware(student, LSQ)
