"""A fused network turned back into blocks computes the same, in eval mode exactly and in training mode nearly."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from used_networks import everything, make_used, used

from training.networks.backbone_table import BACKBONES
from training.networks.student import Student, build_student
from training.networks.unfusing import fused_form, unfuse


def trained(student: Student, images: Tensor) -> Student:
    """Return a network with the running statistics of some images, as after training."""
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
            module.reset_running_stats()
    with torch.no_grad():
        for _ in range(2):
            student(images)
    return student.eval()


@pytest.mark.parametrize("name", ["n", "s", "espnetv2_quarter", "efficientnet_lite0", "squeezenet"])
@torch.no_grad()
def test_the_unfused_network_computes_the_same(name: str) -> None:
    torch.manual_seed(3)
    images = torch.rand(4, 3, 96, 128)
    size, backbone = ("n", BACKBONES[name]()) if name in BACKBONES else (name, None)
    again = build_student(size, 11, 4, backbone)
    student = trained(used(copy.deepcopy(again)), images)
    fused = {key: value for key, value in fused_form(student).state_dict().items() if "num_batches" not in key}
    unfuse(again, fused, images)
    assert not again.training
    found, wanted = again(images), student(images)
    assert found.segmentation_logits is not None
    assert wanted.segmentation_logits is not None
    assert found.detection is not None
    assert wanted.detection is not None
    for ours, theirs in (
        (found.segmentation_logits, wanted.segmentation_logits),
        (found.detection.flat_class_logits(), wanted.detection.flat_class_logits()),
        (found.detection.flat_distance_logits(), wanted.detection.flat_distance_logits()),
    ):
        assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


@torch.no_grad()
def test_both_branches_start_alike_and_training_mode_changes_nothing_on_the_same_images() -> None:
    torch.manual_seed(4)
    images = torch.rand(4, 3, 96, 128)
    again = build_student("n", 11, 4)
    unfuse(again, trained(make_used("n"), images).fused().state_dict(), images)
    in_eval = everything(again(images, with_one_to_many=True))
    assert torch.allclose(in_eval[1], in_eval[3], atol=1e-4)
    assert torch.allclose(in_eval[2], in_eval[4], atol=1e-4)
    for ours, theirs in zip(everything(again.train()(images)), in_eval, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3 * float(theirs.abs().max()))


@torch.no_grad()
def test_kernels_are_as_large_as_those_of_a_new_network() -> None:
    """A step of the optimiser then changes them by the same share."""
    torch.manual_seed(5)
    images = torch.rand(2, 3, 64, 96)
    new, again = build_student("n", 11, 4), build_student("n", 11, 4)
    unfuse(again, trained(make_used("n"), images).fused().state_dict(), images)
    for name, value in new.backbone.state_dict().items():
        if name.endswith("weight") and value.ndim == 4:
            assert 0.5 < float(again.backbone.state_dict()[name].norm() / value.norm()) < 2.5, name


def test_an_unfused_network_can_be_trained() -> None:
    torch.manual_seed(6)
    images = torch.rand(2, 3, 64, 96)
    again = build_student("n", 11, 4)
    unfuse(again, trained(make_used("n"), images).fused().state_dict(), images)
    sum(value.mean() for value in everything(again.train()(images))).backward()  # type: ignore[union-attr]
    without = [name for name, value in again.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


def test_layers_of_another_network_are_refused() -> None:
    fused = build_student("n", 11, 4).fused().state_dict()
    with pytest.raises(ValueError, match=r"expected the layers of its fused form, .* differ"):
        unfuse(build_student("s", 11, 4), fused, torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"1 differ, such as backbone\.stages\.0\.0\.0\.bias"):
        unfuse(
            build_student("n", 11, 4),
            {name: value for name, value in fused.items() if name != "backbone.stages.0.0.0.bias"},
            torch.rand(1, 3, 64, 64),
        )
