"""ESPNetv2: published weights under our names, classes by name, what Cityscapes taught it, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st
from published_espnetv2 import published
from torch import Tensor, nn

from training.checkpoint import load_student
from training.config.sections import BackboneRecipe, QuantizationAwareRecipe
from training.errors import CheckpointError, RecipeError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping
from training.networks.class_transfer import start_classifier, with_classes
from training.networks.espnetv2 import DECODER_WIDTHS, ESPNetV2, ESPNetV2Quarter
from training.networks.espnetv2_weights import CLASSIFIER, LARGEST_FILE_BYTES
from training.networks.heads import PixelClassifier
from training.networks.prelu_blocks import Prelu, replace_prelus
from training.networks.quantization_aware import quantization_aware
from training.networks.selected_backbone import build_backbone
from training.networks.student import Student, build_student
from training.starting_weights import load_weights_into

HEIGHT, WIDTH = 64, 96
WEIGHTS = ROOT / "data" / "teachers" / "espnetv2_s_2.0_cityscapes.pth"
TEACHER = ROOT / "models" / "weights" / "teacher_espnetv2_camvid.safetensors"
PLAIN = ROOT / "models" / "weights" / "student_s_streets.safetensors"
CAMVID_VAL = ROOT / "data" / "camvid" / "val"
MASKS, STREETS = load_label_set("camvid11_masks"), load_label_set("cityscapes19")


@pytest.fixture(scope="module")
def network() -> ESPNetV2:
    torch.manual_seed(0)
    return ESPNetV2().eval()


@pytest.fixture(scope="module")
def weights(network: ESPNetV2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "espnetv2.pth"
    torch.save(published(network), path)
    return path


def student_on(pretrained: Path | str = "", classes: LabelSet = MASKS, boxes: int = 0) -> Student:
    backbone = build_backbone(BackboneRecipe(architecture="espnetv2", pretrained=str(pretrained)))
    student = build_student("n", len(classes.segmentation), boxes, backbone)
    start_classifier(student, classes)
    return student


def test_published_weights_come_in_under_our_names(network: ESPNetV2, weights: Path) -> None:
    student = student_on(weights)
    found = student.backbone.state_dict()
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())


def test_classes_start_from_the_published_classifier_by_name(network: ESPNetV2, weights: Path) -> None:
    student, state = student_on(weights), published(network)
    assert isinstance(student.segmentation, PixelClassifier)
    theirs = [info.name for info in STREETS.segmentation_classes]
    pairs = {"road": "road", "pavement": "sidewalk", "sign": "traffic sign", "bicyclist": "rider", "fence": "fence"}
    ours = [info.name for info in MASKS.segmentation_classes]
    for name, origin in pairs.items():
        place, there = ours.index(name), theirs.index(origin)
        assert torch.equal(student.segmentation.classifier.weight[place], state[f"{CLASSIFIER}.weight"][there])
        assert torch.equal(student.segmentation.classifier.bias[place], state[f"{CLASSIFIER}.bias"][there])


def test_a_class_without_a_published_one_stays_random(weights: Path) -> None:
    classes = LabelSet.checked({"name": "one", "segmentation": [{"id": 0, "name": "hovercraft"}]})
    student = student_on(weights, classes)
    assert student.segmentation is not None
    assert not torch.equal(student.segmentation.classifier.bias, student_on("", classes).segmentation.classifier.bias)  # type: ignore[union-attr]
    assert float(student.segmentation.classifier.weight.abs().max()) < 10**-0.5  # as a new layer is


@pytest.mark.parametrize(("boxes", "has_neck"), [(0, False), (3, True)])
def test_every_trained_parameter_has_a_gradient(boxes: int, has_neck: bool) -> None:
    student = student_on(boxes=boxes).train()
    outputs = student(torch.rand(2, 3, HEIGHT, WIDTH))
    found = [outputs.segmentation_logits]
    for branch in (outputs.detection, outputs.detection_one_to_many):
        found += [*branch.class_logits, *branch.distance_logits] if branch is not None else []
    torch.stack([values.square().mean() for values in found]).sum().backward()
    assert not [name for name, value in student.named_parameters() if value.requires_grad and value.grad is None]
    assert (student.neck is not None) == has_neck
    assert outputs.segmentation_logits.shape == (2, 11, HEIGHT // 4, WIDTH // 4)


def test_frozen_statistics_stay_while_the_weights_learn(weights: Path) -> None:
    recipe = BackboneRecipe(architecture="espnetv2", pretrained=str(weights), frozen_statistics=True)
    student = build_student("n", 11, 0, build_backbone(recipe)).train()
    before = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    student(torch.rand(2, 3, HEIGHT, WIDTH)).segmentation_logits.square().mean().backward()
    torch.optim.SGD(student.parameters(), lr=0.1).step()
    changed = {name for name, value in student.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    assert changed == {name for name, _ in student.backbone.named_parameters()}
    assert student.backbone.training


def test_frozen_statistics_stay_on_several_gpus(weights: Path) -> None:
    recipe = BackboneRecipe(architecture="espnetv2", pretrained=str(weights), frozen_statistics=True)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(build_backbone(recipe)).train()  # as Lightning does there
    normalizations = [module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert normalizations
    assert not [module for module in normalizations if module.training]


def test_classes_of_another_set_need_no_neck(weights: Path) -> None:
    trained, like = student_on(weights, boxes=3), student_on()
    names = [info.name for info in MASKS.segmentation_classes]
    like.load_state_dict(with_classes(trained, (names, ["a", "b", "c"]), like, (names, [])).state_dict())


def test_the_short_decoder_is_that_of_the_whole_network_without_its_last_stage(
    network: ESPNetV2, weights: Path
) -> None:
    recipe = BackboneRecipe(architecture="espnetv2_quarter", pretrained=str(weights))
    short = build_backbone(recipe).eval()
    assert isinstance(short, ESPNetV2Quarter)
    assert short.pretrained_classifier is None  # the published one reads the last stage
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in short.state_dict().items())
    fine = []
    hook = network.decoder.stages[1].register_forward_hook(lambda module, inputs, outputs: fine.append(outputs))
    images = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        whole = network(images)
        hook.remove()
        for ours, theirs in zip(short(images), [*fine, *whole[1:]], strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_prelu_in_training_has_the_outputs_and_gradients_of_that_of_torch(kind: torch.dtype) -> None:
    ours, theirs = Prelu(3), nn.PReLU(3)
    found = []
    for prelu in (ours, theirs):
        prelu.weight.data.copy_(torch.tensor([-0.5, 0.25, 1.5]))
        inputs = torch.linspace(-3, 3, 2 * 3 * 4 * 5).view(2, 3, 4, 5).to(kind).requires_grad_()
        with torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            outputs = prelu(inputs)
        (outputs.float() * torch.arange(20.0).view(4, 5)).sum().backward()
        found.append((outputs, inputs.grad, prelu.weight.grad))
    assert found[0][0].dtype == found[1][0].dtype
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5 if kind == torch.float32 else 0.02, atol=1e-3)


@given(slopes=st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3))
def test_the_form_for_export_computes_the_same_as_a_prelu(slopes: list[float]) -> None:
    prelu = nn.PReLU(3)
    prelu.weight.data.copy_(torch.tensor(slopes))
    holder = nn.Sequential(nn.Sequential(prelu))
    inputs = torch.randn(2, 3, 4, 5)
    expected = prelu(inputs).detach()
    replace_prelus(holder)
    assert not [module for module in holder.modules() if isinstance(module, nn.PReLU)]
    torch.testing.assert_close(holder(inputs), expected)


def changed(state: dict[str, Tensor], **values: Tensor | None) -> dict[str, Tensor]:
    renamed = {name.replace("__", "."): value for name, value in values.items()}
    return {name: value for name, value in (state | renamed).items() if value is not None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda state: {"epoch": 3}, "holds other things than tensors"),
        (lambda state: changed(state, head__weight=torch.zeros(1)), "got head.weight; name another file"),
        (lambda state: changed(state, base_net__level1__conv__weight=None), "got .*stem.weight"),
        (lambda state: changed(state, base_net__level1__conv__weight=torch.zeros(16, 3, 3, 3)), "got size mism.*16"),
        (lambda state: changed(state, bu_dec_l4__merge_layer__3__bias=None), "got no classifier of 19 classes"),
        (lambda state: changed(state, bu_dec_l4__merge_layer__3__weight=torch.zeros(11, 10, 1, 1)), "no classifier"),
    ],
)  # fmt: skip
def test_other_weights_are_refused(
    content: Callable[[dict[str, Tensor]], object], words: str, network: ESPNetV2, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save(content(published(network)), path)
    for architecture in ("espnetv2", "espnetv2_quarter"):
        with pytest.raises(RecipeError, match=rf"backbone\.pretrained .*other\.pth: expected .*{words}"):
            build_backbone(BackboneRecipe(architecture=architecture, pretrained=str(path)))


def test_absent_damaged_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(RecipeError, match=r"weights\.pth: expected a file of weights, there is no file; docs"):
        student_on(path)
    path.write_bytes(b"no weights")
    with pytest.raises(RecipeError, match=r"weights\.pth: .*cannot be read"):
        student_on(path)
    with path.open("r+b") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    with pytest.raises(RecipeError, match=r"weights\.pth: .*at most 64 MB, it is larger"):
        student_on(path)


def test_rounding_to_8_bits_is_refused() -> None:
    with pytest.raises(RecipeError, match="espnetv2 is another; leave the section out"):
        quantization_aware(student_on(), QuantizationAwareRecipe())


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"needs the published weights in {WEIGHTS}")
@pytest.mark.skipif(not CAMVID_VAL.is_dir(), reason=f"needs CamVid in {CAMVID_VAL}")
def test_what_cityscapes_taught_it_holds_on_the_streets_of_camvid() -> None:
    """All 101 frames give 60 % in this form; layers in a wrong order or with a wrong padding give less than 20 %."""
    student = student_on(WEIGHTS, STREETS).eval()
    ids = LabelMapping.between(STREETS, MASKS.replace(name="camvid11")).mask_ids
    counts = np.zeros((12, 12), np.int64)
    for path in sorted((CAMVID_VAL / "images").iterdir())[::13]:
        picture, mask = cv2.imread(str(path)), cv2.imread(str(next((CAMVID_VAL / "masks").glob(f"{path.stem}.*"))), 0)
        assert picture is not None
        assert mask is not None
        image = torch.from_numpy(cv2.resize(picture, (640, 480))).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            found = student(image).segmentation_logits.argmax(dim=1)[0].numpy()
        found = np.minimum(
            ids[cv2.resize(found.astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)], 11
        )
        np.add.at(counts, (mask.ravel(), found.ravel()), 1)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal() - counts[11]
    assert np.mean(counts.diagonal()[:11] / union[:11]) > 0.5


def test_the_part_without_the_last_stage_starts_with_the_weights_of_the_whole() -> None:
    whole, _ = load_student(TEACHER)
    part = build_student("s", 11, 4, ESPNetV2Quarter())
    load_weights_into(part, load_label_set("camvid11"), TEACHER)
    theirs, ours = whole.backbone.state_dict(), part.backbone.state_dict()
    assert theirs.keys() > ours.keys()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        (fine, *coarse), (_, *expected) = part.eval().backbone(image), whole.eval().backbone(image)
        assert all(torch.equal(*pair) for pair in zip(coarse, expected, strict=True))
        assert fine.shape[1] == DECODER_WIDTHS[1]
        outputs = part(image)  # neck, boxes and the classifier fit these features
    assert outputs.tasks == ("segmentation", "detection")


def test_the_whole_does_not_start_with_weights_of_another_backbone() -> None:
    with pytest.raises(CheckpointError, match="expected weights of the size and backbone that the recipe names"):
        load_weights_into(build_student("s", 11, 4, ESPNetV2()), load_label_set("camvid11"), PLAIN)
