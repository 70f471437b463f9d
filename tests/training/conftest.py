"""Fixtures for the tests of training: small samples from the real renderer, and one thread for torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import training  # first: it sets how torch's threads wait, which has no effect once torch is loaded
from ros_kd_perception.sample_drive.training_samples import write_samples

assert training.__doc__


@pytest.fixture(scope="session", autouse=True)
def one_thread_for_tiny_frames() -> None:
    """Let torch use one thread. On a busy machine, two threads take three times as long for layers this small."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    """Restore one thread, because `evaluate --threads` changes the whole process and with it the rounding of runs."""
    import torch

    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def rendered_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "samples"
    write_samples(folder, 8, (192, 128), 1, 1)
    return folder
