"""The figures that a checkpoint notes, as far as they are those of a file that is exported from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.config.network_input import usual_detections
from training.export.input_size import noted_validation

if TYPE_CHECKING:
    from training.checkpoint import CheckpointInfo


def noted_figures(
    info: CheckpointInfo, weights: str, height: int, width: int, max_detections: int | None, half_view: bool = False
) -> dict[str, float | None]:
    """Return the figures of a checkpoint if they are those of the file that is exported; else none.

    Args:
        info: Notes of the checkpoint.
        weights: Which of its weights are exported: `ema` or `trained`.
        height: Height of the file's input in pixels.
        width: Width of the file's input in pixels.
        max_detections: Number of its boxes; None = the usual one.
        half_view: Whether the file looks for boxes at half the size, too.
    """
    others = other_figures(info, weights, height, width, max_detections, half_view)
    return {} if info.quantization_aware is not None or any(others) else info.metrics


def other_figures(
    info: CheckpointInfo, weights: str, height: int, width: int, max_detections: int | None, half_view: bool = False
) -> Iterator[str]:
    """Yield sentences about what the figures of a checkpoint are of, and the file is not; see `noted_figures`."""
    validation = noted_validation(info)
    if validation is None:
        yield "the input size of the checkpoint's figures is unknown, for this version cannot read its recipe"
    elif (height, width) != (validation.input_height, validation.input_width):
        yield "the figures of the checkpoint are those of the recipe's validation size, not of this input size"
    if weights != "ema":
        yield f"the figures of the checkpoint are those of the averaged weights, not of the {weights} ones"
    if max_detections not in (None, usual_detections(height, width)):
        yield f"the figures of the checkpoint are those of {usual_detections(height, width)} boxes a frame"
    if half_view:
        yield "the figures of the checkpoint are those of one view, not of two"
