"""Quantises an exported file into another one, with contract and golden frames: the step `quantise` of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros_kd_perception.model.golden import GOLDEN_KEY, golden_from_text
from ros_kd_perception.model.onnx_file import read_model_file
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame, UInt8Array
from training.data.readers.frame_folder import FrameFolder
from training.export.derived_file import derived_contract, derived_section, write_derived_file
from training.quantization.calibration import CalibrationFrames, evenly_spread
from training.quantization.forms import HALF_FORM
from training.quantization.half_precision import half_precision_graph
from training.quantization.mixed import labelled_frames, layers_in_fp32
from training.quantization.quantise import Quantiser
from training.quantization.ranges import TensorRange
from training.quantization.sensitivity import layer_sensitivities, sensitivity_table
from training.quantization.settings import MixedSettings, QuantiseSettings

SENSITIVITY_FRAMES = 10


@dataclass(frozen=True)
class QuantiseReport:
    """What was done.

    Attributes:
        said: One sentence for `derived.steps`.
        data_sha256: Fingerprint of the calibration frames; empty for fp16, which needs none.
        sensitivity: Rows of `sensitivity_table`; empty without automatic mixed precision.
        notes: Sentences for the user about the calibration frames.
    """

    said: str
    data_sha256: str
    sensitivity: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()


def quantise_file(
    parent: Path, settings: QuantiseSettings, output: Path, *, ranges: Mapping[str, TensorRange] | None = None
) -> QuantiseReport:
    """Write `output`, a file with 8-bit integers or fp16 in the layers of `parent`.

    The golden frames are those of the parent, with the outputs of the new file.

    Args:
        parent: An exported or adopted file in fp32.
        settings: Form, calibration and mixed precision.
        output: Path of the file. An existing file is replaced only after the new one has been opened and verified.
        ranges: Ranges that take the place of measured ones, by the names of tensors of the parent.

    Raises:
        ModelFileError, ModelError, ContractError: The parent cannot be read, run or quantised.
        DataError: Frames are missing, too few or all the same.
        RecipeError: The budget of `mixed` cannot be met.
    """
    if settings.calibration is None:
        return _half_precision_file(parent, output)
    model = OnnxModel.open(parent, device="cpu")
    frames = CalibrationFrames(settings.calibration, Perceiver(model))
    quantiser = Quantiser(parent, frames, settings, ranges or {})
    in_fp32: list[str] = []
    table: list[dict[str, Any]] = []
    if settings.mixed is not None:
        in_fp32, table = _mixed(quantiser, Perceiver(model), settings.mixed)
    learned = f", {len(ranges)} learned ranges" if ranges else ""
    said = (
        f"{quantiser.form.words}, {settings.calibration.method} over {len(frames)} frames{learned}, "
        f"{len(quantiser.layers) - len(in_fp32)} of {len(quantiser.layers)} layers"
    )
    section = derived_section(quantiser.sha256, parent.name, [said], frames.sha256)
    contract = derived_contract(quantiser.contract, "int8", section)
    write_derived_file(quantiser.graph(in_fp32), output, contract, golden_images(parent, model))
    return QuantiseReport(said, frames.sha256, table, frames.notes)


def _half_precision_file(parent: Path, output: Path) -> QuantiseReport:
    graph = half_precision_graph(parent)
    model = OnnxModel.open(parent, device="cpu")
    said = HALF_FORM.words
    contract = derived_contract(model.contract, "fp16", derived_section(model.sha256, parent.name, [said]))
    write_derived_file(graph, output, contract, golden_images(parent, model))
    return QuantiseReport(said, "")


def golden_images(path: Path, model: OnnxModel) -> list[UInt8Array]:
    """Return the network inputs of the golden frames of a file, uint8 [H, W, 3]."""
    text = read_model_file(path).metadata[GOLDEN_KEY]
    return [frame.image for frame in golden_from_text(text, model.contract)]


def _mixed(quantiser: Quantiser, perceiver: Perceiver, mixed: MixedSettings) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the layers that stay in fp32, and the table of all of them."""
    folder = labelled_frames(mixed, quantiser.contract)
    rows = layer_sensitivities(quantiser, _some_inputs(folder, perceiver))
    in_fp32 = layers_in_fp32(quantiser, [row.layer for row in rows], folder, mixed)
    return in_fp32, sensitivity_table(rows, in_fp32)


def _some_inputs(folder: FrameFolder, perceiver: Perceiver) -> list[UInt8Array]:
    places = evenly_spread(len(folder), SENSITIVITY_FRAMES)
    return [perceiver.prepare(Frame("held out", 0, "", folder.image_bgr(place))).network_input for place in places]
