"""The input sizes that an exported student can have."""

from __future__ import annotations

from ros_kd_perception.model.contract import MAX_SIDE_PX
from training.errors import RecipeError

MAX_DETECTIONS = 100  # of an export whose input has at least as many cells
DETECTION_STRIDES_PX = (8, 16, 32)


def usual_detections(height: int, width: int) -> int:
    """Return the number of detections of an export: MAX_DETECTIONS, or the number of cells of a smaller input."""
    return min(MAX_DETECTIONS, sum(height // stride * (width // stride) for stride in DETECTION_STRIDES_PX))


def check_input_size(height: int, width: int, where: str) -> None:
    """Refuse a network input that no exported student can have.

    Args:
        height: Height of the input in pixels.
        width: Width of the input in pixels.
        where: The keys or options that gave the size, for the error.

    Raises:
        RecipeError: A side is not a multiple of 32, or is too large.
    """
    if height % 32 or width % 32 or min(height, width) <= 0 or max(height, width) > MAX_SIDE_PX:
        raise RecipeError(
            f"{where}: expected a network input of multiples of 32 up to {MAX_SIDE_PX}, got a height of {height} and a "
            f"width of {width}; 384 and 640 are usual"
        )
