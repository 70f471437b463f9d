"""The parent of a chain as an exported file, and networks after a step as files."""

from __future__ import annotations

from pathlib import Path

from training.checkpoint import load_student
from training.compression.stage import Stage
from training.errors import CheckpointError
from training.export.export import export_student
from training.export.input_size import choose_input_size
from training.export.network_inputs import read_network_inputs, render_network_inputs, validation_images
from training.export.noted_figures import noted_figures
from training.export.provenance import provenance
from training.export.settings import ExportSettings


def export_weights(weights: Path, output: Path, name: str, version: str) -> None:
    """Write the network of a checkpoint, or of weights alone, as an exported file.

    Args:
        weights: The checkpoint or weights.
        output: Path of the file.
        name: Name in the contract; empty = that of an export.
        version: Version in the contract; empty = that of an export.

    Raises:
        CheckpointError: The weights cannot be used, or the exported file differs from the network.
    """
    student, info = load_student(weights)
    height, width = choose_input_size(info, None, None)
    settings = ExportSettings(
        info.classes,
        name=name or ExportSettings.name,
        version=version or ExportSettings.version,
        height=height,
        width=width,
        provenance=provenance(info),
        metrics=noted_figures(info, "ema", height, width, None),
        confidence=info.confidence or {},
    )
    folder = validation_images(info)
    real = read_network_inputs(folder, height, width) if folder else []
    try:
        export_student(student, output, settings, render_network_inputs(height, width), real)
    except ValueError as error:  # parity, or a value of the contract
        raise CheckpointError(f"{weights}: {error}") from error


def parent_stage(parent: Path, folder: Path, name: str, version: str) -> Stage:
    """Return the parent of a chain; weights are exported into `folder`.

    Args:
        parent: An exported file, a checkpoint or weights alone.
        folder: Folder for the exported file.
        name: See `export_weights`.
        version: See `export_weights`.
    """
    if parent.suffix == ".onnx":
        return Stage("parent", None, parent)
    file = folder / "parent.onnx"
    export_weights(parent, file, name, version)
    return Stage("parent", parent, file)
