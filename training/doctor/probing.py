"""Runs probes in child processes, so that a package that crashes on import ends a child and not the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from training.doctor.probe import Facts

TIMEOUT_S = 180.0
_ROOT = Path(__file__).resolve().parents[2]
_QUIET = {"ORT_DISABLE_TELEMETRY": "1"}  # ONNX Runtime sends telemetry unless this is set before it is imported


def run_probes(names: Sequence[str], timeout_s: float = TIMEOUT_S) -> dict[str, Facts]:
    """Return the facts of each probe. A probe that ends its process or never ends has an `error`.

    Args:
        names: Probes of `training.doctor.probe`, in the order in which they run.
        timeout_s: Longest time for all probes of one child process.
    """
    facts: dict[str, Facts] = {}
    while left := [name for name in names if name not in facts]:
        found, reason = _run_child(left, timeout_s)
        facts.update(found)
        unfinished = [name for name in left if name not in found]
        if unfinished:  # the first of them is to blame; the others have not begun
            facts[unfinished[0]] = {"error": reason}
    return facts


def _run_child(names: Sequence[str], timeout_s: float) -> tuple[dict[str, Facts], str]:
    """Return the facts of the probes that ended, and why the child process stopped."""
    command = [sys.executable, "-m", "training.doctor.probe", *names]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=_QUIET | os.environ, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        output, status = done.stdout, done.returncode
        reason = f"it ended the process with {f'signal {-status}' if status < 0 else f'exit status {status}'}"
        last = done.stderr.strip().splitlines()[-1:]
        reason += f" ({last[0][:160]})" if last else ""
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        reason = f"it did not end within {timeout_s:.0f} s"
    lines = [line for line in output.splitlines() if line.endswith("]")]
    return dict(map(json.loads, lines)), reason
