"""Prunes a student: cuts the least important channels until the rest is small or fast enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from training.errors import CheckpointError, RecipeError
from training.evaluation.model_size import ModelSize, size_of_student
from training.export.input_size import INPUT_MULTIPLE_PX
from training.export.settings import ExportSettings
from training.label_sets.label_set import LabelSet
from training.networks.backbone_table import BACKBONES
from training.networks.channels import channels_of
from training.networks.quantization_aware import is_quantization_aware
from training.networks.student import Student
from training.pruning.cutting import cut_student
from training.pruning.groups import FusedCopy
from training.pruning.importance import magnitudes, read_batches, taylor
from training.pruning.ladder import Ladder
from training.pruning.latency import LatencyMeter, LatencyShare
from training.pruning.settings import PruneSettings

LATENCY_CLOSE = 0.02  # below the target


@dataclass(frozen=True)
class CutLayer:
    """A layer before and after.

    Attributes:
        name: Its name in the student.
        before: Numbers of output and input channels.
        after: Numbers of output and input channels that are left.
    """

    name: str
    before: tuple[int, int]
    after: tuple[int, int]


@dataclass(frozen=True)
class PrunedStudent:
    """The result of `prune_student`.

    Attributes:
        student: The pruned network, in eval mode. It trains, exports and is noted like any other.
        layers: All layers of the network, cut or not.
        before: Size of the parent as it is exported.
        after: Size of the pruned network as it is exported.
        latency: Its measured latency; None if the target is something else.
    """

    student: Student
    layers: tuple[CutLayer, ...]
    before: ModelSize
    after: ModelSize
    latency: LatencyShare | None

    @property
    def macs_share(self) -> float:
        """What is left of the parent's multiply-accumulates, 0..1."""
        return _macs(self.after) / _macs(self.before)


def prune_student(
    student: Student, classes: LabelSet, settings: PruneSettings, height: int, width: int
) -> PrunedStudent:
    """Cut channels of a student until MACs or latency are at most `settings.share` of the parent's, and close to it.

    The channels of all layers are ranked together. What the ranking leads to is a row of ever smaller shapes; the
    largest one that is small or fast enough is found by bisection.

    Args:
        student: Trained student on a backbone of this repository; it is not changed.
        classes: Its label set.
        settings: Target, ranking and limits.
        height: Height of the network input in pixels, for MACs and latency.
        width: Width of the network input in pixels, for MACs and latency.

    Raises:
        CheckpointError: The student has a backbone that cannot be cut, or its weights are not finite.
        DataError: The frames of `taylor` cannot be read, or have no labels.
        RecipeError: The limits of a layer, or the noise of this machine, leave the target out of reach.
    """
    _check(student, height, width)
    fused = FusedCopy(student)
    ladder = Ladder.of(fused.groups, _importances(fused, classes, settings, height, width), settings)
    trial = _Trial(student, ladder, ExportSettings(classes, height=height, width=width), settings)
    step = _largest_that_fits(trial, settings)
    pruned = trial.student_at(step)
    before, after = channels_of(student), channels_of(pruned)
    return PrunedStudent(
        student=pruned,
        layers=tuple(CutLayer(name, _pair(before[name]), _pair(after[name])) for name in before),
        before=trial.before,
        after=_size(pruned, height, width),
        latency=trial.latencies.get(step),
    )


class _Trial:
    """Tries shapes of a ladder, and remembers what it measured.

    Attributes:
        before: Size of the parent.
        latencies: What was measured, by step of the ladder.
        meter: Measures latencies; None if the target is MACs.
    """

    def __init__(self, student: Student, ladder: Ladder, export: ExportSettings, settings: PruneSettings) -> None:
        self._student, self._ladder, self._target = student, ladder, settings.share
        self._height, self._width = export.height, export.width
        self.before = _size(student, export.height, export.width)
        self.latencies: dict[int, LatencyShare] = {}
        self.meter = LatencyMeter(student, export, settings.threads) if settings.target == "latency" else None

    def __len__(self) -> int:
        return len(self._ladder)

    def student_at(self, step: int) -> Student:
        """Return the student of a step."""
        return cut_student(self._student, self._ladder.groups, self._ladder.kept(step))

    def share(self, step: int) -> float:
        """Return what the student of a step has of the parent's MACs or latency."""
        student = self.student_at(step)
        if self.meter is None:
            return _macs(_size(student, self._height, self._width)) / _macs(self.before)
        self.latencies[step] = self.meter.share_of(student, self._target)
        return self.latencies[step].share


def _largest_that_fits(trial: _Trial, settings: PruneSettings) -> int:
    """Return the first step of the ladder whose share is small enough.

    MACs fall from step to step. Latencies nearly do; where they do not, a step near the first one is found. A latency
    that is close enough to the target is taken, because each trial exports a network.
    """
    close = LATENCY_CLOSE if trial.meter is not None else 0.0
    if trial.meter is not None:
        _check_resolution(trial.meter.resolution(), settings)
    too_large, fits = 0, len(trial) - 1
    with tqdm(total=len(trial).bit_length() + 1, desc="prune", unit="trial", disable=None, leave=False) as bar:
        smallest = trial.share(fits)
        bar.update()
        if smallest > settings.share:
            raise RecipeError(_out_of_reach(smallest, settings))
        while fits - too_large > 1:
            middle = (too_large + fits) // 2
            share = trial.share(middle)
            too_large, fits = (too_large, middle) if share <= settings.share else (middle, fits)
            bar.set_postfix_str(f"{share:.3f} of the {settings.target}")
            bar.update()
            if settings.share - close < share <= settings.share:
                break
    return fits


def _out_of_reach(smallest: float, settings: PruneSettings) -> str:
    nearest = math.ceil(smallest * 100) / 100
    limits = f"largest_cut {settings.largest_cut}, least_channels {settings.least_channels}"
    remedy = f"set share to {nearest:.2f} or more, or " if nearest < 1 else ""
    return (
        f"share of the step prune: expected to get down to {settings.share} of the parent's {settings.target}, but "
        f"{smallest:.3f} is left where every layer is cut as far as {limits} and round_to {settings.round_to} allow; "
        f"{remedy}raise largest_cut, lower least_channels and round_to, or start from a smaller size"
    )


def _check_resolution(resolution: float, settings: PruneSettings) -> None:
    """Refuse a latency that cannot be told from the parent's.

    Raises:
        RecipeError: Two runs of the parent differ as much as the target does from the parent.
    """
    if 1 - settings.share <= resolution:
        nearest = math.floor((1 - resolution) * 100) / 100
        remedy = f"set share to {nearest:.2f} or less, " if nearest > 0 else ""
        raise RecipeError(
            f"share of the step prune: expected a latency that this machine can tell from the parent's, but two runs "
            f"of the parent itself differ by up to {resolution:.0%}; {remedy}stop other programs, or use target macs"
        )


def _check(student: Student, height: int, width: int) -> None:
    if not student.backbone.plain:
        plain = ", ".join(name for name, backbone in BACKBONES.items() if backbone.plain)
        raise CheckpointError(
            f"expected a student on our own backbone or on {plain} to prune, got one on "
            f"{student.backbone.architecture}; only distil or quantise it"
        )
    if is_quantization_aware(student):
        raise CheckpointError(
            "expected a student that was trained in floating point to prune, got one whose weights are rounded to 8 "
            "bits; prune the weights that its training started from, then train for 8 bits again"
        )
    if height % INPUT_MULTIPLE_PX or width % INPUT_MULTIPLE_PX:
        raise RecipeError(
            f"expected height and width of the input in multiples of {INPUT_MULTIPLE_PX} px, got {height}x{width}; "
            "384x640 is usual"
        )


def _importances(fused: FusedCopy, classes: LabelSet, settings: PruneSettings, height: int, width: int) -> list[Tensor]:
    if settings.frames is None:
        return magnitudes(fused)
    return taylor(fused, read_batches(settings.frames, classes, settings.batches, height, width))


def _size(student: Student, height: int, width: int) -> ModelSize:
    return size_of_student(student.fused(), height, width)


def _macs(size: ModelSize) -> int:
    assert size.multiply_accumulates is not None
    return size.multiply_accumulates


def _pair(numbers: list[int]) -> tuple[int, int]:
    outputs, inputs = numbers
    return outputs, inputs
