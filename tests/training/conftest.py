"""Rendered samples for the tests of training: small, but the real renderer's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros_kd_perception.sample_drive.training_samples import write_samples


@pytest.fixture(scope="session")
def rendered_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "samples"
    write_samples(folder, 8, (192, 128), 1, 1)
    return folder
