"""The student: shapes of its outputs, fusing, and the deployed form."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from label_sets import CAMVID
from torch import nn

from training.evaluation.torch_model import TorchModel
from training.export.settings import ExportSettings
from training.networks.backbone import Backbone
from training.networks.blocks import NormalizedConvolution, ReparameterizedConvolution
from training.networks.deployed import DeployedStudent, block_uncertainty
from training.networks.heads import DetectionOutputs, cell_centres, decode_boxes
from training.networks.student import SIZES, Student, build_student
from training.recipe import Recipe

HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def student() -> Student:
    """Return a small student whose normalisation has statistics of data, so that fusing changes its weights."""
    torch.manual_seed(0)
    network = build_student("n", segmentation_classes=11, detection_classes=4)
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for _ in range(30):
            network(torch.rand(4, 3, HEIGHT, WIDTH))
    return network.eval()


@pytest.mark.parametrize(
    "block",
    [
        NormalizedConvolution(6, 8, kernel_size=1, activation=False),
        NormalizedConvolution(6, 8, kernel_size=3, stride=2),
        ReparameterizedConvolution(6, 6),
        ReparameterizedConvolution(6, 8),
        ReparameterizedConvolution(6, 6, stride=2),
    ],
)
def test_block_fuses_to_one_convolution(block: NormalizedConvolution) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            block.train()(torch.randn(2, 6, 10, 12) * 3 + 1)
        nn.init.normal_(block.normalization.weight)
        nn.init.normal_(block.normalization.bias)
        inputs = torch.randn(2, 6, 10, 12)
        fused = block.eval().fused()
        torch.testing.assert_close(fused(inputs), block(inputs), rtol=1e-4, atol=1e-5)
    assert sum(isinstance(module, nn.Conv2d) for module in fused.modules()) == 1


def test_reparameterized_block_is_the_sum_of_its_branches() -> None:
    torch.manual_seed(2)
    block = ReparameterizedConvolution(5, 5).eval()
    nn.init.normal_(block.scale)
    inputs = torch.randn(1, 5, 7, 9)
    branches = (
        block.scale.view(1, -1, 1, 1) * nn.functional.conv2d(inputs, block.weight, padding=1)
        + nn.functional.conv2d(inputs, block.pointwise)
        + inputs
    )
    expected = torch.relu(block.normalization(branches))
    torch.testing.assert_close(block(inputs), expected, rtol=1e-4, atol=1e-5)


def test_fused_student_equals_unfused(student: Student) -> None:
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        expected, found = student(images), student.fused()(images)
    pairs = [
        (expected.segmentation_logits, found.segmentation_logits),
        (expected.detection.flat_class_logits(), found.detection.flat_class_logits()),
        (expected.detection.flat_distance_logits(), found.detection.flat_distance_logits()),
        (expected.features.p5, found.features.p5),
    ]
    for before, after in pairs:
        assert (before - after).abs().max() < 1e-4
    assert student.detection_one_to_many is not None  # fused() did not change the original
    assert not [module for module in student.fused().modules() if isinstance(module, nn.BatchNorm2d)]


def test_a_recipe_can_name_every_size() -> None:
    assert get_args(Recipe.model_fields["size"].annotation) == tuple(SIZES)


@pytest.mark.parametrize("size", sorted(SIZES))
def test_output_shapes(size: str) -> None:
    student = build_student(size, segmentation_classes=7, detection_classes=3)
    outputs = student.train()(torch.rand(2, 3, 64, 96))
    assert outputs.segmentation_logits.shape == (2, 7, 16, 24)
    assert outputs.features.segmentation.shape[2:] == (16, 24)
    assert [feature.shape[2:] for feature in (outputs.features.p3, outputs.features.p4, outputs.features.p5)] == [
        (8, 12),
        (4, 6),
        (2, 3),
    ]
    cells = 8 * 12 + 4 * 6 + 2 * 3
    for branch in (outputs.detection, outputs.detection_one_to_many):
        assert branch is not None
        assert branch.flat_class_logits().shape == (2, cells, 3)
        assert branch.flat_distance_logits().shape == (2, cells, 4)
        assert branch.cells().shape == (cells, 3)
    assert student.eval()(torch.rand(1, 3, 64, 96)).detection_one_to_many is None


def test_only_the_one_to_many_branch_gives_gradients_to_the_features() -> None:
    student = build_student("n", 11, 4).train()
    outputs = student(torch.rand(1, 3, 64, 96))
    outputs.detection.flat_class_logits().sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in student.neck.parameters())
    assert all(parameter.grad is not None for parameter in student.detection.class_layers.parameters())
    assert outputs.detection_one_to_many is not None
    outputs.detection_one_to_many.flat_class_logits().sum().backward()
    assert all(parameter.grad is not None for parameter in student.neck.parameters())


@pytest.mark.parametrize(("size", "parameters"), [("s", 2.1e6), ("l", 13.7e6)])
def test_deployed_cost(size: str, parameters: float) -> None:
    deployed = DeployedStudent(build_student(size, 11, 4), 384, 640, 100)
    assert sum(parameter.numel() for parameter in deployed.parameters()) == pytest.approx(parameters, rel=0.05)


def test_neck_and_heads_work_with_any_backbone_of_four_strides() -> None:
    backbone = Backbone((4, 8, 8, 12, 16), (1, 1, 1, 1, 1))
    student = Student(backbone, SIZES["n"], segmentation_classes=7, detection_classes=3)
    outputs = student.eval()(torch.rand(2, 3, 64, 96))
    assert outputs.segmentation_logits.shape == (2, 7, 16, 24)
    assert outputs.features.p5.shape == (2, SIZES["n"].pyramid_channels, 2, 3)


def test_scores_are_low_before_training() -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        outputs = build_student("n", 11, 4).train()(torch.rand(4, 3, HEIGHT, WIDTH))
    for branch in (outputs.detection, outputs.detection_one_to_many):
        assert branch is not None
        assert 0.005 < float(branch.flat_class_logits().sigmoid().mean()) < 0.02


@pytest.mark.parametrize(("size", "shape"), [("n", (50, 64)), ("n", (64, 40))])
def test_refuses_sizes_that_do_not_halve_five_times(size: str, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        build_student(size, 11, 4)(torch.rand(1, 3, *shape))


def test_refuses_an_unknown_size() -> None:
    with pytest.raises(ValueError, match="n, s, m"):
        build_student("xl", 11, 4)


def test_cells_lie_at_the_centres_in_reading_order() -> None:
    cells = cell_centres([(2, 3), (1, 1)], (8, 16))
    assert cells.tolist() == [
        [4, 4, 8], [12, 4, 8], [20, 4, 8],
        [4, 12, 8], [12, 12, 8], [20, 12, 8],
        [8, 8, 16],
    ]  # fmt: skip


def test_decoded_boxes() -> None:
    inverse_softplus = math.log(math.expm1(1.5))  # a distance of one stride
    boxes = decode_boxes(torch.full((1, 4), inverse_softplus), torch.tensor([[20.0, 12.0, 8.0]]))
    torch.testing.assert_close(boxes, torch.tensor([[12.0, 4.0, 28.0, 20.0]]))
    # A box of 3 px in the corner of an 8 px cell does not contain the cell's centre and can still be represented.
    smallest = decode_boxes(torch.full((1, 4), -20.0), torch.tensor([[4.0, 4.0, 8.0]]))
    torch.testing.assert_close(smallest, torch.tensor([[8.0, 8.0, 0.0, 0.0]]))


def test_deployed_outputs_follow_from_the_logits(student: Student) -> None:
    torch.manual_seed(3)
    images = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    with torch.no_grad():
        outputs = student(images.permute(0, 3, 1, 2).float() / 255)
        class_map, boxes, scores, labels, uncertainty = DeployedStudent(student, HEIGHT, WIDTH, 20)(images)
    assert (class_map == outputs.segmentation_logits.argmax(1)).float().mean() > 0.999
    assert (class_map.dtype, labels.dtype) == (torch.uint8, torch.int32)
    assert (scores.diff(dim=1) <= 0).all()
    limits = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    assert ((boxes >= 0) & (boxes <= limits)).all()
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    # Decode the best cell of one frame by hand.
    cell_scores = outputs.detection.flat_peak_logits()[1].sigmoid()
    best = int(cell_scores.max(dim=1).values.argmax())
    assert scores[1, 0] == pytest.approx(float(cell_scores[best].max()), abs=1e-5)
    assert int(labels[1, 0]) == int(cell_scores[best].argmax())
    distances = outputs.detection.flat_distance_logits()[1, best]
    x, y, stride = outputs.detection.cells()[best].tolist()
    left, top, right, bottom = ((nn.functional.softplus(distances) - 0.5) * stride).tolist()
    box = torch.tensor([x - left, y - top, x + right, y + bottom]).clamp(min=0).minimum(limits)
    torch.testing.assert_close(boxes[1, 0], box, atol=1e-3, rtol=0)
    assert uncertainty.shape == (2, HEIGHT // 32, WIDTH // 32)


@torch.no_grad()
def test_scales_of_scores_change_neither_classes_nor_boxes(student: Student) -> None:
    torch.manual_seed(5)
    images = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    detection = student(images.permute(0, 3, 1, 2).float() / 255).detection
    cells, classes = detection.flat_class_logits().shape[1:]
    scales = [(0.5 + 0.4 * label, 2.0 - label) for label in range(classes)]

    _, plain_boxes, plain_scores, plain_labels, _ = DeployedStudent(student, HEIGHT, WIDTH, cells)(images)
    _, boxes, scores, labels, _ = DeployedStudent(student, HEIGHT, WIDTH, cells, scales)(images)

    factors = torch.tensor(scales)[plain_labels.long()]
    expected = (plain_scores.logit() * factors[..., 0] + factors[..., 1]).sigmoid()
    order = expected.argsort(dim=1, descending=True)
    assert (scores.diff(dim=1) <= 0).all()
    torch.testing.assert_close(scores, expected.gather(1, order), atol=1e-4, rtol=1e-4)
    for frame in range(2):  # rows of nearly equal scores may change places
        old, new = (
            sorted(zip(kinds.tolist(), each.round().tolist(), strict=True))
            for kinds, each in ((plain_labels[frame], plain_boxes[frame]), (labels[frame], boxes[frame]))
        )
        assert old == new


def test_deployed_batch_equals_frames_alone(student: Student) -> None:
    torch.manual_seed(4)
    images = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    deployed = DeployedStudent(student, HEIGHT, WIDTH, 10)
    with torch.no_grad():
        together = deployed(images)
        for index in range(2):
            alone = deployed(images[index : index + 1])
            for name, both, one in zip(
                ("map", "boxes", "scores", "labels", "uncertainty"), together, alone, strict=True
            ):
                torch.testing.assert_close(
                    both[index], one[0], atol=1e-3, rtol=0, msg=lambda text, n=name: f"{n}: {text}"
                )


def test_validation_runs_on_the_device_of_the_student() -> None:
    """Validation runs on the device of the student. The meta device refuses constants of another device, like a GPU."""
    there = TorchModel(
        build_student("n", 11, 4).to("meta").eval(), ExportSettings(CAMVID, height=64, width=96, max_detections=20)
    )
    assert {value.device.type for value in there.deployed.state_dict().values()} == {"meta"}
    boxes = there.deployed(torch.zeros(1, 64, 96, 3, dtype=torch.uint8, device="meta"))[1]
    assert boxes.shape == (1, 20, 4)


def test_deployed_refuses_more_detections_than_cells(student: Student) -> None:
    with pytest.raises(ValueError, match="fewer than the 100"):
        DeployedStudent(student, 32, 64, 100)


def test_uncertainty_is_0_for_certain_and_1_for_equal_logits() -> None:
    logits = torch.zeros(1, 11, 8, 16)
    logits[:, 3, :, 8:] = 300.0  # so far apart that softmax().log() is infinite
    found = block_uncertainty(logits)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0]]]), atol=1e-6, rtol=0)
    half = torch.full((1, 11, 8, 8), -50.0)
    half[:, :2] = 0.0
    assert float(block_uncertainty(half)) == pytest.approx(math.log(2) / math.log(11), abs=1e-5)


def test_uncertainty_of_a_single_class_is_0() -> None:
    assert float(block_uncertainty(torch.randn(1, 1, 8, 8))) == 0.0


def test_of_neighbours_of_one_class_only_the_surer_is_kept() -> None:
    level = torch.full((1, 2, 6, 6), -5.0)
    level[0, 0, 2, 2] = 2.0
    level[0, 0, 2, 3] = 1.5  # next to a surer cell of its class
    level[0, 1, 3, 2] = 1.0  # next to it, but of another class
    level[0, 0, 5, 5] = 0.5  # alone
    distances = torch.zeros(1, 4, 6, 6)
    found = DetectionOutputs((level,), (distances,), (8,)).flat_peak_logits()[0]
    kept = {(int(cell) // 6, int(cell) % 6, int(label)) for cell, label in (found > 0).nonzero()}
    assert kept == {(2, 2, 0), (3, 2, 1), (5, 5, 0)}
    assert float(found[2 * 6 + 3, 0]) < -15
