"""The consistency between a frame and its synthetic neighbour: exact warps, gradients, and runs without a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.checkpoint import read_checkpoint
from training.data.batch import Batch
from training.distillation.base import Comparison
from training.distillation.neighbour_view import ViewChange, neighbours_of, warp
from training.distillation.second_look import SecondLook
from training.distillation.temporal_losses import TemporalConsistency
from training.errors import RecipeError
from training.networks.student import Student, StudentOutputs, build_student
from training.recipe import load_recipe, parse_recipe
from training.run.train import train
from training.teachers.taught import Taught

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
STILL = ViewChange(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
MOVES = {"zoom": 0.0, "shift": 0.0, "turn_degrees": 0.0, "tilt": 0.0, "light": 0.0, "noise": 0.0}


def pictures(count: int = 3, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def coordinates(height: int, width: int) -> Tensor:
    """Return maps of x and y, from -1 to 1 between the outer edges, float32 [2, height, width]."""
    x = (torch.arange(width) + 0.5) * 2 / width - 1
    y = (torch.arange(height) + 0.5) * 2 / height - 1
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), height=st.integers(8, 40), width=st.integers(8, 40))
def test_a_map_of_places_is_warped_to_where_the_homography_says(seed: int, height: int, width: int) -> None:
    """A bilinear warp of coordinates is exact, so each pixel must say where the homography takes it."""
    view = neighbours_of(pictures(1, seed=seed), ViewChange(0.3, 0.1, 20.0, 0.2, 0.0, 0.0))
    places = coordinates(height, width)
    warped, inside = view.warped(places[None])
    flat = torch.cat([places.flatten(1), torch.ones(1, height * width)]).double()
    moved = view.homographies[0].double() @ flat
    expected = (moved[:2] / moved[2]).view(2, height, width).float()
    margin = torch.tensor([1 - 1 / width, 1 - 1 / height])[:, None, None]
    assert torch.equal(inside[0], ((expected.abs() - margin) <= 2e-6).all(dim=0)) or bool(
        ((expected.abs() - margin).abs() < 1e-5).any()
    )
    error = (warped[0] - expected).abs().amax(dim=0)[inside[0]]
    assert len(error) == 0 or float(error.max()) < 1e-5


@given(dx=st.integers(-5, 5), dy=st.integers(-5, 5))
@settings(max_examples=20, deadline=None)
def test_a_shift_by_whole_pixels_moves_the_pixels(dx: int, dy: int) -> None:
    height, width = 24, 40
    maps = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(1))
    shift = torch.eye(3)
    shift[0, 2], shift[1, 2] = 2 * dx / width, 2 * dy / height
    warped, inside = warp(maps, shift[None])
    rows, columns = torch.nonzero(inside[0], as_tuple=True)
    assert len(rows) == (height - abs(dy)) * (width - abs(dx))
    torch.testing.assert_close(warped[0, :, rows, columns], maps[0, :, rows + dy, columns + dx], atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_a_turn_keeps_distances_in_pixels(seed: int) -> None:
    view = neighbours_of(pictures(1, 64, 192, seed), ViewChange(0.0, 0.0, 30.0, 0.0, 0.0, 0.0))
    to_pixels = torch.tensor([192 / 2, 64 / 2])
    columns = view.homographies[0, :2, :2] / to_pixels[None, :] * to_pixels[:, None]
    torch.testing.assert_close(columns.T @ columns, torch.eye(2), atol=1e-5, rtol=0)


def test_the_neighbour_is_the_warped_frame_but_for_light_and_noise() -> None:
    images = pictures()
    view = neighbours_of(images, ViewChange(0.1, 0.05, 5.0, 0.05, 0.0, 0.0))
    warped, inside = view.warped(images.float() / 255)
    assert torch.equal(view.images, warped.clamp(0, 1))
    assert 0.5 < float(inside.float().mean()) < 1
    noisy = neighbours_of(images, ViewChange(0.1, 0.05, 5.0, 0.05, 0.0, 8.0))
    assert torch.equal(noisy.homographies, view.homographies)
    assert 0 < float((noisy.images - view.images).abs().mean()) < 8 / 255


def test_the_neighbour_of_a_frame_does_not_depend_on_the_batch() -> None:
    images, change = pictures(4), ViewChange(0.1, 0.05, 5.0, 0.05, 0.2, 8.0)
    whole, half = neighbours_of(images, change), neighbours_of(images[2:], change)
    assert torch.equal(whole.images[2:], half.images)
    assert torch.equal(whole.homographies[2:], half.homographies)
    assert len({tuple(each.flatten().tolist()) for each in whole.homographies}) == 4


def test_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, says = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator).softmax(1)
    counts = torch.rand(2, 4, 5, generator=generator) > 0.4
    total, number = 0.0, 0
    for frame, row, column in torch.nonzero(counts).tolist():
        p, q = says[frame, :, row, column].double(), logits[frame, :, row, column].double().softmax(0)
        total += float((p * (p.log() - q.log())).sum())
        number += 1
    value = TemporalConsistency()(logits, says, counts)
    assert float(value) == pytest.approx(total / number, rel=1e-5)


def seen_by(student: Student, images: Tensor) -> Comparison:
    outputs = student(images.float() / 255)

    def look_again(others: Tensor) -> StudentOutputs:
        again: StudentOutputs = student(others, with_one_to_many=False)
        return again

    return Comparison(outputs, Taught(None, None), Batch.of_images(images), look_again)


def test_a_neighbour_that_is_the_same_costs_nothing() -> None:
    torch.manual_seed(0)
    student = build_student("n", 11, 4).eval()
    term, images = TemporalConsistency(**MOVES), pictures(2)
    assert float(term.compare(seen_by(student, images), None).detach()) == pytest.approx(0.0, abs=1e-6)
    moved = TemporalConsistency(**{**MOVES, "shift": 0.1})
    assert float(moved.compare(seen_by(student, images), None).detach()) > 1e-6


def test_only_the_second_look_takes_the_gradient() -> None:
    torch.manual_seed(0)
    student = build_student("n", 11, 4).eval()
    seen = seen_by(student, pictures(2))
    logits = seen.student.segmentation_logits
    assert logits is not None
    value = TemporalConsistency().compare(seen, None)
    (first,) = torch.autograd.grad(value, logits, allow_unused=True, retain_graph=True)
    assert first is None
    gradients = torch.autograd.grad(value, list(student.segmentation.parameters()), allow_unused=True)
    sizes = [float(each.abs().sum()) for each in gradients if each is not None]
    assert sizes
    assert all(size == size and 0 <= size < float("inf") for size in sizes)
    assert sum(sizes) > 0


def test_a_second_look_keeps_the_running_statistics() -> None:
    torch.manual_seed(0)
    student = build_student("n", 11, 4).train()
    images = pictures(2).float() / 255
    before = {name: value.clone() for name, value in student.state_dict().items() if "running" in name}
    outputs = SecondLook(student)(images)
    after = student.state_dict()
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert outputs.segmentation_logits is not None
    expected = student(images)
    torch.testing.assert_close(outputs.segmentation_logits, expected.segmentation_logits)
    assert outputs.detection_one_to_many is None
    moved = student.state_dict()
    assert any(not torch.equal(value, moved[name]) for name, value in before.items())  # the batch itself counts


def test_unlabelled_frames_alone_teach_nothing() -> None:
    text = (
        "name: x\ndata: {train: [{kind: unlabeled, folder: x}]}\ndistillation: {terms: [{kind: temporal_consistency}]}"
    )
    with pytest.raises(RecipeError, match="from which nothing can be learnt without a teacher"):
        parse_recipe(text)


def test_a_run_without_a_teacher_learns_from_labels_and_itself(rendered_samples: Path, tmp_path: Path) -> None:
    overrides = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "validation={}", "size=n", "epochs=1"]
    terms = "distillation={terms: [{kind: temporal_consistency, weight: 3.0}]}"
    losses = {}
    for name, more in (("with", [terms]), ("without", [])):
        recipe = load_recipe(RECIPE, [*overrides, *more, f"name={name}"])
        checkpoint = train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"
        losses[name] = read_checkpoint(checkpoint)
    notes = losses["with"]["ros_kd_perception"]
    assert notes["teacher_sha256"] == ""
    ours, others = (losses[name]["state_dict"] for name in ("with", "without"))
    assert ours.keys() == others.keys()
    assert any(not torch.equal(ours[name], others[name]) for name in ours if name.startswith("student."))
