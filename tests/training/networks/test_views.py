"""What a network sees: one view, or the frame and its half, whose boxes are in pixels of the frame."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.networks.deployed import DeployedStudent
from training.networks.heads import decode_boxes
from training.networks.student import Student, build_student
from training.networks.views import cells_of_views, run_views

HEIGHT, WIDTH = 128, 192
CELLS_OF_HALF = 8 * 12 + 4 * 6 + 2 * 3


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(3)
    network = build_student("n", 5, 3).train()
    with torch.no_grad():
        for parameter in network.detection.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(10):
            network(torch.rand(4, 3, HEIGHT, WIDTH))
    return network.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def test_one_view_is_the_network_itself(student: Student, images: torch.Tensor) -> None:
    seen, alone = run_views(student, images), student(images)
    assert seen.detection.strides == (8, 16, 32)
    torch.testing.assert_close(seen.detection.flat_class_logits(), alone.detection.flat_class_logits())
    torch.testing.assert_close(seen.segmentation_logits, alone.segmentation_logits)


@torch.no_grad()
def test_the_half_view_adds_boxes_in_pixels_of_the_frame_and_leaves_the_masks(
    student: Student, images: torch.Tensor
) -> None:
    seen = run_views(student, images, half_view=True)
    alone = student(images)
    half = student(functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=False)).detection
    torch.testing.assert_close(seen.segmentation_logits, alone.segmentation_logits)
    assert seen.detection.strides == (8, 16, 32, 16, 32, 64)
    torch.testing.assert_close(
        seen.detection.flat_class_logits()[:, :-CELLS_OF_HALF], alone.detection.flat_class_logits()
    )
    boxes = decode_boxes(seen.detection.flat_distance_logits(), seen.detection.cells())[:, -CELLS_OF_HALF:]
    torch.testing.assert_close(boxes, 2 * decode_boxes(half.flat_distance_logits(), half.cells()))
    torch.testing.assert_close(seen.detection.flat_class_logits()[:, -CELLS_OF_HALF:], half.flat_class_logits())


@torch.no_grad()
@pytest.mark.parametrize("half_view", [False, True])
def test_the_cells_are_those_of_the_outputs(student: Student, images: torch.Tensor, half_view: bool) -> None:
    cells = cells_of_views(HEIGHT, WIDTH, half_view)
    torch.testing.assert_close(cells, run_views(student, images, half_view).detection.cells())
    assert len(cells) == 24 * 16 + 12 * 8 + 6 * 4 + half_view * CELLS_OF_HALF


@torch.inference_mode()
def test_the_deployed_form_returns_the_best_cells_of_both_views(student: Student) -> None:
    picture = torch.randint(0, 256, (1, HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
    count = 24 * 16 + 12 * 8 + 6 * 4 + CELLS_OF_HALF
    _, boxes, scores, labels, _ = DeployedStudent(student, HEIGHT, WIDTH, count, half_view=True)(picture)
    detection = run_views(student, picture.permute(0, 3, 1, 2).float() / 255, half_view=True).detection
    logits, classes = detection.flat_peak_logits().max(dim=2)
    order = logits[0].argsort(descending=True)
    torch.testing.assert_close(scores[0], logits[0][order].sigmoid(), rtol=1e-3, atol=1e-5)
    found = decode_boxes(detection.flat_distance_logits(), detection.cells())[0]
    best = order[0]
    assert labels[0, 0] == classes[0, best]
    limit = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    torch.testing.assert_close(boxes[0, 0], found[best].clamp(min=torch.zeros(4), max=limit), rtol=1e-3, atol=1e-2)


def test_a_student_of_masks_alone_has_one_view() -> None:
    torch.manual_seed(0)
    masks = build_student("n", 5, 0).eval()
    with torch.no_grad():
        assert run_views(masks, torch.rand(1, 3, 64, 64), half_view=True).detection is None
