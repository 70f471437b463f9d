"""Test weights that are kept alone: small, without code, and read wherever a checkpoint is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ROOT
from safetensors import safe_open
from safetensors.torch import save_file

from training.__main__ import main
from training.checkpoint import INFO_KEY, CheckpointInfo, digest_of_weights, load_student
from training.errors import CheckpointError
from training.export.network_inputs import render_network_inputs
from training.label_sets.loading import load_label_set
from training.networks.student import Student, build_student
from training.recipe import Recipe, load_recipe
from training.run.train import train
from training.starting_weights import load_weights_into
from training.weights_file import read_weights, write_weights

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
KEPT = ROOT / "models" / "weights"
MAX_KEPT_BYTES = 60_000_000


def smoke(samples: Path, output: Path, *overrides: str) -> Recipe:
    folders = [f"data.train.0.folder={samples}", f"output={output}", "size=n", "epochs=1"]
    folders += [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    return load_recipe(RECIPE, [*folders, *overrides])


@pytest.fixture(scope="module")
def checkpoint(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on eight rendered frames."""
    folder = train(smoke(rendered_samples, tmp_path_factory.mktemp("runs")), accelerator="cpu")
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def kept(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "student.safetensors"
    assert main(["keep-weights", str(checkpoint), "-o", str(path)]) == 0
    return path


def notes(**changes: Any) -> dict[str, Any]:
    classes = load_label_set("camvid11").model_dump(mode="json")
    info = CheckpointInfo("n", "", "", "", 1, "", {"miou": None}, label_set=classes)
    return {**asdict(info), **changes}


def metadata(info: Any) -> str:
    return json.dumps({"weights_sha256": "", "info": info})


def test_the_weights_are_those_of_the_checkpoint_in_half_precision(checkpoint: Path, kept: Path) -> None:
    (before, info), (after, found) = load_student(checkpoint), load_student(kept)
    assert found == info
    for name, value in before.state_dict().items():
        same = after.state_dict()[name]
        assert same.dtype == value.dtype
        if value.ndim < 2:
            assert torch.equal(same, value), name
        else:  # 11 significant bits, and the smallest number of half precision
            assert torch.allclose(same, value, rtol=2**-11, atol=2**-24), name
    images = torch.tensor(render_network_inputs(96, 160)[0]).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        classes = [network(images).segmentation_logits.argmax(dim=1) for network in (before, after)]
    assert (classes[0] == classes[1]).float().mean() > 0.99


def test_the_file_is_small_and_names_its_origin(checkpoint: Path, kept: Path) -> None:
    student, info = load_student(checkpoint)
    parameters = sum(value.numel() for value in student.state_dict().values())
    assert kept.stat().st_size < 2.2 * parameters + 30_000
    assert kept.stat().st_size < checkpoint.stat().st_size / 6
    with safe_open(kept, framework="pt") as file:
        content = json.loads(file.metadata()[INFO_KEY])
    assert content["weights_sha256"] == digest_of_weights(student) == read_weights(kept).sha256
    noted = content["info"]
    assert noted["recipe"] == info.recipe
    assert noted["label_set"]["name"] == info.classes.name
    assert {"size", "backbone", "data_sha256", "git_commit", "metrics"} <= noted.keys()


def test_the_same_checkpoint_gives_the_same_file(checkpoint: Path, kept: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    assert main(["keep-weights", str(checkpoint), "-o", str(again)]) == 0
    assert again.read_bytes() == kept.read_bytes()


def test_a_run_starts_from_kept_weights_and_learns_from_them_as_a_teacher(
    kept: Path, rendered_samples: Path, tmp_path: Path
) -> None:
    teaches = f"distillation={{teacher: {kept}, terms: [{{kind: temperature_kl}}]}}"
    recipe = smoke(rendered_samples, tmp_path, "name=next", "validation={}", f"initial_weights={kept}", teaches)
    last = train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"
    info = load_student(last)[1]
    digest = digest_of_weights(load_student(kept)[0])
    assert (info.initial_weights_sha256, info.teacher_sha256) == (digest, digest)
    assert info.licences == {"rendered frames": {"terms": "Apache-2.0", "use": "any"}}  # of frames, start and teacher


def test_kept_weights_grow_to_a_larger_size(kept: Path) -> None:
    classes = load_label_set("camvid11")
    student = build_student("s", len(classes.segmentation), len(classes.detection))
    before = digest_of_weights(student)
    load_weights_into(student, classes, kept)
    assert digest_of_weights(student) != before


def test_kept_weights_are_evaluated_and_exported(
    kept: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    small = ["--height", "96", "--width", "160"]
    assert main(["evaluate", str(kept), str(rendered_samples), "--limit", "2", "--json", str(figures), *small]) == 0
    assert json.loads(figures.read_text())["model"] == kept.name
    assert main(["evaluate", str(kept), str(rendered_samples), "--weights", "trained"]) == 2
    assert "weights that were kept alone are the average" in capsys.readouterr().err
    assert main(["export", str(kept), "-o", str(tmp_path / "student.onnx"), *small]) == 0


def test_a_run_cannot_be_resumed_from_kept_weights(kept: Path, rendered_samples: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="start a new run with initial_weights"):
        train(load_recipe(RECIPE, ["size=n"]).replace(**dict(_noted(kept))), resume=kept, accelerator="cpu")


def _noted(kept: Path) -> dict[str, Any]:
    """Return the values of the recipe of kept weights, so that nothing else is refused first."""
    from training.recipe import parse_noted_recipe

    return dict(parse_noted_recipe(load_student(kept)[1].recipe))


def test_a_kernel_beyond_half_precision_keeps_its_values(tmp_path: Path) -> None:
    state = {"large": torch.full((2, 2), 1e6), "kernel": torch.full((2, 2), 1.0), "variance": torch.tensor([1e-12])}
    write_weights(tmp_path / "a.safetensors", state, notes(), "x")
    found = read_weights(tmp_path / "a.safetensors").state
    for name, value in state.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected weights that python -m training keep-weights wrote"),
        (b"\xff" * 64, "expected weights that python -m training keep-weights wrote"),
        ({}, "got 'ros_kd_perception'"),
        ({INFO_KEY: "[]"}, "list indices must be integers"),
        ({INFO_KEY: metadata([])}, "notes of another form"),
        ({INFO_KEY: "{"}, "keep-weights wrote, got Expecting"),
        ({INFO_KEY: metadata({})}, "expected the notes of python -m training train in it"),
        ({INFO_KEY: metadata(notes())}, "its weights do not fit a student of size n"),
        ({INFO_KEY: metadata(notes(size="x"))}, "size of another type"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_files_are_refused(content: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_file({"some": torch.zeros(2)}, path, content)
    with pytest.raises(CheckpointError) as error:
        load_student(path)
    assert str(path) in str(error.value)
    assert sentence in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_student(tmp_path / "none.safetensors")


def test_the_name_of_the_file_must_have_its_suffix(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keep-weights", str(checkpoint), "-o", "weights.ckpt"])
    assert "expected a name that ends with .safetensors" in capsys.readouterr().err


def kept_files() -> list[Path]:
    return sorted(KEPT.iterdir()) if KEPT.is_dir() else []


def test_the_weights_of_the_repository_stay_small() -> None:
    assert sum(path.stat().st_size for path in kept_files()) <= MAX_KEPT_BYTES


@pytest.mark.parametrize("path", [path for path in kept_files() if path.suffix == ".safetensors"], ids=lambda p: p.stem)
def test_each_file_of_the_repository_is_a_student_with_its_origin(path: Path) -> None:
    student, info = load_student(path)
    assert isinstance(student, Student)
    assert all(value.isfinite().all() for value in student.state_dict().values() if value.is_floating_point())
    assert info.git_commit
    assert info.recipe_sha256
    assert path.stem in (ROOT / "models" / "README.md").read_text(encoding="utf-8")
