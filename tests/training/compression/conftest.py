"""Figures of tiny files on labelled frames, measured once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled_by_a_file import dim, score_of, write_frames
from tiny_student import CONTRACT, write_tiny_model

from training.compression.figures import Figures, measure


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two networks, and frames that the first of them labelled."""
    folder = tmp_path_factory.mktemp("measured")
    write_tiny_model(folder / "parent.onnx", CONTRACT)
    write_tiny_model(folder / "dim.onnx", CONTRACT, dim)
    write_frames(folder / "frames", folder / "parent.onnx")
    return folder


@pytest.fixture(scope="session")
def figures(place: Path) -> Figures:
    files = {"parent": place / "parent.onnx", "same": place / "parent.onnx", "dim": place / "dim.onnx"}
    return measure(files, [score_of(place / "frames")], 1, place / "kept", rounds=5)
