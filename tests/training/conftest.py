"""Rendered samples for the tests of training: small, but the real renderer's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import training  # first: it settles how torch's threads wait, which must be before torch is loaded
from ros_kd_perception.sample_drive.training_samples import write_samples

assert training.__doc__


@pytest.fixture(scope="session", autouse=True)
def one_thread_for_tiny_frames() -> None:
    """Two threads that wait for each other at every small layer take three times as long on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    """`evaluate --threads` holds for its process, and a run with another number of threads rounds otherwise."""
    import torch

    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def rendered_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "samples"
    write_samples(folder, 8, (192, 128), 1, 1)
    return folder
