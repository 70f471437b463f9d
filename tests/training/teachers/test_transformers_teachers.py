"""Teachers of the transformers library: what they say is what the models themselves say; unfit models are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_transformers import DETECTORS, NAMES, SEGMENTERS, save_tiny
from torch import Tensor
from torch.nn import functional

from training.errors import RecipeError
from training.label_sets.loading import load_label_set
from training.teachers.ensemble import Ensemble
from training.teachers.settings import FusionSettings
from training.teachers.transformers_model import TransformersTeacher
from training.teachers.transformers_network import TransformersNetwork, _digest

HEIGHT, WIDTH = 64, 96


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the library behave as on an offline machine: it does not ask the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def opened(folder: Path, **keys: Any) -> TransformersNetwork:
    return TransformersTeacher.checked({"kind": "transformers", "model": str(folder), **keys}).open()


def images(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, height // 16, width // 16, generator=generator) * 255
    return functional.interpolate(coarse, size=(height, width), mode="bilinear").to(torch.uint8)


def prepared(images_bgr: Tensor) -> Tensor:
    """Return the input that the library makes by default: RGB, mean and deviation of ImageNet."""
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    return (images_bgr[:, [2, 1, 0]] / 255 - mean) / deviation


@pytest.mark.parametrize("architecture", SEGMENTERS)
@torch.no_grad()
def test_masks_are_those_of_the_model_itself(architecture: str, tmp_path: Path) -> None:
    model = save_tiny(architecture, tmp_path)

    teacher = opened(tmp_path)
    found = teacher(images())

    outputs = model(pixel_values=prepared(images()))
    if architecture == "mask2former":
        masks = outputs.masks_queries_logits.sigmoid()
        classes = outputs.class_queries_logits.softmax(dim=-1)[..., :-1]
        expected = torch.einsum("nqc,nqhw->nchw", classes, masks)
        expected = expected / expected.sum(dim=1, keepdim=True)
    else:
        expected = outputs.logits.softmax(dim=1)
    assert found.boxes is None
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities, expected, atol=1e-5, rtol=1e-4)
    assert len(expected.argmax(dim=1).unique()) > 1, "a model that sees one class everywhere proves nothing"
    assert [info.name for info in teacher.label_set.segmentation_classes] == list(NAMES)


@pytest.mark.parametrize("architecture", DETECTORS)
@torch.no_grad()
def test_boxes_are_those_of_the_model_itself(architecture: str, tmp_path: Path) -> None:
    model = save_tiny(architecture, tmp_path)

    found = opened(tmp_path)(images())

    outputs = model(pixel_values=prepared(images()))
    closed = architecture == "yolos"
    scores = outputs.logits.softmax(dim=-1)[..., :-1] if closed else outputs.logits.sigmoid()
    assert found.boxes is not None
    for frame, boxes in enumerate(found.boxes):
        rows = {}
        for query, each in enumerate(scores[frame]):
            x, y, w, h = (value.item() for value in outputs.pred_boxes[frame, query])
            corners = ((x - w / 2) * WIDTH, (y - h / 2) * HEIGHT, (x + w / 2) * WIDTH, (y + h / 2) * HEIGHT)
            limits = (WIDTH, HEIGHT, WIDTH, HEIGHT)
            clipped = tuple(round(min(max(side, 0), limit), 2) for side, limit in zip(corners, limits, strict=True))
            for number, score in enumerate(each):
                if score >= 0.01 and clipped[2] > clipped[0] and clipped[3] > clipped[1]:
                    rows[(number, *clipped)] = score.item()
        got = {
            (int(number), *(round(side, 2) for side in xyxy)): score
            for number, xyxy, score in zip(boxes.ids, boxes.xyxy.tolist(), boxes.scores.tolist(), strict=True)
        }
        assert len(got) >= 3
        assert sorted(got.values()) == pytest.approx(sorted(rows.values()), abs=1e-5)
        places, expected = (torch.tensor(sorted(each)) for each in (got, rows))
        torch.testing.assert_close(places, expected, atol=0.05, rtol=0)


def test_an_image_of_any_size_is_padded_and_cut_again(tmp_path: Path) -> None:
    save_tiny("segformer", tmp_path)
    teacher = opened(tmp_path)

    found = teacher(images(80, 112)[:, :, :70, :100])

    assert found.probabilities is not None
    assert tuple(found.probabilities.shape) == (2, 5, 18, 25)


@torch.no_grad()
def test_images_are_prepared_as_the_file_beside_the_model_says(tmp_path: Path) -> None:
    model = save_tiny("segformer", tmp_path)
    content = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "size": {"height": 32, "width": 64}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")

    found = opened(tmp_path)(images()).probabilities

    small = functional.interpolate(images().float(), size=(32, 64), mode="bilinear", antialias=True)[:, [2, 1, 0]]
    inputs = (small / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(found, model(pixel_values=inputs).logits.softmax(dim=1), atol=1e-5, rtol=1e-4)
    asked = opened(tmp_path, height=64, width=128)(images()).probabilities
    assert asked is not None
    assert tuple(asked.shape[2:]) == (16, 32)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"image_mean": [1, 2]}', '{"image_std": [0, 1, 1]}', '{"image_mean": 1}']
)
def test_a_damaged_preparation_is_refused(content: str, tmp_path: Path) -> None:
    save_tiny("segformer", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"preprocessor_config.json: expected how images are prepared"):
        opened(tmp_path)


def test_classes_of_a_shipped_set_bring_its_tables(tmp_path: Path) -> None:
    cityscapes = load_label_set("cityscapes19")
    names = tuple(info.name for info in cityscapes.segmentation_classes)
    save_tiny("segformer", tmp_path, names)
    to_camvid = cityscapes.mappings["camvid11"].segmentation
    for label_set in (opened(tmp_path).label_set, opened(tmp_path, label_set="cityscapes19").label_set):
        assert label_set.mappings["camvid11"].segmentation == to_camvid
        assert label_set.segmentation_classes == cityscapes.segmentation_classes
        assert label_set.tasks == ("segmentation",)


def test_a_set_with_other_classes_is_refused(tmp_path: Path) -> None:
    save_tiny("segformer", tmp_path)
    with pytest.raises(RecipeError, match=r"expected the 5 classes of .* it has 19"):
        opened(tmp_path, label_set="cityscapes19")


def test_repeated_names_are_told_apart_and_gaps_left_out(tmp_path: Path) -> None:
    save_tiny("yolos", tmp_path, ("N/A", "car", "N/A", "bus", "bus"))
    names = [info.name for info in opened(tmp_path).label_set.detection_classes]
    assert names == ["car", "bus 3", "bus 4"]


def test_two_models_have_two_digests(tmp_path: Path) -> None:
    save_tiny("segformer", tmp_path / "a")
    save_tiny("segformer", tmp_path / "b", ("other", *NAMES[1:]))
    assert opened(tmp_path / "a").sha256 == opened(tmp_path / "a").sha256 != opened(tmp_path / "b").sha256


def test_the_digest_follows_the_numbers_of_ones_own_label_set(tmp_path: Path) -> None:
    """Kept words of a teacher are of the old numbers. Those of a teacher without such a file are still found."""
    save_tiny("segformer", tmp_path / "model")
    own = tmp_path / "own.yaml"
    found = []
    for numbers in (range(5), (1, 0, 2, 3, 4)):
        classes = [{"id": number, "name": name} for number, name in zip(numbers, NAMES, strict=True)]
        own.write_text(yaml.safe_dump({"name": "own", "segmentation": classes}))
        found.append(opened(tmp_path / "model", label_set=str(own)).sha256)
    plain = opened(tmp_path / "model")

    assert found[0] != found[1]
    assert plain.sha256 == _digest(plain._model, plain.preparation)


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no/such/folder"])
def test_a_model_that_is_not_there_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(RecipeError, match="expected a model of transformers on the hub, or a local folder") as caught:
        opened(Path(name))
    assert "\n" not in str(caught.value)
    assert "download the model elsewhere" in str(caught.value)


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=16)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="expected a model of transformers for semantic segmentation or object"):
        opened(tmp_path)


def test_a_model_without_trained_head_is_refused(tmp_path: Path) -> None:
    save_tiny("segformer", tmp_path).segformer.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="weights of a SegformerForSemanticSegmentation, such as"):
        opened(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = save_tiny("segformer", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(RecipeError, match="is not available"):
        opened(tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")])
def test_weights_that_do_not_fit_into_the_memory_are_refused(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("segformer", tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoModelForSemanticSegmentation.from_pretrained", full)
    settings = TransformersTeacher.checked({"kind": "transformers", "model": str(tmp_path)})
    with pytest.raises(RecipeError, match=r"^teachers.0: expected .* to fit into the memory, it does not; name a sm"):
        Ensemble.open([settings], FusionSettings(), load_label_set("camvid11"))


@pytest.mark.parametrize("architecture", ["segformer", "yolos"])
def test_a_model_that_says_nan_is_refused(architecture: str, tmp_path: Path) -> None:
    save_tiny(architecture, tmp_path)
    teacher = opened(tmp_path)
    for parameter in teacher._model.parameters():
        parameter.fill_(float("nan"))
    with pytest.raises(RecipeError, match="expected finite outputs of the teacher, got NaN or infinity"):
        teacher(images())
