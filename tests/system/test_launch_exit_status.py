"""Tests what counts as a failure of a launched process. `ros/test_launch_system` checks real launches."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ros_kd_perception.system.launch_exit_status import report_early_end, report_failure, report_failure_at_shutdown


@dataclass(frozen=True)
class Exited:
    returncode: int
    process_name: str = "perception_node-1"


@dataclass(frozen=True)
class Context:
    is_shutdown: bool
    asyncio_loop: asyncio.AbstractEventLoop


def reported(report: Callable[[Any, Any], None], returncode: int, *, shutting_down: bool) -> list[str]:
    """Return the sentences that reach the exception handler of an event loop."""
    loop, sentences = asyncio.new_event_loop(), []
    loop.set_exception_handler(lambda _, context: sentences.append(context["message"]))
    try:
        report(Exited(returncode), Context(shutting_down, loop))
    finally:
        loop.close()
    return sentences


@pytest.mark.parametrize("report", [report_failure, report_failure_at_shutdown])
@pytest.mark.parametrize("told_to_end", [0, -signal.SIGINT, -signal.SIGTERM, 130, 143])
def test_a_process_that_ends_on_request_has_not_failed(report: Callable[[Any, Any], None], told_to_end: int) -> None:
    assert reported(report, told_to_end, shutting_down=True) == []


@pytest.mark.parametrize(
    ("returncode", "why"),
    [(1, "status 1"), (2, "status 2"), (-signal.SIGKILL, "signal SIGKILL"), (-signal.SIGSEGV, "signal SIGSEGV"),
     (-99, "signal 99")],
)  # fmt: skip
def test_a_failure_is_reported_with_its_status_at_any_time(returncode: int, why: str) -> None:
    for shutting_down in (False, True):
        [sentence] = reported(report_failure, returncode, shutting_down=shutting_down)
        assert sentence.startswith(f"perception_node-1 failed with {why},")


@pytest.mark.parametrize("returncode", [-signal.SIGINT, -signal.SIGTERM, 130, 143])
def test_a_process_that_is_interrupted_before_the_shutdown_has_failed(returncode: int) -> None:
    assert reported(report_failure, returncode, shutting_down=False)


def test_a_process_that_is_restarted_fails_only_during_shutdown() -> None:
    assert reported(report_failure_at_shutdown, -signal.SIGKILL, shutting_down=False) == []
    assert reported(report_failure_at_shutdown, -signal.SIGKILL, shutting_down=True)


def test_an_early_end_is_reported_once() -> None:
    assert reported(report_early_end, 0, shutting_down=False) == [
        "perception_node-1 ended too early; this launch will end with status 1"
    ]
    assert reported(report_early_end, 0, shutting_down=True) == []
    assert reported(report_early_end, 1, shutting_down=False) == []  # report_failure reports this one
