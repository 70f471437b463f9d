"""Tiny models and frames that one of them labelled, for reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from labelled_by_a_file import dim, write_frames
from onnx import numpy_helper
from tiny_student import CONTRACT, write_tiny_model

NAMES = ("right.onnx", "dim.onnx", "swapped.onnx", "blind.onnx")


def swap_classes(model: onnx.ModelProto) -> None:
    """Name every box by another class."""
    for tensor in model.graph.initializer:
        if tensor.name == "labels_row":
            tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) + 1) % 4, tensor.name))


def see_nothing(model: onnx.ModelProto) -> None:
    """Multiply the image by nothing."""
    for tensor in model.graph.initializer:
        if tensor.name == "block":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for name, change in zip(NAMES, (None, dim, swap_classes, see_nothing), strict=True):
        write_tiny_model(folder / name, CONTRACT, change)
    write_frames(folder / "frames", folder / "right.onnx")
    return folder
