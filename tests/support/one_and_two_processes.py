"""What one process finds and what two find together, for tests of training; and every term that a teacher may have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from checkout import ROOT

EVERY_TERM = """[{kind: temperature_kl}, {kind: temperature_kl, labeled_only: true},
  {kind: logit_mse, labeled_only: true}, {kind: dist}, {kind: dist, labeled_only: true},
  {kind: standardized_kl, labeled_only: true}, {kind: decoupled_kl}, {kind: hint, at: p4},
  {kind: attention_transfer, at: p3}, {kind: channel_wise, at: logits}, {kind: channel_wise, at: p4},
  {kind: pearson, at: p3}, {kind: pairwise_affinity, at: p4, grid: 4}, {kind: distance_relation, at: p4},
  {kind: angle_relation, at: p4}, {kind: cross_image_relation, at: p4, grid: 4}, {kind: soft_classification},
  {kind: weighted_box_iou}, {kind: foreground_imitation, at: p3}]"""


def by_one_and_by_two(script: str, folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a script alone and as two processes; it takes a folder, a rank and a number of processes.

    The process of rank 0 leaves `<name>_<number of processes>.pt` in the folder.
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
