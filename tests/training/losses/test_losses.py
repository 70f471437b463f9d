"""Supervised losses against straightforward computations, and for batches at which losses fail."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.data.batch import Batch
from training.losses import SupervisedLoss
from training.losses.assigner import Targets, assign
from training.losses.boxes import box_iou, generalized_box_iou
from training.losses.detection import detection_loss
from training.losses.segmentation import count_labels, segmentation_cross_entropy, soft_jaccard
from training.networks.heads import DetectionOutputs, cell_centres, decode_boxes
from training.networks.student import Student, build_student

HEIGHT, WIDTH = 64, 96
CELLS = cell_centres([(HEIGHT // stride, WIDTH // stride) for stride in (8, 16, 32)], (8, 16, 32))


def make_batch(boxes: list[list[list[float]]], labels: list[list[int]], void: bool = False) -> Batch:
    frames = len(boxes)
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 11, (frames, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    return Batch(
        images=torch.randint(0, 256, (frames, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator),
        masks=torch.full_like(masks, 255) if void else masks,
        boxes_xyxy=[torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) for rows in boxes],
        labels=[torch.tensor(row, dtype=torch.int64) for row in labels],
        has_boxes=torch.ones(frames, dtype=torch.bool),
        box_weight=torch.ones(frames),
        views=[""] * frames,
    )


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    return build_student("n", segmentation_classes=11, detection_classes=4).train()


def losses_and_gradient(student: Student, batch: Batch) -> tuple[dict[str, float], float]:
    """Return the terms, and the largest absolute gradient of all parameters (NaN if any is NaN)."""
    student.zero_grad()
    terms = SupervisedLoss()(student(batch.images.float() / 255), batch)
    torch.stack(list(terms.values())).sum().backward()
    gradients = [parameter.grad.abs().max() for parameter in student.parameters() if parameter.grad is not None]
    return {name: float(term.detach()) for name, term in terms.items()}, float(torch.stack(gradients).max())


def iou_in_plain_words(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


def test_box_overlap() -> None:
    first = torch.tensor([[0.0, 0, 4, 4], [0, 0, 2, 2], [1, 1, 3, 5]])
    second = torch.tensor([[2.0, 2, 6, 6], [4, 0, 6, 2], [1, 1, 3, 5]])
    expected = [iou_in_plain_words(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    torch.testing.assert_close(box_iou(first, second), torch.tensor(expected))
    # The enclosing boxes are 6x6, 6x2 and 2x4. Of the first, 36 - 28 are not covered; of the second, 12 - 8.
    expected_generalized = [expected[0] - 8 / 36, expected[1] - 4 / 12, 1.0]
    torch.testing.assert_close(generalized_box_iou(first, second), torch.tensor(expected_generalized))


def test_label_counts_and_cross_entropy_equal_the_full_size_loss() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 5, 6, 8, generator=generator)
    masks = torch.randint(0, 6, (2, 24, 32), generator=generator).to(torch.uint8)
    masks[masks == 5] = 255
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0])
    counts = count_labels(masks, classes=5, stride=4)
    assert counts[1, 3, 2, 5] == (masks[1, 8:12, 20:24] == 3).sum()
    enlarged = torch.nn.functional.interpolate(logits, scale_factor=4, mode="nearest")
    expected = torch.nn.functional.cross_entropy(enlarged, masks.long(), weights, ignore_index=255)
    torch.testing.assert_close(segmentation_cross_entropy(logits, counts, weights), expected)


def test_pixels_count_with_the_confidence_of_a_teacher() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 5, 6, 8, generator=generator)
    masks = torch.randint(0, 6, (2, 24, 32), generator=generator).to(torch.uint8)
    masks[masks == 5] = 255
    confidence = torch.randint(0, 256, (2, 24, 32), generator=generator).to(torch.uint8)
    enlarged = torch.nn.functional.interpolate(logits, scale_factor=4, mode="nearest")
    each = torch.nn.functional.cross_entropy(enlarged, masks.long(), ignore_index=255, reduction="none")
    weights = (confidence.float() / 255) * (masks != 255)
    counts = count_labels(masks, 5, 4, confidence)
    found = segmentation_cross_entropy(logits, counts, torch.ones(5))
    torch.testing.assert_close(found, (each * weights).sum() / weights.sum())
    full = count_labels(masks, 5, 4, torch.full_like(masks, 255))
    torch.testing.assert_close(full, count_labels(masks, 5, 4))


def test_a_pixel_without_confidence_teaches_as_little_as_a_void_one() -> None:
    masks = torch.randint(0, 5, (1, 16, 16), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
    confidence = torch.full_like(masks, 255)
    confidence[:, :8] = 0
    void = masks.clone()
    void[:, :8] = 255
    torch.testing.assert_close(count_labels(masks, 5, 4, confidence), count_labels(void, 5, 4))


def test_soft_jaccard_is_the_iou_of_certain_predictions() -> None:
    masks = torch.randint(0, 3, (1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    masks = masks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    masks[:, :8] = 255
    predicted = torch.randint(0, 3, (1, 16, 16), generator=torch.Generator().manual_seed(3))
    logits = 100.0 * torch.nn.functional.one_hot(predicted, 4).permute(0, 3, 1, 2).float()
    valid, truth = (masks[:, ::4, ::4] != 255), masks[:, ::4, ::4]
    ious = []
    for label in range(3):  # class 3 is absent and does not count
        hit = (valid & (truth == label) & (predicted == label)).sum()
        either = (valid & ((truth == label) | (predicted == label))).sum()
        ious.append(float(hit) / float(either))
    found = soft_jaccard(logits, count_labels(masks, classes=4, stride=4))
    assert float(found) == pytest.approx(1 - sum(ious) / 3, abs=1e-4)


def random_predictions(frames: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(frames, len(CELLS), 4, generator=generator)
    boxes = decode_boxes(2 * torch.randn(frames, len(CELLS), 4, generator=generator), CELLS)
    return scores, boxes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 2**16), st.sampled_from([1, 4, 10]))
def test_no_cell_serves_two_objects(objects: int, seed: int, cells_per_object: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(objects, 2, generator=generator) * torch.tensor([WIDTH - 4.0, HEIGHT - 4.0])
    size = 1 + 40 * torch.rand(objects, 2, generator=generator) ** 2
    boxes = torch.cat([corner, (corner + size)], dim=1)
    boxes = torch.cat([boxes, boxes[: objects // 2]])  # some objects appear twice in the same place
    labels = torch.randint(0, 4, (len(boxes),), generator=generator)
    targets = Targets.pad([boxes, boxes[:0]], [labels, labels[:0]])
    found = assign(targets, *random_predictions(2, seed), CELLS, cells_per_object)
    served = list(zip(found.image.tolist(), found.cell.tolist(), strict=True))
    assert len(set(served)) == len(served)
    assert set(found.image.tolist()) <= {0}
    assert ((found.quality >= 0) & (found.quality <= 1)).all()
    per_object = torch.bincount(found.target, minlength=len(boxes))
    assert (per_object <= cells_per_object).all()
    for cell, target in zip(found.cell.tolist(), found.target.tolist(), strict=True):
        x, y, stride = CELLS[cell].tolist()
        x1, y1, x2, y2 = boxes[target].tolist()
        in_box = x1 < x < x2 and y1 < y < y2
        holds_centre = abs((x1 + x2) / 2 - x) <= stride / 2 and abs((y1 + y2) / 2 - y) <= stride / 2
        assert in_box or holds_centre


def test_every_object_gets_its_own_cell_while_there_are_cells() -> None:
    # Two signs on one pole in one cell of 8 px, and the same car twice: each object gets a cell.
    boxes = torch.tensor([[17.0, 17, 20, 20], [20, 20, 23, 23], [30, 10, 80, 50], [30, 10, 80, 50]])
    targets = Targets.pad([boxes], [torch.tensor([3, 3, 0, 0])])
    for seed in range(20):
        found = assign(targets, *random_predictions(1, seed), CELLS, cells_per_object=1)
        assert sorted(found.target.tolist()) == [0, 1, 2, 3]


def test_a_single_cell_is_the_best_by_score_and_overlap() -> None:
    box = [20.0, 10.0, 70.0, 50.0]
    targets = Targets.pad([torch.tensor([box])], [torch.tensor([2])])
    scores, boxes = random_predictions(1, seed=7)
    found = assign(targets, scores, boxes, CELLS, cells_per_object=1)
    ranking = {}
    for cell, (x, y, _) in enumerate(CELLS.tolist()):
        if box[0] < x < box[2] and box[1] < y < box[3]:
            predicted = boxes[0, cell].tolist()
            hollow = predicted[2] <= predicted[0] or predicted[3] <= predicted[1]
            overlap = 0.0 if hollow else iou_in_plain_words(predicted, box)
            ranking[cell] = (float(scores[0, cell, 2]) * overlap**4, overlap)
    best = max(ranking, key=lambda cell: ranking[cell][0])
    assert found.cell.tolist() == [best]
    assert float(found.quality) == pytest.approx(ranking[best][1], abs=1e-4)


def perfect_outputs(boxes: Tensor, labels: Tensor, cells: list[int]) -> DetectionOutputs:
    """Return outputs that detect `boxes` exactly at `cells`, and nothing elsewhere."""
    class_logits = torch.full((1, len(CELLS), 4), -15.0)
    distance_logits = torch.zeros(1, len(CELLS), 4)
    for box, label, cell in zip(boxes, labels, cells, strict=True):
        x, y, stride = CELLS[cell].tolist()
        class_logits[0, cell, label] = 15.0
        distances = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride + 0.5
        distance_logits[0, cell] = distances.expm1().log()
    return DetectionOutputs(_levels(class_logits), _levels(distance_logits), (8, 16, 32))


def _levels(flat: Tensor) -> tuple[Tensor, ...]:
    sizes = [(HEIGHT // stride, WIDTH // stride) for stride in (8, 16, 32)]
    parts = flat.transpose(1, 2).split([rows * columns for rows, columns in sizes], dim=2)
    return tuple(part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True))


def test_perfect_detections_cost_nothing_but_a_repeated_one_does() -> None:
    boxes, labels = torch.tensor([[8.0, 8, 40, 40], [50.0, 20, 90, 60]]), torch.tensor([0, 1])
    targets = Targets.pad([boxes], [labels])
    cells = [int(((CELLS[:, :2] - point).abs().sum(1)).argmin()) for point in torch.tensor([[20.0, 20], [68.0, 36]])]
    class_loss, box_loss = detection_loss(perfect_outputs(boxes, labels, cells), targets, torch.ones(1), 1)
    assert float(class_loss) == pytest.approx(0, abs=1e-4)
    assert float(box_loss) == pytest.approx(0, abs=1e-4)
    twice = perfect_outputs(boxes[[0, 1, 0]], labels[[0, 1, 0]], [*cells, cells[0] + 1])
    repeated_loss, _ = detection_loss(twice, targets, torch.ones(1), 1)
    assert float(repeated_loss) == pytest.approx(15.0 / 2, rel=0.01)  # one background cell is sure: -log(e ** -15)


def test_the_frame_weight_scales_and_unknown_objects_do_not_count(student: Student) -> None:
    batch = make_batch([[[10, 10, 40, 40]], [[5, 5, 30, 50]]], [[0], [1]])
    with torch.no_grad():
        outputs = student(batch.images.float() / 255)
    loss = SupervisedLoss()
    batch.has_boxes = torch.tensor([True, False])
    only_first = loss(outputs, batch)
    batch.boxes_xyxy[1], batch.labels[1] = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    without_them = loss(outputs, batch)
    for name, value in only_first.items():
        assert float(value) == pytest.approx(float(without_them[name]), rel=1e-5), name
    batch.has_boxes = torch.tensor([False, False])
    terms = loss(outputs, batch)
    assert all(float(terms[name]) == 0 for name in terms if not name.startswith("segmentation"))
    assert float(terms["segmentation"]) > 0


@pytest.mark.parametrize(
    ("boxes", "labels", "void"),
    [
        ([[[10, 10, 40, 40], [50, 20, 52, 23]], [[0, 0, 96, 64]]], [[0, 3], [2]], False),
        ([[], []], [[], []], False),
        ([[], [[10, 10, 40, 40]]], [[], [1]], True),
        ([[[10, 10, 10, 40]], [[20, 20, 20.001, 20.001]]], [[0], [1]], False),
        ([[[-30, -20, 150, 90]], [[200, 200, 220, 220]]], [[0], [1]], False),
    ],
    ids=["ordinary", "no objects", "all void", "no area", "beyond the image"],
)
def test_terms_and_gradients_are_finite(
    student: Student, boxes: list[list[list[float]]], labels: list[list[int]], void: bool
) -> None:
    terms, gradient = losses_and_gradient(student, make_batch(boxes, labels, void))
    detection = {f"{branch}_{part}" for branch in ("detection", "one_to_many") for part in ("class", "box")}
    assert set(terms) == {"segmentation", "segmentation_region"} | detection
    assert all(math.isfinite(value) and value >= 0 for value in terms.values()), terms
    assert math.isfinite(gradient)
    assert gradient > 0
    if void:
        assert terms["segmentation"] == 0
        assert terms["segmentation_region"] == 0


def test_losses_are_float32_under_autocast(student: Student) -> None:
    batch = make_batch([[[10, 10, 40, 40]]], [[0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = student(batch.images.float() / 255)
        assert outputs.segmentation_logits.dtype == torch.bfloat16
        terms = SupervisedLoss()(outputs, batch)
    assert all(term.dtype == torch.float32 for term in terms.values())


def test_class_weights_of_the_wrong_number_are_refused(student: Student) -> None:
    batch = make_batch([[]], [[]])
    with pytest.raises(ValueError, match="expected 11 class weights"):
        SupervisedLoss(class_weights=[1.0, 2.0])(student(batch.images.float() / 255), batch)


def test_task_weights_scale_their_terms(student: Student) -> None:
    batch = make_batch([[[10, 10, 40, 40]]], [[0]])
    with torch.no_grad():
        outputs = student(batch.images.float() / 255)
    plain = SupervisedLoss()(outputs, batch)
    weighted = SupervisedLoss(segmentation=0.5, detection=3.0)(outputs, batch)
    for name, value in plain.items():
        factor = 0.5 if name.startswith("segmentation") else 3.0
        assert float(weighted[name]) == pytest.approx(factor * float(value), rel=1e-5), name
