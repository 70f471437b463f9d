"""What a source does not label gets no gradient from its frames: exactly none, whatever the labels and the network."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.data.batch import Batch
from training.losses import SupervisedLoss
from training.networks.heads import DetectionOutputs, cell_centres
from training.networks.student import StudentFeatures, StudentOutputs

HEIGHT, WIDTH, FRAMES, MASK_CLASSES, BOX_CLASSES = 64, 96, 2, 5, 3
STRIDES = (8, 16, 32)
CELLS = cell_centres([(HEIGHT // stride, WIDTH // stride) for stride in STRIDES], STRIDES)
FLAGS = st.lists(st.booleans(), min_size=FRAMES * MASK_CLASSES, max_size=FRAMES * MASK_CLASSES)
EDGE = st.integers(0, HEIGHT)
REGION = st.tuples(EDGE, EDGE, st.integers(1, WIDTH), st.integers(1, HEIGHT), st.integers(-1, BOX_CLASSES - 1))


def outputs_to_train(generator: torch.Generator) -> StudentOutputs:
    """Return outputs of a network as leaves that collect gradients."""

    def branch() -> DetectionOutputs:
        sizes = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
        levels = [
            tuple(torch.randn(FRAMES, channels, *size, generator=generator).requires_grad_() for size in sizes)
            for channels in (BOX_CLASSES, 4)
        ]
        return DetectionOutputs(levels[0], levels[1], STRIDES)

    logits = torch.randn(FRAMES, MASK_CLASSES, HEIGHT // 4, WIDTH // 4, generator=generator).requires_grad_()
    unused = torch.zeros(1)
    return StudentOutputs(logits, branch(), branch(), StudentFeatures(unused, unused, unused, unused))


def gradients(outputs: StudentOutputs, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients of the class logits: of pixels [N, C, h, w], and of each branch [N, cells, classes]."""
    torch.stack(list(SupervisedLoss()(outputs, batch).values())).sum().backward()
    assert outputs.segmentation_logits.grad is not None
    assert outputs.detection_one_to_many is not None
    branches = (outputs.detection, outputs.detection_one_to_many)
    cells = [
        torch.cat([level.grad.flatten(2) for level in branch.class_logits if level.grad is not None], 2).transpose(1, 2)
        for branch in branches
    ]
    return outputs.segmentation_logits.grad, cells


def batch_of(masks: Tensor, boxes: list[Tensor], labels: list[Tensor], **partial: object) -> Batch:
    return Batch(
        images=torch.zeros(FRAMES, 3, HEIGHT, WIDTH, dtype=torch.uint8),
        masks=masks,
        boxes_xyxy=boxes,
        labels=labels,
        has_boxes=torch.ones(FRAMES, dtype=torch.bool),
        box_weight=torch.ones(FRAMES),
        views=[""] * FRAMES,
        **partial,
    )


@settings(max_examples=40, deadline=None)
@given(pixels=FLAGS, boxes=FLAGS, seed=st.integers(0, 2**16), objects=st.integers(0, 4))
def test_a_class_that_a_source_does_not_label_gets_no_gradient(
    pixels: list[bool], boxes: list[bool], seed: int, objects: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labeled_pixels = torch.tensor(pixels).reshape(FRAMES, MASK_CLASSES)
    labeled_boxes = torch.tensor(boxes[: FRAMES * BOX_CLASSES]).reshape(FRAMES, BOX_CLASSES)
    masks = torch.randint(0, MASK_CLASSES, (FRAMES, HEIGHT, WIDTH), generator=generator)
    for frame in range(FRAMES):  # a source has no pixels and no boxes of classes that it does not label
        masks[frame][~labeled_pixels[frame][masks[frame]]] = 255
    known = [labeled_boxes[frame].nonzero()[:, 0] for frame in range(FRAMES)]
    labels = [
        ids[torch.randint(0, max(1, len(ids)), (objects * bool(len(ids)),), generator=generator)] for ids in known
    ]
    corners = [40 * torch.rand(len(ids), 4, generator=generator) for ids in labels]
    xyxy = [torch.cat([one[:, :2], one[:, :2] + one[:, 2:] + 8], 1) for one in corners]
    found, cells = gradients(
        outputs_to_train(generator),
        batch_of(masks.byte(), xyxy, labels, labeled_pixels=labeled_pixels, labeled_boxes=labeled_boxes),
    )
    assert torch.isfinite(found).all()
    for frame, label in (~labeled_pixels).nonzero().tolist():
        assert not found[frame, label].any()
    for branch in cells:
        assert torch.isfinite(branch).all()
        for frame, label in (~labeled_boxes).nonzero().tolist():
            assert not branch[frame, :, label].any()
        for frame, label in labeled_boxes.nonzero().tolist():
            assert branch[frame, :, label].any(), "background of a labelled class teaches"
    for frame in range(FRAMES):
        if labeled_pixels[frame].sum() > 1 and (masks[frame] != 255).any():
            assert found[frame][labeled_pixels[frame]].any()


@settings(max_examples=40, deadline=None)
@given(regions=st.lists(REGION, max_size=3), seed=st.integers(0, 2**16))
def test_background_in_an_ignored_region_gets_no_gradient_and_elsewhere_it_does(
    regions: list[tuple[int, ...]], seed: int
) -> None:
    ignored = torch.tensor([[x, y, x + width, y + height] for x, y, width, height, _ in regions]).reshape(-1, 4)
    classes = torch.tensor([region[4] for region in regions], dtype=torch.int64)
    void = torch.full((FRAMES, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    nothing = [torch.zeros(0, 4)] * FRAMES, [torch.zeros(0, dtype=torch.int64)] * FRAMES
    regions_of = {"ignored_xyxy": [ignored.float(), nothing[0][0]], "ignored_labels": [classes, nothing[1][0]]}
    _, branches = gradients(
        outputs_to_train(torch.Generator().manual_seed(seed)), batch_of(void, *nothing, **regions_of)
    )
    inside = torch.zeros(len(CELLS), BOX_CLASSES, dtype=torch.bool)
    for (left, top, right, bottom), label in zip(ignored.tolist(), classes.tolist(), strict=True):
        x, y = CELLS[:, 0], CELLS[:, 1]
        hidden = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        inside[hidden, slice(None) if label < 0 else label] = True
    for branch in branches:
        assert not branch[0][inside].any()
        assert (branch[0][~inside] != 0).all()
        assert (branch[1] != 0).all(), "a region counts in its own frame only"


def test_an_object_in_an_ignored_region_is_learnt() -> None:
    void = torch.full((FRAMES, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    boxes, labels = [torch.tensor([[8.0, 8, 40, 40]]), torch.zeros(0, 4)], [torch.tensor([1]), torch.zeros(0).long()]
    everywhere = {
        "ignored_xyxy": [torch.tensor([[0.0, 0, WIDTH, HEIGHT]])] * FRAMES,
        "ignored_labels": [torch.tensor([-1])] * FRAMES,
    }
    outputs = outputs_to_train(torch.Generator().manual_seed(0))
    _, (one_to_one, one_to_many) = gradients(outputs, batch_of(void, boxes, labels, **everywhere))
    assert one_to_one[0, :, 1].count_nonzero() == 1
    assert 1 <= one_to_many[0, :, 1].count_nonzero() <= 10
    assert not one_to_one[0, :, [0, 2]].any()
    assert not one_to_one[1].any()
    assert sum(level.grad.abs().sum() for level in outputs.detection.distance_logits) > 0
