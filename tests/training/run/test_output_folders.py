"""Training refuses an output folder in the root of the file system before it does anything else."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from training.__main__ import main


@pytest.mark.parametrize(
    "command",
    [
        "train training/recipes/student_s_smoke.yaml --override output={out}",
        "compare training/comparisons/student_n_unlabeled.yaml --override output={out}",
        "evaluate nothing.onnx nothing --json {out}/figures.json",
        "evaluate nothing.onnx nothing --pictures {out}",
        "export nothing.ckpt -o {out}/student.onnx",
    ],
)
def test_no_folder_is_created_in_the_root(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path("/", f"outt-{uuid.uuid4().hex[:8]}")
    try:
        status: object = main(command.format(out=out).split())
    except SystemExit as ended:  # argparse refuses an argument
        status = ended.code
    assert status == 2
    assert not out.exists()
    assert f"{out} does not exist; check its spelling" in capsys.readouterr().err
