"""A student that sees fine detail only, and frames that are full of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sharp_student import write_detailed_frames, write_sharp_student


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sharp.onnx and frames/."""
    folder = tmp_path_factory.mktemp("sharp")
    write_sharp_student(folder / "sharp.onnx")
    write_detailed_frames(folder / "frames")
    return folder
