from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ros_kd_perception.demo.logged_process import ChildFailed, ChildProcess

READY = "import sys, time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); " + READY


def child(code: str, folder: Path) -> ChildProcess:
    return ChildProcess("worker", [sys.executable, "-c", code], os.environ, folder / "worker.log")


def test_waits_for_a_line_and_ends_it(tmp_path: Path) -> None:
    with child(READY, tmp_path) as process:
        process.wait_for_line("ready", 20)
        assert process.exit_status is None
    assert process.exit_status not in (None, 0)


def test_a_process_that_ignores_interrupts_is_killed(tmp_path: Path) -> None:
    with child(STUBBORN, tmp_path) as process:
        process.wait_for_line("ready", 20)
        started = time.monotonic()
        process.stop(limit_s=0.2)
    assert process.exit_status is not None
    assert time.monotonic() - started < 10


def test_the_error_quotes_the_last_lines_of_a_failed_process(tmp_path: Path) -> None:
    with (
        child("print('the model is not there'); raise SystemExit(3)", tmp_path) as process,
        pytest.raises(ChildFailed, match=r"worker ended with exit status 3 before .*(?s:.)*the model is not there"),
    ):
        process.wait_for_line("ready", 20)


def test_waiting_ends_at_a_timeout(tmp_path: Path) -> None:
    with child(READY, tmp_path) as process, pytest.raises(ChildFailed, match=r"not there after 0\.1 s: a wonder"):
        process.wait_for(lambda: False, "a wonder", 0.1)


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from ros_kd_perception.demo.logged_process import ChildProcess\n"
        f"child = ChildProcess('w', [sys.executable, '-c', {READY!r}], os.environ, Path({str(tmp_path / 'c.log')!r}))\n"
        "child.wait_for_line('ready', 20); print(child._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    with child(code, tmp_path) as parent:
        deadline = time.monotonic() + 20
        while parent.exit_status is None and time.monotonic() < deadline:
            time.sleep(0.02)
        grandchild = int(parent.tail(1))
        while Path(f"/proc/{grandchild}/stat").exists() and time.monotonic() < deadline:
            if Path(f"/proc/{grandchild}/stat").read_text().split()[2] == "Z":
                break
            time.sleep(0.02)
        else:
            assert not Path(f"/proc/{grandchild}").exists()
