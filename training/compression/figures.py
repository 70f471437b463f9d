"""Measure files side by side: the parent of a chain, what each step made of it, and the result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from training.compare.recipe import ScoreRecipe
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import DataError
from training.evaluation.bootstrap import RESAMPLES
from training.evaluation.frame_recorder import keep_records, network_digest
from training.evaluation.frame_records import FrameRecords
from training.evaluation.latency import ROUNDS, Latency, latencies
from training.evaluation.model_size import size_of_onnx
from training.evaluation.score_figures import ScoreFigures, score_figures
from training.evaluation.scoring import SCORE_FLOOR
from training.label_sets.of_model import label_set_of


@dataclass(frozen=True)
class Row:
    """One file.

    Attributes:
        name: Name of the row.
        file: Name of the file.
        sha256: Hex digest of the file.
        precision: Precision in its contract.
        size_bytes: Size of the file.
        parameters: Number of weights.
        multiply_accumulates: For one frame; None if they cannot be counted.
        latency: Time of one frame.
        scores: Figures by the name of the frames.
    """

    name: str
    file: str
    sha256: str
    precision: str
    size_bytes: int
    parameters: int
    multiply_accumulates: int | None
    latency: Latency
    scores: dict[str, ScoreFigures]


@dataclass(frozen=True)
class Figures:
    """What `measure` found.

    Attributes:
        rows: The files, the parent first.
        frames: What each set of frames is, by its name.
        provider: Execution provider that ran the networks.
        threads: Threads of the runs that were timed.
        rounds: How often each file was timed.
        resamples: Number of resamples behind an interval.
    """

    rows: tuple[Row, ...]
    frames: dict[str, str]
    provider: str
    threads: int
    rounds: int
    resamples: int

    def row(self, name: str) -> Row:
        """Return the row of a name.

        Raises:
            KeyError: There is no such row.
        """
        return {row.name: row for row in self.rows}[name]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def measure(
    files: Mapping[str, Path],
    scores: Sequence[ScoreRecipe],
    threads: int,
    keep: Path,
    *,
    rounds: int = ROUNDS,
    device: str = "cpu",
) -> Figures:
    """Measure files: size, latency, and what they perceive on labelled frames.

    Args:
        files: Exported files by the name of their row, the parent first.
        scores: Labelled frames.
        threads: Threads of the network.
        keep: Folder of what was perceived. Frames that a file has seen before are not scored again.
        rounds: How often each file is timed.
        device: Where the files run, as in `OnnxModel.open`.

    Raises:
        CheckpointError: The outputs of a network contain NaN or infinity.
        DataError: Frames cannot be read, or their labels yield no figure.
        ModelError: A file cannot be opened, or does not give its golden outputs.
        RecipeError: A class of the frames maps to nothing in the classes of a file.
    """
    frames = open_frames(scores, next(iter(files.values())))
    records: dict[str, dict[str, FrameRecords]] = {name: {} for name in frames}
    providers = []
    for name, path in files.items():
        model = OnnxModel.open(path, device=device, intra_op_threads=threads)
        providers.append(model.provider.what_runs)
        for score, found in _records(name, path, model, frames, keep):
            records[score][name] = found
    timed = latencies(files, threads, rounds, device)
    compared = {score: score_figures(by_row) for score, by_row in records.items()}
    rows = [
        _row(name, path, timed[name], {score: found[name] for score, found in compared.items()})
        for name, path in files.items()
    ]
    said = {name: f"{len(folder)} frames of {folder.folder.name}" for name, folder in frames.items()}
    return Figures(tuple(rows), said, " and ".join(dict.fromkeys(providers)), threads, rounds, RESAMPLES)


def open_frames(scores: Sequence[ScoreRecipe], parent: Path) -> dict[str, FrameFolder]:
    """Open labelled frames in the classes of a file.

    Args:
        scores: Labelled frames.
        parent: An exported file.

    Returns:
        The frames by their names.

    Raises:
        DataError: Frames cannot be read, or have no label of a class of the file.
        RecipeError: A class of the frames maps to nothing in the classes of the file.
    """
    classes = label_set_of(_contract(parent)).as_student()
    frames = {}
    for score in scores:
        folder = open_source(score.frames, classes)
        if not folder.counts.any_pixels and not folder.counts.any_boxes:
            raise DataError(
                f"scores {score.name}: expected frames with labels of the classes of {parent}, {folder.folder} has "
                "none; name others"
            )
        frames[score.name] = folder
    return frames


def _records(
    name: str, path: Path, model: OnnxModel, frames: Mapping[str, FrameFolder], keep: Path
) -> Iterator[tuple[str, FrameRecords]]:
    classes, perceiver = label_set_of(model.contract).as_student(), Perceiver(model, SCORE_FLOOR)
    digest = f"{network_digest(path)} {model.provider.used}"
    for score, folder in frames.items():
        title = f"{name} on {score}"
        yield score, keep_records(perceiver, model.contract, digest, folder.for_student(classes), keep, title)


def _row(name: str, path: Path, latency: Latency, scores: dict[str, ScoreFigures]) -> Row:
    size, content = size_of_onnx(path), path.read_bytes()
    return Row(
        name,
        path.name,
        hashlib.sha256(content).hexdigest(),
        _contract(path).precision,
        len(content),
        size.parameters,
        size.multiply_accumulates,
        latency,
        scores,
    )


def _contract(path: Path) -> ModelContract:
    return OnnxModel.open(path, device="cpu", verify_golden=False).contract
