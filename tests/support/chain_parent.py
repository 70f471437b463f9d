"""The parent of a chain: random weights of size n, with the notes of a run on small frames."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from checkout import ROOT

from training.checkpoint import CheckpointInfo, digest_of_weights
from training.label_sets.loading import DEFAULT_LABEL_SET, load_label_set
from training.networks.student import build_student
from training.recipe import load_recipe
from training.weights_file import write_weights

SMOKE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"


def write_parent(path: Path, samples: Path) -> None:
    """Write random weights of size n, with the notes of a run on small frames."""
    recipe = load_recipe(SMOKE, ["size=n", f"data.train.0.folder={samples}", *validation_on(samples)])
    classes = load_label_set(DEFAULT_LABEL_SET)
    torch.manual_seed(3)
    student = build_student("n", len(classes.segmentation), len(classes.detection)).eval()
    info = CheckpointInfo(
        "n", recipe.to_yaml(), recipe.sha256, "", 1, "", {}, label_set=classes.model_dump(mode="json")
    )
    write_weights(path, student.state_dict(), asdict(info), digest_of_weights(student))


def validation_on(samples: Path) -> list[str]:
    return [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
