"""Turns what a network raises for images of a size that it does not take into a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from ros_kd_perception.model.onnx_file import ModelFileError
from training.errors import RecipeError


@contextmanager
def refused_sizes(images: Tensor, remedy: str) -> Iterator[None]:
    """Name the size of `images` in the errors of teachers that look at them in the `with` block.

    Args:
        images: uint8 [N, 3, H, W].
        remedy: What to do instead of setting height and width of the teacher.

    Raises:
        RecipeError: A network raised any error. Those that have their own sentence stay as they are.
    """
    try:
        yield
    except (ModelFileError, RecipeError):
        raise
    except Exception as error:  # networks of others raise any error for a size that they do not take
        raise RecipeError(
            f"distillation: expected teachers that look at frames of {images.shape[3]}x{images.shape[2]}, got: "
            f"{' '.join(str(error).split())[:200]}; set height and width of the teacher, or {remedy}"
        ) from error
