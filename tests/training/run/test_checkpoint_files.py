"""A full disk: existing checkpoints stay complete, no partial file is left, and the error is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkout import ROOT

from training.errors import CheckpointError
from training.run import checkpoint_files
from training.run.checkpoint_files import WholeCheckpoints, check_room

# A limit on the size of files replaces a full disk: the kernel refuses further writes in the same way.
LIMITED = """
import resource, sys
sys.dont_write_bytecode = True  # a compiled module would be cut without an error
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run_limited(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def test_a_full_disk_ends_a_run_with_one_sentence(rendered_samples: Path, tmp_path: Path) -> None:
    words = ["train", "training/recipes/student_s_smoke.yaml", "--accelerator", "cpu"]
    for override in (f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "size=n", "validation={}"):
        words += ["--override", override]
    checkpoints = tmp_path / "student_s_smoke" / "checkpoints"
    finished = run_limited(*words)
    assert finished.returncode == 2, finished.stderr[-2000:]
    assert "last.ckpt: expected to write a checkpoint, got: File too large; make room" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not list(checkpoints.iterdir())


def test_an_earlier_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, path)
    script = (
        "import resource, sys, torch\n"
        "sys.dont_write_bytecode = True\n"
        "from training.run.checkpoint_files import WholeCheckpoints\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "WholeCheckpoints().save_checkpoint({'values': torch.zeros(100_000)}, sys.argv[1])\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode != 0
    assert "last.ckpt is complete" in finished.stderr.splitlines()[-1]
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_too_little_room_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Linear(1000, 1000)
    check_room(tmp_path / "runs" / "one", network)
    monkeypatch.setattr(checkpoint_files.shutil, "disk_usage", lambda place: SimpleNamespace(free=40_000_000))
    with pytest.raises(CheckpointError, match=r"expected 48 MB of free disk .* got 40 MB; make room"):
        check_room(tmp_path / "runs" / "one", network)
