"""Backbones of the transformers library: shapes, colours, weights, refusals and export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from checkout import ROOT
from label_sets import CAMVID
from torch import Tensor, nn

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.__main__ import main
from training.checkpoint import load_student
from training.config.sections import BackboneRecipe
from training.errors import CheckpointError, RecipeError
from training.evaluation.model_size import size_of_onnx, size_of_student
from training.export.export import export_student
from training.export.settings import ExportSettings
from training.networks.auto_backbone import (
    TransformersBackbone,
    _build,
    _make_config,
    _stage_names,
    choose_stages,
)
from training.networks.selected_backbone import build_backbone, rebuild_backbone
from training.networks.student import Student, build_student
from training.recipe import load_recipe
from training.run.lightning_module import split_by_decay
from training.run.network import build_recipe_student
from training.run.train import train

HEIGHT, WIDTH = 64, 96
SMOKE_RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
CONVNEXT = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SETTINGS: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "convnextv2": CONVNEXT,
    "swin": {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    "mobilenet_v2": {"depth_multiplier": 0.1},  # no AutoBackbone; the hidden states of its image model are maps
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the library behave as on an offline machine: it does not ask the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def backbone_of(architecture: str) -> TransformersBackbone:
    torch.manual_seed(0)
    return build_backbone(BackboneRecipe(architecture=architecture, settings=SETTINGS[architecture]))


def loss_of(student: Student, images: Tensor) -> Tensor:
    outputs = student(images)
    branches = [outputs.detection, outputs.detection_one_to_many]
    logits = [level for branch in branches for level in (branch.flat_class_logits(), branch.flat_distance_logits())]
    return torch.stack([level.square().mean() for level in (outputs.segmentation_logits, *logits)]).sum()


@pytest.mark.parametrize(("architecture", "widths"), [
    ("resnet", (8, 8, 16, 16)),
    ("convnextv2", (8, 8, 16, 16)),
    ("swin", (8, 16, 32, 64)),
    ("mobilenet_v2", (8, 8, 16, 32)),
    ("dinov2", (16, 16, 16, 16)),
])  # fmt: skip
def test_features_and_a_training_step(architecture: str, widths: tuple[int, ...]) -> None:
    backbone = backbone_of(architecture)
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    shapes = [tuple(level.shape) for level in backbone(images)]
    assert backbone.widths == widths
    assert shapes == [(2, width, HEIGHT // s, WIDTH // s) for width, s in zip(widths, (4, 8, 16, 32), strict=True)]

    student = build_student("n", 11, 4, backbone).train()
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=1e-3)
    before = loss_of(student, images)
    before.backward()
    # Every trained parameter has a gradient; otherwise training on several devices would wait forever.
    assert not [n for n, p in student.named_parameters() if p.requires_grad and p.grad is None]
    optimizer.step()
    assert float(loss_of(student, images).detach()) < float(before.detach())


@pytest.mark.parametrize("architecture", ["resnet", "convnextv2", "swin", "mobilenet_v2", "dinov2"])
def test_random_initial_weights_need_no_settings(architecture: str) -> None:
    with torch.device("meta"):  # full size, without data
        model = _build(config := _make_config(architecture, {}), _stage_names(config))
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e6


def test_the_backbone_gets_rgb_with_the_normalisation_of_imagenet() -> None:
    backbone = backbone_of("resnet").eval()
    rgb = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    normalised = (rgb - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = backbone.model(torch.from_numpy(normalised.transpose(2, 0, 1)[None]).float()).feature_maps
        found = backbone(torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1)[None])))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_features_keep_their_place_if_the_patch_size_does_not_divide_32() -> None:
    backbone = backbone_of("dinov2").eval()

    class MeanOfPatches(nn.Module):
        """Replaces the transformer: the feature of a patch is the mean of the patch."""

        def forward(self, images: Tensor, output_hidden_states: bool) -> dict[str, list[Tensor]]:
            maps = Outputs()
            maps["feature_maps"] = maps.feature_maps = [nn.functional.avg_pool2d(images, 14)] * 2
            return maps

    class Outputs(dict[str, Any]):
        feature_maps: list[Tensor]

    backbone.model = MeanOfPatches()
    ramp = torch.linspace(0, 1, WIDTH).expand(1, 3, HEIGHT, WIDTH)
    found = backbone(ramp)[0] * backbone.deviation + backbone.mean
    expected = nn.functional.avg_pool2d(ramp, 4)
    inner = slice(3, -3)  # at the borders there are no neighbours to interpolate with
    torch.testing.assert_close(found[..., inner], expected[..., inner], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("strides", "stages"),
    [
        ((4, 4, 8, 16, 32), [1, 2, 3, 4]),
        ((2, 4, 4, 8, 16, 16, 32), [2, 3, 5, 6]),
        ((14,) * 13, [3, 6, 9, 12]),
        ((16, 16), [1, 1, 1, 1]),
        ((4, 8, 16), [0, 1, 2, 2]),
        ((8, 16, 32), [0, 0, 1, 2]),
    ],
)
def test_stages_are_chosen_by_stride(strides: tuple[int, ...], stages: list[int]) -> None:
    assert choose_stages(strides) == stages


def pictures(count: int) -> list[UInt8Array]:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return [np.ascontiguousarray(image.repeat(8, 0).repeat(8, 1)) for image in images]


@pytest.mark.parametrize("architecture", ["resnet", "swin", "dinov2"])
def test_export_equals_the_network(architecture: str, tmp_path: Path) -> None:
    student = build_student("n", 11, 4, backbone_of(architecture)).train()
    images = torch.from_numpy(np.stack(pictures(6))).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():  # different weights, and running statistics of real images
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(20):
            student(images)
    path = tmp_path / "student.onnx"
    settings = ExportSettings(CAMVID, height=HEIGHT, width=WIDTH, max_detections=20, score_threshold=0.01)
    report = export_student(student.eval(), path, settings, pictures(2), pictures(3))
    assert report.frames == 5
    assert not report.failures()
    outputs = OnnxModel.open(path, device="cpu").run(np.stack(pictures(3)))  # another batch size than at export
    assert outputs.class_map.shape == (3, HEIGHT // 4, WIDTH // 4)
    expected, found = size_of_student(student.fused(), HEIGHT, WIDTH), size_of_onnx(path)
    assert found.multiply_accumulates == expected.multiply_accumulates
    assert found.parameters == pytest.approx(expected.parameters, rel=0.005)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"BatchNormalization", "Loop", "If", "Scan", "NonZero"}


def test_a_network_that_cannot_be_exported_is_refused_in_one_sentence(tmp_path: Path) -> None:
    student = build_student("n", 11, 4, backbone_of("resnet")).eval()

    class DependsOnTheData(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if float(images.sum()) > 0 else -images

    student.backbone.model.embedder.pooler = DependsOnTheData()
    settings = ExportSettings(CAMVID, height=HEIGHT, width=WIDTH, max_detections=20)
    with pytest.raises(ValueError, match="cannot be exported") as error:
        export_student(student, tmp_path / "student.onnx", settings, pictures(1))
    assert "resnet" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_macs_of_linear_layers_are_counted() -> None:
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3, bias=False)
            self.second = nn.Linear(6, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.second(self.first(images).permute(0, 2, 3, 1))

    size = size_of_student(Pixels(), 8, 16)
    assert size.multiply_accumulates == 4 * 8 * (6 * 9 + 6 * 5)
    assert size.parameters == 6 * 9 + 6 * 5 + 5


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a classifier like one from the hub: in half precision, larger than the settings of these tests."""
    from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(1)
    config = ConvNextV2Config(**{**CONVNEXT, "hidden_sizes": [8, 16, 16, 24]}, num_labels=7)
    ConvNextV2ForImageClassification(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_pretrained_weights_are_loaded_with_their_configuration(pretrained: Path) -> None:
    from safetensors.torch import load_file

    recipe = BackboneRecipe(architecture="convnextv2", pretrained=str(pretrained), settings={"drop_path_rate": 0.1})
    backbone = build_backbone(recipe)
    assert backbone.widths == (8, 16, 16, 24)
    assert backbone.model.config.drop_path_rate == 0.1
    stored = load_file(pretrained / "model.safetensors")
    kernel = "encoder.stages.3.layers.0.dwconv.weight"
    torch.testing.assert_close(backbone.model.get_parameter(kernel).detach(), stored[f"convnextv2.{kernel}"].float())
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    random = build_backbone(recipe, pretrained=False)
    assert random.widths == backbone.widths
    assert not torch.equal(random.model.get_parameter(kernel), backbone.model.get_parameter(kernel))


def test_the_noted_configuration_rebuilds_the_same_network(pretrained: Path) -> None:
    backbone = build_backbone(BackboneRecipe(architecture="convnextv2", pretrained=str(pretrained))).eval()
    again = rebuild_backbone(backbone.configuration).eval()
    again.load_state_dict(backbone.state_dict())
    images = torch.rand(1, 3, HEIGHT, WIDTH)
    for one, other in zip(backbone(images), again(images), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (BackboneRecipe(architecture="convnext_v2"), ["did you mean convnextv2?"]),
        (BackboneRecipe(architecture="bert"), ["bert is not a network for images"]),
        (
            BackboneRecipe(architecture="convnextv2", settings={"hidden_sizez": [8]}),
            ["hidden_sizez", "did you mean hidden_sizes?"],
        ),
        (BackboneRecipe(architecture="convnextv2", settings={"depths": "deep"}), ["depths", "expected a list"]),
        (BackboneRecipe(architecture="convnextv2", settings={"hidden_sizes": [8]}), ["cannot build a convnextv2"]),
        (
            BackboneRecipe(architecture="convnextv2", settings=CONVNEXT | {"num_channels": 1}),
            ["cannot be run on images"],
        ),
        (BackboneRecipe(architecture="timm_backbone"), ["timm_backbone cannot be run", "choose another"]),
        (BackboneRecipe(architecture="timm_wrapper"), ["timm"]),
        (BackboneRecipe(architecture="detr"), ["timm"]),
        (BackboneRecipe(architecture="tipsv2"), ["tipsv2 cannot be run", "choose another"]),
        (BackboneRecipe(architecture="voxtral_realtime_text"), ["voxtral_realtime_text cannot be run"]),
        (BackboneRecipe(architecture="higgs_audio_v2_tokenizer"), ["higgs_audio_v2_tokenizer cannot be run"]),
        (BackboneRecipe(architecture="sam2_video"), ["sam2_video cannot be run"]),
        (BackboneRecipe(architecture="nougat"), ["expected a configuration of nougat"]),
        (
            BackboneRecipe(architecture="convnextv2", pretrained="nobody/nothing"),
            ["nobody/nothing is not available", "leave it empty", "folder"],
        ),
    ],
    ids=lambda value: value.architecture if isinstance(value, BackboneRecipe) else "",
)
def test_a_backbone_that_cannot_be_built_is_refused_in_one_sentence(recipe: BackboneRecipe, words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        build_backbone(recipe)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_backbone_that_does_not_accept_the_sizes_of_the_recipe_is_refused() -> None:
    small = "hidden_size: 24, num_hidden_layers: 12, num_attention_heads: 2"
    backbone = f"backbone={{architecture: rf_detr_dinov2, settings: {{{small}}}}}"
    with pytest.raises(RecipeError, match="rf_detr_dinov2 cannot be run on images of 160x96"):
        build_recipe_student(load_recipe(SMOKE_RECIPE, [backbone]))  # these sizes do not fill its windows
    whole = ["data.crop_height=224", "data.crop_width=448", "validation.input_height=224", "validation.input_width=448"]
    build_recipe_student(load_recipe(SMOKE_RECIPE, [backbone, *whole]))


def test_weights_that_do_not_fit_are_refused(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"is a convnextv2, but backbone\.architecture is resnet"):
        build_backbone(BackboneRecipe(architecture="resnet", pretrained=str(pretrained)))
    with pytest.raises(RecipeError, match=r"lacks \d+ weights of the backbone"):
        build_backbone(
            BackboneRecipe(architecture="convnextv2", pretrained=str(pretrained), settings={"depths": [1, 1, 2, 1]})
        )
    with pytest.raises(RecipeError, match="is not available"):
        build_backbone(
            BackboneRecipe(
                architecture="convnextv2", pretrained=str(pretrained), settings={"hidden_sizes": [8, 8, 8, 8]}
            )
        )
    # Pickled weights are not read, because reading them can run code.
    (tmp_path / "config.json").write_bytes((pretrained / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RecipeError, match=r"model\.safetensors"):
        build_backbone(BackboneRecipe(architecture="convnextv2", pretrained=str(tmp_path)))


def test_checkpoint_with_another_backbone_needs_no_pretrained_weights(
    pretrained: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for file in pretrained.iterdir():
        (weights / file.name).write_bytes(file.read_bytes())
    overrides = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "size=n", "epochs=1"]
    overrides += ["data.samples_per_epoch=8", "validation.segmentation.limit=1", "validation.detection=null"]
    overrides += [f"validation.segmentation.folder={rendered_samples}"]
    backbone = ["backbone.architecture=convnextv2", f"backbone.pretrained={weights}"]
    recipe = load_recipe(SMOKE_RECIPE, [*overrides, *backbone])
    checkpoint = train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"

    for file in weights.iterdir():
        file.unlink()
    student, info = load_student(checkpoint)
    assert isinstance(student.backbone, TransformersBackbone)
    assert student.backbone.widths == (8, 16, 16, 24)
    assert 0 <= info.metrics["miou"] <= 1
    # A run can start from it without the pretrained weights, but not with another backbone.
    start = f"initial_weights={checkpoint}"
    with pytest.raises(CheckpointError, match="size n with convnextv2 backbone"):
        train(load_recipe(SMOKE_RECIPE, [*overrides, start, "name=other"]), accelerator="cpu")
    words = ["train", str(SMOKE_RECIPE), "--accelerator", "cpu"]
    for override in [*overrides, *backbone, "name=again"]:
        words += ["--override", override]
    assert main(words) == 2
    assert "is not available" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_weights_of_linear_layers_are_decayed_and_tables_are_not() -> None:
    student = build_student("n", 11, 4, backbone_of("swin"))
    decayed = {id(parameter) for parameter in split_by_decay(student)[0]}
    names = {name for name, parameter in student.named_parameters() if id(parameter) in decayed}
    linear = {f"{name}.weight" for name, module in student.named_modules() if isinstance(module, nn.Linear)}
    assert linear
    assert linear <= names
    assert not [name for name in names if "bias" in name or "norm" in name]


def test_transformers_is_imported_only_if_the_recipe_uses_it() -> None:
    words = "import sys; from training.networks.student import build_student; build_student('n', 11, 4)"
    subprocess.run([sys.executable, "-c", f"{words}; sys.exit('transformers' in sys.modules)"], check=True, timeout=120)
