"""Run networks on frames in conditions. What a network perceived is kept, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.conditions.condition import OBJECTS, ChangedFrames, Condition, FrameCondition, KeptFingerprint
from training.conditions.figures import MeasuredCondition, NetworkFigures, Robustness, network_figures
from training.conditions.rendered import CLEAN, RenderedCondition, all_settings, render_settings, rendered_source
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.data.readers.source import Source
from training.errors import DataError
from training.evaluation.bootstrap import RESAMPLES
from training.evaluation.frame_recorder import LabeledFrames, keep_records
from training.evaluation.frame_records import FrameRecords
from training.evaluation.models import EvaluatedModel, open_model
from training.label_sets.label_set import LabelSet

DATA, RENDERED = "data", "rendered"  # the sets of frames
RECORDS_FOLDER, RENDERED_FOLDER = "records", "rendered"


@dataclass(frozen=True)
class Network:
    """An opened network.

    Attributes:
        name: Name of its row.
        path: Its file.
        model: The network.
    """

    name: str
    path: Path
    model: EvaluatedModel

    @property
    def classes(self) -> LabelSet:
        """Its classes, with ids that count from 0."""
        return self.model.label_set


@dataclass(frozen=True)
class RenderedFrames:
    """Which frames the renderer makes: `count` of them for each setting, in the streets of `seed`."""

    count: int
    seed: int


def open_network(name: str, path: Path, threads: int) -> Network:
    """Open a network as `evaluate` does.

    Args:
        name: Name of its row.
        path: An exported file, a checkpoint, kept weights, or a .yaml that names teachers.
        threads: Threads of inference on the CPU.

    Raises:
        CheckpointError, ModelError, ModelFileError, RecipeError: The file is none of these.
    """
    return Network(name, path, open_model(path, "ema", None, None, threads))


def open_frames(settings: Source, classes: LabelSet) -> FrameFolder:
    """Open labelled frames in the classes of a network.

    Raises:
        DataError: Frames cannot be read, or have no label of a class of the network.
        RecipeError: A class of the frames maps to nothing in the classes of the network.
    """
    folder = open_source(settings, classes)
    if not folder.counts.any_pixels and not folder.counts.any_boxes:
        raise DataError(
            f"{settings.folder}: expected frames with labels of the classes of the model, found none; name other "
            "frames, or what their classes are called (--labels)"
        )
    return folder


def measure(
    networks: Sequence[Network],
    data: FrameFolder,
    conditions: Sequence[Condition],
    severities: Sequence[int],
    folder: Path,
    rendered: RenderedFrames,
) -> Robustness:
    """Return the figures of networks in conditions.

    Args:
        networks: The networks.
        data: Labelled frames, opened and checked.
        conditions: The conditions to measure; rendered ones need `rendered.count` above 0.
        severities: The severities to measure, in ascending order.
        folder: Folder of kept records and rendered frames.
        rendered: Which frames the renderer makes.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
        DataError: Nothing is left to measure.
        RecipeError: A class of the frames maps to nothing in the classes of a network.
    """
    chosen, left_out = _measurable(conditions, data)
    settings = all_settings(chosen, severities)
    if settings:
        render_settings(folder / RENDERED_FOLDER, settings, rendered.count, rendered.seed)
    run = _Run(data, severities, folder, rendered)
    found = tuple(run.of_network(network, chosen) for network in networks)
    frames = {DATA: f"{len(data)} frames of {data.folder.name}"}
    if any(isinstance(each, RenderedCondition) for each in chosen):
        frames[RENDERED] = f"{rendered.count} rendered frames, seed {rendered.seed}"
    return Robustness(found, frames, tuple(left_out), RESAMPLES)


def _measurable(conditions: Sequence[Condition], data: FrameFolder) -> tuple[list[Condition], list[str]]:
    """Return the conditions that change these frames, and a sentence about each other one."""
    hidden = [each for each in conditions if each.family == OBJECTS and not data.counts.any_boxes]
    chosen = [each for each in conditions if each not in hidden]
    said = [f"{each.name} is left out: {data.folder} has no boxes to hide" for each in hidden]
    if not chosen:
        raise DataError(f"expected a condition that changes these frames; {'; '.join(said)}; name another (--only)")
    return chosen, said


class _Run:
    """Perceives frames in conditions, or reads what was perceived before."""

    def __init__(self, data: FrameFolder, severities: Sequence[int], folder: Path, rendered: RenderedFrames) -> None:
        self._data, self._severities, self._folder, self._rendered = data, severities, folder, rendered

    def of_network(self, network: Network, conditions: Sequence[Condition]) -> NetworkFigures:
        data = KeptFingerprint(self._data.for_student(network.classes))
        measured = list(self._measured(network, data, conditions))
        return network_figures(network.name, network.path.name, _sha256(network.path), measured)

    def _measured(
        self, network: Network, data: LabeledFrames, conditions: Sequence[Condition]
    ) -> Iterator[MeasuredCondition]:
        clean: dict[str, FrameRecords] = {}
        for condition in conditions:
            where = RENDERED if isinstance(condition, RenderedCondition) else DATA
            frames = self._frames(condition, data, network)
            if where not in clean:
                clean[where] = self._records(network, frames[0], f"clean {where}")
            changed = {
                severity: self._records(network, frames[severity], f"{condition.name} {severity}")
                for severity in self._severities
            }
            yield MeasuredCondition(condition, where, clean[where], changed)

    def _frames(self, condition: Condition, data: LabeledFrames, network: Network) -> Mapping[int, LabeledFrames]:
        """Return the clean frames (0) and those of each severity."""
        if isinstance(condition, FrameCondition):
            return {0: data, **{each: ChangedFrames(data, condition, each) for each in self._severities}}
        assert isinstance(condition, RenderedCondition)
        settings = {0: CLEAN, **{each: condition.setting(condition.value(each)) for each in self._severities}}
        found = {}
        for severity, setting in settings.items():
            source = rendered_source(self._folder / RENDERED_FOLDER, setting, self._rendered.count, self._rendered.seed)
            found[severity] = source.open(source.mapping_to(network.classes, "rendered frames"))
        return found

    def _records(self, network: Network, frames: LabeledFrames, title: str) -> FrameRecords:
        model, folder = network.model, self._folder / RECORDS_FOLDER
        return keep_records(model.perceiver, model.contract, model.digest, frames, folder, f"{network.name}: {title}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
