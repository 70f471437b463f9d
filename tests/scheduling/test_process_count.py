"""How many worker processes a node starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.scheduling.process_count import (
    AUTO,
    MAX_PROCESSES,
    PROCESS_CHOICES,
    process_count,
    processes_of_node,
)


@pytest.mark.parametrize(
    ("rates_hz", "network_ms", "cores", "expected"),
    [
        ([0.0], 1.0, 16, 0),  # one camera
        ([0.0] * 4, 1.0, 16, 0),  # 120 images a second need six tenths of a core
        ([0.0] * 6, 1.0, 16, 2),
        ([0.0] * 8, 1.0, 16, 2),
        ([60.0] * 8, 0.8, 16, 4),
        ([60.0] * 8, 0.8, 4, 2),  # the network and the executor need cores, too
        ([60.0] * 8, 0.8, 2, 0),
        ([60.0] * 8, 40.0, 16, 0),  # a slow network limits what must be prepared
        ([5.0] * 8, 1.0, 16, 0),
    ],
)
def test_auto_counts_cameras_rates_cores_and_the_network(
    rates_hz: list[float], network_ms: float, cores: int, expected: int
) -> None:
    assert process_count(AUTO, rates_hz, network_ms, cores) == expected


@pytest.mark.parametrize(("workers", "cameras", "expected"), [(0, 4, 1), (1, 1, 3), (2, 4, 4), (8, 2, 4)])
def test_a_node_has_a_process_of_its_own_its_workers_and_one_that_stands_by(
    workers: int, cameras: int, expected: int
) -> None:
    assert processes_of_node(workers, cameras) == expected


@given(
    rates_hz=st.lists(st.floats(0, 1000), min_size=1, max_size=32),
    network_ms=st.floats(0, 1e4),
    cores=st.integers(1, 256),
)
def test_auto_is_always_a_number_that_can_be_started(rates_hz: list[float], network_ms: float, cores: int) -> None:
    assert 0 <= process_count(AUTO, rates_hz, network_ms, cores) <= min(len(rates_hz), max(0, cores - 2), MAX_PROCESSES)


def test_a_number_is_taken_as_it_is() -> None:
    assert [process_count(choice, [0.0], 1.0, 1) for choice in PROCESS_CHOICES[1:]] == [*range(MAX_PROCESSES + 1)]
    assert process_count(AUTO, [60.0] * 8, 1e-9) in range(MAX_PROCESSES + 1)  # cores of this machine
