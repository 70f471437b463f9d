"""Relation losses against loops in float64, and for sizes and dtypes at which losses fail."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from distillation_terms import kinds_in, value_and_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.distillation.relation_losses import AngleRelation, CrossImageRelation, DistanceRelation, PairwiseAffinity

Loss = Callable[[Tensor, Tensor], Tensor]
FRAMES = 4
MAP, EMBEDDING = (FRAMES, 5, 6, 4), (FRAMES, 5)
GRID = 2  # each cell is the mean of 3 x 2 positions
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

LOSSES: dict[str, Loss] = {
    "pairwise_affinity": PairwiseAffinity(at="p3", grid=GRID),
    "distance_relation": DistanceRelation(at="p3"),
    "angle_relation": AngleRelation(at="p3"),
    "cross_image_relation": CrossImageRelation(at="p3", temperature=0.4, grid=GRID),
}
SHAPES = {name: EMBEDDING if name in ("distance_relation", "angle_relation") else MAP for name in LOSSES}


def draw(seed: int, shape: tuple[int, ...], scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sides(name: str, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return inputs of student and teacher; the teacher has two channels more."""
    frames, channels, *size = SHAPES[name]
    return draw(1, (frames, channels, *size), scale), draw(2, (frames, channels + 2, *size), scale)


# The formulas again as loops over frames and cells in float64.


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def cells_of(features: np.ndarray) -> list[np.ndarray]:
    """Return the means over 3 x 2 positions, row by row."""
    rows, columns = range(0, features.shape[1], 3), range(0, features.shape[2], 2)
    return [features[:, y : y + 3, x : x + 2].mean(axis=(1, 2)) for y in rows for x in columns]


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def pairwise_affinity_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    terms = []
    for s, t in zip(student, teacher, strict=True):
        s_cells, t_cells = cells_of(s), cells_of(t)
        for i, j in itertools.product(range(len(s_cells)), repeat=2):
            terms.append((cosine(s_cells[i], s_cells[j]) - cosine(t_cells[i], t_cells[j])) ** 2)
    return float(np.mean(terms))


def distance_relation_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    relative = []
    for side in (student, teacher):
        pairs = itertools.permutations(range(len(side)), 2)
        distances = np.array([math.dist(side[i], side[j]) for i, j in pairs])
        relative.append(distances / distances.mean())
    return float(np.mean([huber(s - t) for s, t in zip(*relative, strict=True)]))


def angle_relation_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    terms = []
    for i, j, k in itertools.permutations(range(len(student)), 3):
        s, t = (cosine(side[i] - side[j], side[k] - side[j]) for side in (student, teacher))
        terms.append(huber(s - t))
    return float(np.mean(terms))


def cross_image_relation_by_loop(student: np.ndarray, teacher: np.ndarray) -> float:
    terms = []
    for i, j in itertools.product(range(len(student)), repeat=2):
        for cell in range(len(cells_of(student[i]))):
            p, q = (
                np.exp([cosine(cells_of(side[i])[cell], other) / 0.4 for other in cells_of(side[j])])
                for side in (teacher, student)
            )
            p, q = p / p.sum(), q / q.sum()
            terms.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return float(np.mean(terms))


BY_LOOP = {
    "pairwise_affinity": pairwise_affinity_by_loop,
    "distance_relation": distance_relation_by_loop,
    "angle_relation": angle_relation_by_loop,
    "cross_image_relation": cross_image_relation_by_loop,
}


def test_every_loss_of_the_file_has_a_loop() -> None:
    assert LOSSES.keys() == BY_LOOP.keys() == kinds_in("relation_losses")


def by_loop(name: str, student: Tensor, teacher: Tensor) -> float:
    return BY_LOOP[name](student.detach().double().numpy(), teacher.detach().double().numpy())


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_slope_equal_the_loop(name: str) -> None:
    student, teacher = sides(name)
    value, gradient = value_and_gradient(LOSSES[name], student, teacher)
    assert float(value) == pytest.approx(by_loop(name, student, teacher), rel=1e-5)
    for seed in range(2):
        direction, step = draw(10 + seed, student.shape, scale=1.0).double(), 1e-5
        ahead = by_loop(name, student.double() + step * direction, teacher)
        behind = by_loop(name, student.double() - step * direction, teacher)
        slope = float((gradient.double() * direction).sum())
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(LOSSES)), st.integers(0, 2**16), st.integers(3, 5), st.integers(2, 7))
def test_value_equals_the_loop_for_any_size(name: str, seed: int, frames: int, channels: int) -> None:
    _, _, *size = SHAPES[name]
    student, teacher = draw(seed, (frames, channels, *size)), draw(seed + 1, (frames, 3, *size))
    expected = by_loop(name, student, teacher)
    assert float(LOSSES[name](student, teacher)) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_relations_have_zero_loss_and_gradient(name: str) -> None:
    """A copy that is scaled and rotated has the same cosines, angles and relative distances."""
    student, _ = sides(name)
    turn = torch.linalg.qr(draw(3, (student.shape[1], student.shape[1]))).Q
    teacher = 7.0 * torch.einsum("dc,nc...->nd...", turn, student)
    value, gradient = value_and_gradient(LOSSES[name], student, teacher)
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert float(gradient.abs().max()) < 1e-6


def test_relations_of_frames_ignore_shifts_of_all_embeddings() -> None:
    student, teacher = draw(1, EMBEDDING), draw(2, EMBEDDING)
    for loss in (LOSSES["distance_relation"], LOSSES["angle_relation"]):
        torch.testing.assert_close(loss(student + 3.0, teacher), loss(student, teacher - 5.0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_teacher_gets_no_gradient(name: str) -> None:
    student, teacher = (side.requires_grad_() for side in sides(name))
    LOSSES[name](student, teacher).backward()
    assert teacher.grad is None
    assert float(student.grad.abs().max()) > 0


def test_the_cross_image_relation_compares_frames_and_affinity_does_not() -> None:
    """Rotating the features of one frame changes its relations to other frames, but not those within it."""
    student, _ = sides("cross_image_relation")
    turn = torch.linalg.qr(draw(3, (student.shape[1], student.shape[1]))).Q
    teacher = student.clone()
    teacher[0] = torch.einsum("dc,chw->dhw", turn, student[0])
    assert float(LOSSES["pairwise_affinity"](student, teacher)) < 1e-6
    assert float(LOSSES["cross_image_relation"](student, teacher)) > 0.05


def test_a_grid_at_least_as_large_as_the_map_does_not_change_it() -> None:
    student, teacher = sides("pairwise_affinity")
    spread_student, spread_teacher = (
        side.repeat_interleave(3, 2).repeat_interleave(2, 3) for side in (student, teacher)
    )
    for grid in (6, 64):
        value = PairwiseAffinity(at="p3", grid=grid)(student, teacher)
        assert float(value) == pytest.approx(by_loop("pairwise_affinity", spread_student, spread_teacher), rel=1e-5)
    as_large, larger = (CrossImageRelation(at="p3", grid=grid)(student, teacher) for grid in (6, 9))
    torch.testing.assert_close(as_large, larger)


def test_memory_is_bounded_by_the_grid() -> None:
    """Relations between all positions of these maps would be 2e10 numbers."""
    student, teacher = draw(1, (2, 2, 400, 360)), draw(2, (2, 2, 400, 360))
    assert math.isfinite(float(PairwiseAffinity(at="p3", grid=8)(student, teacher)))
    assert math.isfinite(float(CrossImageRelation(at="p3", grid=8)(student, teacher)))


@pytest.mark.parametrize(
    ("name", "frames"), [*((name, 0) for name in LOSSES), ("distance_relation", 1), ("angle_relation", 2)]
)
def test_too_few_frames_cost_nothing(name: str, frames: int) -> None:
    student, teacher = sides(name)
    value, gradient = value_and_gradient(LOSSES[name], student[:frames], teacher[:frames])
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_equal_or_zero_embeddings_give_a_finite_gradient(name: str) -> None:
    student, teacher = sides(name)
    twice = student.clone()
    twice[1] = twice[0]
    for dull_student, dull_teacher in [
        (torch.zeros_like(student), teacher),
        (torch.ones_like(student), teacher),
        (twice, teacher),
        (student, torch.zeros_like(teacher)),
    ]:
        value, gradient = value_and_gradient(LOSSES[name], dull_student, dull_teacher)
        assert math.isfinite(float(value))
        assert torch.isfinite(gradient).all()
        assert float(gradient.abs().max()) < 1e5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(name: str, dtype: torch.dtype, device: str) -> None:
    """Equal to the last digits to the loss without autocast, which would multiply matrices in half precision."""
    for scale in (1.0, 120.0, 400.0):
        student, teacher = (side.to(device, dtype) for side in sides(name, scale))
        with torch.autocast(device, dtype=dtype):
            value, gradient = value_and_gradient(LOSSES[name], student, teacher)
        assert torch.isfinite(gradient).all()
        assert float(value) == pytest.approx(float(LOSSES[name](student.float(), teacher.float())), rel=1e-6)
        assert float(value) == pytest.approx(by_loop(name, *sides(name, scale)), rel=0.05)


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_differ_are_refused_in_one_sentence(name: str) -> None:
    student, teacher = sides(name)
    with pytest.raises(ValueError, match=r"expected student and teacher \[N, .*\] that agree in N.*got \[4, .* \[3, "):
        LOSSES[name](student, teacher[:3])
    with pytest.raises(ValueError, match="expected student and teacher"):
        LOSSES[name](student[0], teacher[0])
    if SHAPES[name] == MAP:
        with pytest.raises(ValueError, match=r"agree in N, H, W, .*resize first"):
            LOSSES[name](student, teacher[..., :2])


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.05"):
        CrossImageRelation(at="p3", temperature=0)
    for term in (PairwiseAffinity, CrossImageRelation):
        with pytest.raises(ValueError, match="greater than or equal to 2"):
            term(at="p3", grid=0)
