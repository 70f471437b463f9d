"""Runs with rounded weights and activations: calibrated, averaged, checkpointed and resumed like every run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from smoke_runs import StopAfter, logged, smoke

from training.checkpoint import load_student, read_checkpoint
from training.errors import CheckpointError, RecipeError
from training.networks.fake_quantization import ActivationQuantiser
from training.networks.quantization_aware import is_quantization_aware
from training.networks.student import Student, build_student
from training.recipe import Recipe, load_recipe
from training.run.train import train
from training.starting_weights import load_weights_into

WEIGHTS = ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"
RECIPE = ROOT / "training" / "recipes" / "student_n_aware_short.yaml"


def aware(samples: Path, output: Path, *overrides: str) -> Recipe:
    distilled = f"distillation={{teacher: {WEIGHTS}, terms: [{{kind: temperature_kl}}]}}"
    chosen = ("size=n", "data.samples_per_epoch=8", f"initial_weights={WEIGHTS}", distilled)
    return smoke(samples, output, *chosen, "quantization_aware={calibration_batches: 2}", *overrides)


def scales_of(student: Student) -> dict[str, float]:
    return {
        name: float(module.scale().detach())
        for name, module in student.named_modules()
        if isinstance(module, ActivationQuantiser)
    }


@pytest.fixture(scope="module")
def finished(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(aware(rendered_samples, tmp_path_factory.mktemp("aware")), accelerator="cpu")


def test_a_checkpoint_notes_and_rebuilds_a_student_that_rounds(finished: Path) -> None:
    averaged, info = load_student(finished / "checkpoints" / "last.ckpt")
    assert info.quantization_aware == {"form": "cpu", "method": "lsq", "calibration_batches": 2}
    assert is_quantization_aware(averaged)
    assert averaged.detection_one_to_many is not None
    scales = scales_of(averaged)
    assert len(scales) > 30
    assert 1.0 not in scales.values(), "each activation has a range from calibration"
    assert scales["backbone.stages.0.0.0.input"] == pytest.approx(1 / 255, rel=0.02)
    assert math.isfinite(logged(finished, "loss")[-1])
    assert len(logged(finished, "miou")) == 2


def test_the_average_follows_the_learned_ranges(finished: Path) -> None:
    averaged, trained = (load_student(finished / "checkpoints" / "last.ckpt", kind)[0] for kind in ("ema", "trained"))
    of_average, of_trained = scales_of(averaged), scales_of(trained)
    moved = [name for name in of_trained if of_trained[name] != of_average[name]]
    assert len(moved) > 20
    assert "backbone.stages.0.0.0.input" not in moved, "the range of the image is not learned"
    for name in moved:
        assert of_average[name] == pytest.approx(of_trained[name], rel=0.05)


def test_a_resumed_run_equals_an_uninterrupted_one(finished: Path, rendered_samples: Path, tmp_path: Path) -> None:
    recipe = aware(rendered_samples, tmp_path)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, accelerator="cpu", callbacks=(StopAfter(epoch=1, batch=0),))
    # The recipe of the fixture differs in its folder alone, which is part of its digest.
    stopped = train(recipe, resume=tmp_path / recipe.name / "checkpoints" / "last.ckpt", accelerator="cpu")
    expected, found = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (finished, stopped))
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][name]), name


def test_straight_through_keeps_the_ranges_of_calibration(rendered_samples: Path, tmp_path: Path) -> None:
    recipe = aware(rendered_samples, tmp_path, "quantization_aware.method=straight_through", "epochs=1")
    folder = train(recipe, accelerator="cpu")
    averaged, trained = (load_student(folder / "checkpoints" / "last.ckpt", kind)[0] for kind in ("ema", "trained"))
    assert scales_of(averaged) == scales_of(trained)
    before = build_student("n", 11, 4)
    load_weights_into(before, load_student(WEIGHTS)[1].classes, WEIGHTS)
    fused = before.fused().state_dict()
    weight = "neck.context.reduce.0.weight"
    assert not torch.equal(trained.state_dict()[weight], fused[weight])


def test_a_run_needs_weights_to_calibrate(rendered_samples: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="quantization_aware needs initial_weights"):
        smoke(rendered_samples, tmp_path, "quantization_aware={}")


def test_weights_that_are_trained_for_8_bits_are_no_start(
    finished: Path, rendered_samples: Path, tmp_path: Path
) -> None:
    start = f"initial_weights={finished / 'checkpoints' / 'last.ckpt'}"
    for recipe in (aware(rendered_samples, tmp_path, start), smoke(rendered_samples, tmp_path, "size=n", start)):
        with pytest.raises(CheckpointError, match=r"last\.ckpt: expected a plain network to start from.*--resume"):
            train(recipe, accelerator="cpu")


def test_notes_that_cannot_be_read_are_refused(finished: Path, tmp_path: Path) -> None:
    content = read_checkpoint(finished / "checkpoints" / "last.ckpt")
    content["ros_kd_perception"]["quantization_aware"] = {"form": "roman"}
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(CheckpointError, match=r"changed\.ckpt: its notes on quantisation cannot be read.*train it"):
        load_student(tmp_path / "changed.ckpt")


def test_the_shipped_recipe_is_complete() -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.quantization_aware is not None
    assert recipe.distillation is not None
    assert recipe.starts == (recipe.distillation.teacher,)
