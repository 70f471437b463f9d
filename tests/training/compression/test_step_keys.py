"""What a step reads is part of its key: a file that changed behind the same settings makes the step anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chain_parent import SMOKE, validation_on, write_parent
from small_bag import write_small_bag

from training.compression.recipe import CompressionRecipe
from training.compression.training_step import step_in_words


def chain_of(step: dict[str, Any], folder: Path) -> CompressionRecipe:
    return CompressionRecipe.checked(
        {
            "name": "trial",
            "parent": str(folder / "parent.safetensors"),
            "steps": [step],
            "scores": [{"name": "left out", "frames": {"kind": "rendered", "folder": str(folder / "frames")}}],
            "output": "small.onnx",
        }
    )


@pytest.fixture
def folder(tmp_path: Path, rendered_samples: Path) -> Path:
    shutil.copytree(rendered_samples, tmp_path / "frames")
    shutil.copytree(rendered_samples, tmp_path / "labelled")
    write_parent(tmp_path / "parent.safetensors", tmp_path / "frames")
    return tmp_path


def change_a_byte(path: Path) -> None:
    """Change a file so that neither its name nor its size tells."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def change_picture(folder: Path) -> None:
    change_a_byte(folder / "frames" / "images" / "000003.jpg")


def change_mask(folder: Path) -> None:
    change_a_byte(folder / "labelled" / "masks" / "000003.png")


def change_training_mask(folder: Path) -> None:
    change_a_byte(folder / "frames" / "masks" / "000003.png")


def other_teacher(folder: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = folder / "teacher.safetensors"
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
        notes = file.metadata()
    next(value for value in state.values() if value.is_floating_point()).neg_()
    save_file(state, path, notes)


def quantise(folder: Path) -> dict[str, Any]:
    calibration = {"frames": {"kind": "rendered", "folder": str(folder / "frames")}, "count": 8}
    return {
        "kind": "quantise",
        "calibration": calibration,
        "mixed": {"frames": {"kind": "rendered", "folder": str(folder / "labelled")}},
    }


def prune(folder: Path) -> dict[str, Any]:
    return {
        "kind": "prune",
        "importance": "taylor",
        "frames": {"kind": "rendered", "folder": str(folder / "labelled")},
    }


def distil(folder: Path) -> dict[str, Any]:
    shutil.copy(folder / "parent.safetensors", folder / "teacher.safetensors")
    teacher = {"kind": "checkpoint", "path": str(folder / "teacher.safetensors")}
    overrides = [
        "size=n", "epochs=1", "data.samples_per_epoch=4", f"data.train.0.folder={folder / 'frames'}",
        *validation_on(folder / "frames"),
        f"distillation={json.dumps({'teachers': [teacher], 'terms': [{'kind': 'temperature_kl'}]})}",
    ]  # fmt: skip
    return {"kind": "distil", "recipe": str(SMOKE), "overrides": overrides}


@pytest.mark.parametrize(
    ("step_of", "change"),
    [
        (quantise, change_picture),
        (quantise, change_mask),
        (prune, change_mask),
        (distil, change_training_mask),
        (distil, other_teacher),
    ],
)
def test_a_step_follows_the_content_of_what_it_reads(
    folder: Path, step_of: Callable[[Path], dict[str, Any]], change: Callable[[Path], None]
) -> None:
    recipe = chain_of(step_of(folder), folder)
    before = step_in_words(recipe.steps[0], recipe)
    assert step_in_words(recipe.steps[0], recipe) == before
    json.dumps(before, allow_nan=False)

    change(folder)

    assert step_in_words(recipe.steps[0], recipe) != before


def test_a_quantisation_follows_the_frames_of_its_bag(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    bag = write_small_bag(folder / "drive.mcap", cameras=("front",), frames=8)
    frames = {"kind": "bag", "folder": str(bag), "change_min": 0.0}
    recipe = chain_of({"kind": "quantise", "calibration": {"frames": frames, "count": 8}}, folder)
    before = step_in_words(recipe.steps[0], recipe)

    bag.unlink()
    write_small_bag(bag, cameras=("front",), frames=7)

    assert step_in_words(recipe.steps[0], recipe) != before
