"""`from training import load_recipe, train` works, and importing `training` loads neither torch nor pydantic."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkout import ROOT

import training


def test_every_public_name_is_there_and_listed() -> None:
    for name in training.__all__:
        assert getattr(training, name).__name__ == name
    assert set(training.__all__) <= set(dir(training))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        training.trian  # noqa: B018


@pytest.mark.parametrize(
    ("script", "loaded"),
    [
        ("import training", ""),
        ("from training import load_recipe; load_recipe('training/recipes/student_s_smoke.yaml')", "pydantic"),
    ],
)
def test_a_recipe_is_read_without_loading_slow_packages(script: str, loaded: str) -> None:
    script += "; import sys; print(*sorted({'torch', 'numpy', 'cv2', 'PIL', 'tqdm', 'rosbags', 'pydantic'} & "
    script += "set(sys.modules)), sys.modules['os'].environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*loaded.split(), "PASSIVE"]
