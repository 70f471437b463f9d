"""Weights that are kept with a share of the pretrained ones that their run started from."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from published_espnetv2 import published

from training.__main__ import main
from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.errors import RecipeError
from training.export.provenance import provenance
from training.keep_weights import keep
from training.keep_weights.keep import keep_weights, mix_pretrained
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.networks.espnetv2 import ESPNetV2
from training.networks.student import Student
from training.recipe import Recipe, load_recipe
from training.run.network import build_recipe_student
from training.weights_file import write_weights

RECIPES = ROOT / "training" / "recipes"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "espnetv2.pth"
    torch.save(published(ESPNetV2()), path)
    return load_recipe(RECIPES / "teacher_espnetv2_camvid.yaml", [f"backbone.pretrained={path}"])


def tuned(recipe: Recipe) -> Student:
    student = build_recipe_student(recipe)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    return student


def notes(recipe: Recipe) -> CheckpointInfo:
    return CheckpointInfo("s", recipe.to_yaml(), "", "", 1, "", {})


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_backbone_moves_back_by_the_share_and_the_classifier_stays(recipe: Recipe, share: float) -> None:
    start, student = build_recipe_student(recipe), tuned(recipe)
    before = copy.deepcopy(student.state_dict())
    mix_pretrained(student, notes(recipe), share)
    parameters = {name for name, _ in student.named_parameters()}
    for name, value in student.state_dict().items():
        moved = name in parameters and name.startswith("backbone.")
        expected = before[name] - share if moved else before[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)
        if moved and share == 1.0:
            torch.testing.assert_close(value, start.state_dict()[name], rtol=0, atol=1e-5)


def test_a_network_without_pretrained_weights_is_refused(recipe: Recipe) -> None:
    random = recipe.model_copy(update={"backbone": None})
    with pytest.raises(RecipeError, match="leave --pretrained-share out"):
        mix_pretrained(tuned(recipe), notes(random), 0.5)


def test_the_kept_file_notes_the_share_and_is_read_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = replace(notes(recipe), label_set=load_label_set("camvid11_masks").model_dump(mode="json"))
    student = tuned(recipe)
    info = replace(info, backbone=student.backbone.configuration, metrics={"miou": 0.5})
    info = replace(info, confidence={"thresholds": {"car": 0.4}, "coverage": 0.9})
    monkeypatch.setattr(keep, "load_mean", lambda path: (student, info))
    output = tmp_path / "mixed.safetensors"
    keep_weights([tmp_path / "run.ckpt"], output, 0.25)
    found, read = load_student(output)
    assert (read.pretrained_share, read.metrics, read.confidence) == (0.25, {}, None)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=2e-3, atol=2e-3)


@pytest.fixture(scope="module")
def start_and_student(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Kept weights of a teacher of masks, and of a student of both tasks on a part of its backbone."""
    folder = tmp_path_factory.mktemp("kept")
    masks, both = (load_label_set(name) for name in ("camvid11_masks", "camvid11"))
    teacher, path = build_recipe_student(recipe), folder / "teacher.safetensors"
    keep_file(path, teacher, recipe, masks, teacher_sha256="aa", data_sha256="dd", licence="Cityscapes")
    settings = ["label_set=camvid11", "backbone.architecture=espnetv2_quarter", "validation.best_by=miou"]
    quarter = load_recipe(
        RECIPES / "teacher_espnetv2_camvid.yaml", [*settings, f"backbone.pretrained={recipe.backbone.pretrained}"]
    )
    student, kept = tuned(quarter), folder / "student.safetensors"
    keep_file(kept, student, quarter, both, teacher_sha256="bb", data_sha256="ee", licence="CamVid")
    return path, kept


def keep_file(path: Path, network: Student, recipe: Recipe, labels: LabelSet, licence: str, **origin: str) -> None:
    licences = {licence: {"terms": "terms of use", "use": "research"}}
    info = replace(
        notes(recipe), label_set=labels.model_dump(mode="json"), backbone=network.backbone.configuration,
        licences=licences, metrics={"miou": 0.5}, **origin,
    )  # fmt: skip
    write_weights(path, network.state_dict(), asdict(info), digest_of_weights(network))


def test_a_backbone_moves_towards_that_of_its_teacher(start_and_student: tuple[Path, Path], tmp_path: Path) -> None:
    (teacher, _), (student, before) = (load_student(path) for path in start_and_student)
    output = tmp_path / "moved.safetensors"
    words = ["keep-weights", str(start_and_student[1]), "-o", str(output)]
    assert main([*words, "--pretrained-share", "0.25", "--towards", str(start_and_student[0])]) == 0
    moved, info = load_student(output)
    start = teacher.backbone.state_dict()
    for name, value in student.state_dict().items():
        layer = name.removeprefix("backbone.")
        if name.startswith("backbone.") and value.is_floating_point():
            value = 0.75 * value + 0.25 * start[layer]
        torch.testing.assert_close(moved.state_dict()[name], value, rtol=2e-3, atol=2e-3)
    assert (info.pretrained_share, info.pretrained_sha256) == (0.25, digest_of_weights(teacher))
    assert (info.data_sha256, info.taught_by, sorted(info.licences or {})) == (
        "ee+dd",
        "bb+aa",
        ["CamVid", "Cityscapes"],
    )
    assert (info.metrics, info.recipe, info.label_set) == ({}, before.recipe, before.label_set)
    written = provenance(info)
    assert (written["pretrained_share"], written["pretrained_sha256"]) == (0.25, digest_of_weights(teacher))


def test_weights_of_another_backbone_are_refused(
    start_and_student: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = map(str, start_and_student)
    output = tmp_path / "moved.safetensors"
    plain = str(ROOT / "models" / "weights" / "student_n_rendered_short.safetensors")
    for kept, other in ((teacher, student), (student, plain)):
        assert main(["keep-weights", kept, "-o", str(output), "--pretrained-share", "0.5", "--towards", other]) == 2
        assert f"{other}: expected the backbone of the network whose weights are kept" in capsys.readouterr().err
    assert not output.exists()


def test_a_direction_without_a_share_is_refused(
    start_and_student: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = map(str, start_and_student)
    assert main(["keep-weights", student, "-o", str(tmp_path / "moved.safetensors"), "--towards", teacher]) == 2
    assert "expected --pretrained-share together with --towards" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "half"])
def test_the_share_is_from_0_to_1(share: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keep-weights", "a.ckpt", "-o", str(tmp_path / "a.safetensors"), "--pretrained-share", share])
    assert f"expected a number from 0 to 1, got {share}" in capsys.readouterr().err
