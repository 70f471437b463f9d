"""Test parity: a correct export of any student passes, with any ties, and every error of an export is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped_classes import DETECTION_CLASSES, SEGMENTATION_CLASSES
from torch import Tensor, nn

from ros_kd_perception.model.onnx_model import NetworkOutputs, OnnxModel
from ros_kd_perception.structures import UInt8Array
from training.export.parity import ParityError, ParityReport, measure_parity
from training.networks.deployed import DeployedStudent
from training.networks.heads import SUPPRESSION, DetectionOutputs
from training.networks.student import Student, build_student

SIZES_PX = ((64, 96), (32, 160), (96, 96), (96, 160))
Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class DeployedInTorch:
    """The fused network with the interface of an exported file.

    Errors in its arithmetic show without a runtime.
    """

    def __init__(
        self, deployed: DeployedStudent, change: Callable[[Outputs], Sequence[Tensor]] = lambda outputs: outputs
    ) -> None:
        self._deployed = deployed
        self._change = change

    @torch.inference_mode()
    def run(self, images: UInt8Array) -> NetworkOutputs:
        return NetworkOutputs(*(output.numpy() for output in self._change(self._deployed(torch.from_numpy(images)))))


def compare(
    student: Student,
    deployed: DeployedStudent,
    images: Sequence[UInt8Array],
    change: Callable[[Outputs], Sequence[Tensor]] = lambda outputs: outputs,
    score_scales: Sequence[tuple[float, float]] = (),
    overlap_max: float | None = None,
) -> ParityReport:
    model = cast(OnnxModel, DeployedInTorch(deployed, change))
    return measure_parity(student, model, images, score_scales, deployed.half_view, overlap_max)


def pictures(height: int, width: int, seed: int) -> list[UInt8Array]:
    """Return two pictures: one with edges, and one without, on which all cells except the border are ties."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return [np.ascontiguousarray(blocks.repeat(8, 0).repeat(8, 1)), np.full((height, width, 3), 114, np.uint8)]


def random_student(seed: int, size: str, spread: float, distance_bias: float) -> Student:
    """Return a student after a few frames; `spread` moves its detection branch away from its flat start."""
    torch.manual_seed(seed)
    network = build_student(size, len(SEGMENTATION_CLASSES), len(DETECTION_CLASSES)).train()
    images = torch.from_numpy(np.stack(pictures(64, 96, seed))).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for parameter in network.detection.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
        for layers in network.detection.distance_layers:
            layers[-1].bias.add_(distance_bias)
        for _ in range(3):
            network(images)
    return network.eval()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from(("n", "n", "n", "s")),
    spread=st.sampled_from((0.0, 0.01, 0.1, 0.5)),
    distance_bias=st.sampled_from((-8.0, 0.0, 4.0)),  # boxes of zero width, of three cells, of the whole input
    size_px=st.sampled_from(SIZES_PX),
    rows=st.integers(1, 100),
    score_scales=st.one_of(
        st.just(()), st.lists(st.tuples(st.floats(0.2, 4), st.floats(-4, 4)), min_size=4, max_size=4)
    ),
    half_view=st.booleans(),
    overlap_max=st.one_of(st.none(), st.floats(0.2, 0.9)),
)
def test_the_fused_network_of_any_student_passes(
    seed: int,
    size: str,
    spread: float,
    distance_bias: float,
    size_px: tuple[int, int],
    rows: int,
    score_scales: Sequence[tuple[float, float]],
    half_view: bool,
    overlap_max: float | None,
) -> None:
    student = random_student(seed, size, spread, distance_bias)
    if half_view:
        size_px = (64, 128)
    deployed = DeployedStudent(student, *size_px, rows, score_scales, half_view, overlap_max)
    images = pictures(*size_px, seed)
    assert compare(student, deployed, images, score_scales=score_scales, overlap_max=overlap_max).failures() == []


def test_repeated_boxes_and_boxes_dropped_without_need_are_refused() -> None:
    student, images = random_student(1, "n", 0.1, 2.0), pictures(96, 160, 2)
    everything = DeployedStudent(student, 96, 160, 60)
    assert compare(student, everything, images, overlap_max=0.5).repeated_rows > 0
    assert compare(student, everything, images).failures() == []
    few = DeployedStudent(student, 96, 160, 60, overlap_max=0.5)
    assert compare(student, few, images, overlap_max=0.5).failures() == []
    assert compare(
        student, DeployedStudent(student, 96, 160, 60, overlap_max=0.05), images, overlap_max=0.5
    ).missing_rows


def test_other_scales_of_scores_are_refused(student: Student) -> None:
    scales, images = [(1.2, 0.1)] * 4, pictures(64, 96, 2)
    deployed = DeployedStudent(student, 64, 96, 20, scales)
    assert compare(student, deployed, images).foreign_rows > 0
    assert compare(student, deployed, images, score_scales=[(1.2, 0.1)] * 3 + [(1.2, 0.3)]).failures()


@pytest.fixture(scope="module")
def student() -> Student:
    return random_student(1, "n", 0.1, 0.0)


def convolutions(deployed: DeployedStudent) -> list[nn.Conv2d]:
    return [module for module in deployed.student.modules() if isinstance(module, nn.Conv2d)]


@torch.no_grad()
def spoil(convolution: nn.Conv2d, fault: str) -> None:
    """Change a convolution like a wrong fold or a wrong order of axes would."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    if fault == "scale":
        weight.mul_(1.01)
    elif fault == "mean not folded":
        bias.zero_()
    elif fault == "output channels permuted":
        weight.copy_(weight.roll(1, 0).clone())
        bias.copy_(bias.roll(1, 0).clone())
    elif fault == "input channels reversed":
        weight.copy_(weight.flip(1).clone())
    else:
        assert fault == "kernel transposed"
        weight.copy_(weight.transpose(2, 3).clone())


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize(
    "fault",
    ["scale", "mean not folded", "output channels permuted", "input channels reversed", "kernel transposed"],
)
def test_a_wrong_convolution_is_refused(student: Student, place: int, fault: str) -> None:
    deployed = DeployedStudent(student, 64, 96, max_detections=20)
    spoil(convolutions(deployed)[place], fault)
    assert compare(student, deployed, pictures(64, 96, 2)).failures()


def test_normalisation_that_is_not_fused_is_refused(student: Student) -> None:
    deployed = DeployedStudent(student, 64, 96, max_detections=20)
    block = student.segmentation.lateral
    with torch.no_grad():
        deployed.student.segmentation.lateral.weight.copy_(block.kernel())  # type: ignore[operator]
    assert compare(student, deployed, pictures(64, 96, 2)).wrong_cells > 0


def test_a_wrong_input_scale_is_refused(student: Student) -> None:
    deployed = DeployedStudent(student, 64, 96, max_detections=20)
    deployed.student.backbone.prepare_export(256 / 255)
    assert compare(student, deployed, pictures(64, 96, 2)).failures()


def test_cells_in_another_order_are_refused(student: Student) -> None:
    deployed = DeployedStudent(student, 64, 96, max_detections=20)
    deployed.cells.copy_(deployed.cells[:, [1, 0, 2]].clone())
    report = compare(student, deployed, pictures(64, 96, 2))
    assert report.foreign_rows > 0
    assert report.wrong_cells == 0


def rows_taken(indices: list[int]) -> Callable[[Outputs], Sequence[Tensor]]:
    """Return other rows of boxes, scores and labels than the best ones, or another order."""
    return lambda outputs: (
        outputs[0],
        outputs[1][:, indices],
        outputs[2][:, indices],
        outputs[3][:, indices],
        outputs[4],
    )


WRONG_OUTPUTS: dict[str, tuple[Callable[[Outputs], Sequence[Tensor]], str]] = {
    "a row twice": (rows_taken([0, 0, *range(1, 19)]), "foreign_rows"),
    "without the best": (rows_taken([1, *range(1, 20)]), "missing_rows"),
    "the worst first": (rows_taken(list(range(19, -1, -1))), "unordered_rows"),
    "labels from 1": (lambda o: (o[0], o[1], o[2], o[3] + 1, o[4]), "foreign_rows"),
    "scores of 1 % more": (lambda o: (o[0], o[1], o[2] * 1.01, o[3], o[4]), "foreign_rows"),
    "scores that are logits": (lambda o: (o[0], o[1], o[2].logit(), o[3], o[4]), "foreign_rows"),
    "rows and columns of boxes": (lambda o: (o[0], o[1][..., [1, 0, 3, 2]], o[2], o[3], o[4]), "foreign_rows"),
    "centre and size of boxes": (
        lambda o: (o[0], torch.cat([o[1][..., :2], o[1][..., 2:] - o[1][..., :2]], -1), *o[2:]),
        "foreign_rows",
    ),
    "boxes of a pixel's half": (lambda o: (o[0], o[1] + 0.5, *o[2:]), "foreign_rows"),
    "boxes that are no numbers": (lambda o: (o[0], o[1] * torch.nan, *o[2:]), "foreign_rows"),
    "scores that are no numbers": (lambda o: (*o[:2], o[2] * torch.nan, *o[3:]), "foreign_rows"),
    "a mirrored class map": (lambda o: (o[0].flip(2), *o[1:]), "wrong_cells"),
    "classes from 1": (lambda o: (o[0] + 1, *o[1:]), "wrong_cells"),
    "a class map of void": (lambda o: (torch.full_like(o[0], 255), *o[1:]), "wrong_cells"),
    "a mirrored uncertainty": (lambda o: (*o[:4], o[4].flip(2)), "wrong_blocks"),
    "an uncertainty that is no number": (lambda o: (*o[:4], o[4] * torch.nan), "wrong_blocks"),
}


@pytest.mark.parametrize("fault", WRONG_OUTPUTS)
def test_wrong_outputs_are_refused(student: Student, fault: str) -> None:
    change, count = WRONG_OUTPUTS[fault]
    report = compare(student, DeployedStudent(student, 64, 96, 20), pictures(64, 96, 2)[:1], change)
    assert getattr(report, count) > 0
    assert report.failures()


def test_a_single_wrong_cell_of_the_class_map_is_refused(student: Student) -> None:
    def change(outputs: Outputs) -> Sequence[Tensor]:
        class_map = outputs[0].clone()
        class_map[0, 3, 5] = (class_map[0, 3, 5] + 1) % len(SEGMENTATION_CLASSES)
        return class_map, *outputs[1:]

    report = compare(student, DeployedStudent(student, 64, 96, 20), pictures(64, 96, 2)[:1], change)
    assert report.failures() == ["1 cells of the class map name another class"]


def test_a_tie_of_two_classes_may_fall_either_way() -> None:
    student = random_student(3, "n", 0.1, 0.0)
    with torch.no_grad():
        classifier = student.segmentation.classifier
        classifier.weight[1].copy_(classifier.weight[0])
        assert classifier.bias is not None
        classifier.bias[:2] = 50.0
        classifier.bias[1] -= 1e-5

    def change(outputs: Outputs) -> Sequence[Tensor]:
        return torch.ones_like(outputs[0]), *outputs[1:]

    images = pictures(64, 96, 2)[:1]
    report = compare(student, DeployedStudent(student, 64, 96, 20), images, change)
    assert report.failures() == []
    assert report.tied_cells == 16 * 24


def test_a_network_without_finite_outputs_is_refused_with_a_remedy() -> None:
    student = random_student(4, "n", 0.1, 0.0)
    deployed = DeployedStudent(student, 64, 96, 20)
    with torch.no_grad():
        student.segmentation.classifier.weight.fill_(torch.inf)
    with pytest.raises(ParityError, match=r"earlier checkpoint.*learning_rate"):
        compare(student, deployed, pictures(64, 96, 2))


@given(seed=st.integers(0, 1_000), tolerance=st.sampled_from((0.0, 1e-6, 1e-3)))
@settings(max_examples=40, deadline=None)
def test_peak_bounds_contain_every_rounding_error(seed: int, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    level = torch.randint(0, 4, (1, 2, 5, 6), generator=generator).float()  # many exact ties
    exact = DetectionOutputs((level,), (torch.zeros(1, 4, 5, 6),), (8,))
    lowest, highest = exact.peak_bounds(tolerance)
    for _ in range(4):
        noise = (torch.rand(level.shape, generator=generator) - 0.5) * tolerance
        peaks = DetectionOutputs((level + noise,), exact.distance_logits, (8,)).flat_peak_logits()
        assert (peaks >= lowest - tolerance).all()
        assert (peaks <= highest + tolerance).all()
    undecided = highest - lowest > tolerance
    assert (undecided == ((highest - lowest - SUPPRESSION).abs() < 1e-4)).all()
    if tolerance == 0:
        assert (highest == exact.flat_peak_logits()).all()
        assert (lowest == highest).all()
