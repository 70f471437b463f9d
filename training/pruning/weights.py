"""Prunes the network of a file: weights in, weights alone out, and what was cut in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from training.checkpoint import digest_of_weights, load_student
from training.errors import CheckpointError, RecipeError
from training.export.input_size import choose_input_size
from training.networks.channels import noted_channels
from training.pruning.prune import CutLayer, PrunedStudent, prune_student
from training.pruning.settings import PruneSettings
from training.weights_file import SUFFIX, write_weights


@dataclass(frozen=True)
class PruneReport:
    """What was cut.

    Attributes:
        settings: Settings of the step.
        pruned: The result.
    """

    settings: PruneSettings
    pruned: PrunedStudent

    @property
    def said(self) -> str:
        """The step in one sentence, for the contract of the file."""
        pruned, latency = self.pruned, self.pruned.latency
        measured = f"; {latency.share:.2f} of the latency" if latency else ""
        parameters = f"{_short(pruned.before.parameters)} to {_short(pruned.after.parameters)} parameters"
        return (
            f"prune to {pruned.macs_share:.2f} of the multiply-accumulates{measured}, by {self.settings.importance}, "
            f"{parameters}"
        )

    def table(self) -> str:
        """Return the cut layers as text, one in a line: channels of output and input, before and after."""
        cut = [layer for layer in self.pruned.layers if layer.before != layer.after]
        width = max((len(layer.name) for layer in cut), default=0)
        rows = [f"  {layer.name:{width}}  {_arrow(layer, 0):>12} of {_arrow(layer, 1):>12}" for layer in cut]
        return "\n".join([f"  {'layer':{width}}  {'outputs':>12}    {'inputs':>12}", *rows, *self._totals()])

    def _totals(self) -> list[str]:
        before, after, latency = self.pruned.before, self.pruned.after, self.pruned.latency
        lines = [f"  parameters {_short(before.parameters)} -> {_short(after.parameters)}"]
        if before.multiply_accumulates and after.multiply_accumulates:
            macs = f"{_short(before.multiply_accumulates)} -> {_short(after.multiply_accumulates)}"
            lines.append(f"  multiply-accumulates {macs} ({self.pruned.macs_share:.3f})")
        if latency:
            milliseconds = f"{latency.parent_milliseconds:.1f} -> {latency.milliseconds:.1f} ms"
            lines.append(f"  latency {milliseconds} ({latency.share:.3f} +- {latency.uncertainty:.3f})")
        return lines


def prune_weights(
    weights: Path, settings: PruneSettings, output: Path, height: int | None = None, width: int | None = None
) -> PruneReport:
    """Prune the network of a checkpoint or of weights alone, and write the result as weights alone.

    The notes of the result are those of the parent, with the channels that are left, and without its metrics and what
    `calibrate` promised of it. The pruned network should be trained again, with the parent as its teacher:
    `initial_weights` takes the file.

    Args:
        weights: A `.ckpt` of `train`, or `.safetensors`; its averaged weights are pruned.
        settings: Target, ranking and limits.
        output: Path that ends with `.safetensors`. An existing file is replaced.
        height: Height of the network input in pixels, for MACs and latency; None = that of the recipe's validation.
        width: Width of the network input in pixels, for MACs and latency; None = that of the recipe's validation.

    Raises:
        CheckpointError: The file is not a checkpoint of `train`, or its network cannot be pruned.
        DataError, RecipeError: See `prune_student`.
        OSError: The output cannot be written.
    """
    if output.suffix != SUFFIX:
        raise RecipeError(f"expected a name that ends with {SUFFIX} for pruned weights, got {output.name}")
    parent, info = load_student(weights)
    try:
        pruned = prune_student(parent, info.classes, settings, *choose_input_size(info, height, width))
    except CheckpointError as error:
        raise CheckpointError(f"{weights}: {error}") from error
    student = pruned.student
    noted = replace(
        info,
        metrics={},
        confidence=None,
        earlier_teacher_sha256=info.taught_by,
        teacher_sha256="",
        initial_weights_sha256=digest_of_weights(parent),
        channels=noted_channels(student),
        mean_of=(),
    )
    write_weights(output, student.state_dict(), asdict(noted), digest_of_weights(student))
    return PruneReport(settings, pruned)


def _arrow(layer: CutLayer, side: int) -> str:
    before, after = layer.before[side], layer.after[side]
    return f"{before} -> {after}" if before != after else str(before)


def _short(count: int) -> str:
    """Return a count in the unit that leaves one to three digits before the point, such as `2.1 M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return str(count)
