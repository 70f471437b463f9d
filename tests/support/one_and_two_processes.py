"""Run the same training code in one process and in two, to compare the results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from checkout import ROOT


def by_one_and_by_two(script: str, folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a script alone and as two processes. Its arguments are a folder, a rank and a number of processes.

    The process of rank 0 writes `<name>_<number of processes>.pt` into the folder.
    """
    import torch

    ways = ((0, 1), (0, 2), (1, 2))
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(folder), str(rank), str(world)], cwd=ROOT)
        for rank, world in ways
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0, 0]
    one, two = (torch.load(folder / f"{name}_{world}.pt", weights_only=True) for world in (1, 2))
    return one, two
