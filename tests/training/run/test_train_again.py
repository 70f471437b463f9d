"""Runs that are resumed, started twice or diverge: no step is lost, nothing is overwritten, NaN is reported."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from checkout import ROOT

from training.__main__ import main
from training.checkpoint import read_checkpoint
from training.errors import CheckpointError, RecipeError
from training.networks.student import build_student
from training.recipe import Recipe, load_recipe
from training.run.callbacks import DataClock
from training.run.lightning_module import StudentTraining, all_finite, rate_share
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
DROP_PATH = "backbone={architecture: convnextv2, settings: {drop_path_rate: 0.5, depths: [1, 1, 1, 1], \
hidden_sizes: [8, 16, 24, 32]}}"


def smoke(samples: Path, output: Path, *overrides: str) -> Recipe:
    folders = [f"data.train.0.folder={samples}", f"output={output}", "size=n"]
    folders += [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    return load_recipe(RECIPE, [*folders, *overrides])


class SpoilGradient(lightning.Callback):
    """Makes one gradient NaN, as half precision does now and then."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            next(p for p in pl_module.parameters() if p.grad is not None).grad.fill_(float("inf"))


@pytest.mark.parametrize("validation", ["validation.every_epochs=1", "validation={}"])
def test_nan_in_the_weights_ends_the_run_and_its_checkpoint_stays(
    validation: str, rendered_samples: Path, tmp_path: Path
) -> None:
    recipe = smoke(rendered_samples, tmp_path, "epochs=3", validation)
    with pytest.raises(CheckpointError, match=r"epoch 2; the last checkpoint is of the epoch before|lower the rate"):
        train(recipe, accelerator="cpu", callbacks=(SpoilGradient(epoch=1),))
    kept = read_checkpoint(tmp_path / recipe.name / "checkpoints" / "last.ckpt")
    assert kept["ros_kd_perception"]["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["state_dict"].values() if value.is_floating_point())


def test_a_single_nan_is_found() -> None:
    student = build_student("n", 11, 4)
    assert all_finite(student)
    with torch.no_grad():
        next(student.parameters()).view(-1)[3] = float("nan")
    assert not all_finite(student)


def test_run_resumes_from_a_best_checkpoint_of_the_middle_of_an_epoch(rendered_samples: Path, tmp_path: Path) -> None:
    recipe = smoke(rendered_samples, tmp_path / "whole", "epochs=2", "validation.every_epochs=1")
    whole = train(recipe, accelerator="cpu")
    checkpoints = whole / "checkpoints"
    content = read_checkpoint(checkpoints / "best.ckpt")
    recipe = smoke(rendered_samples, tmp_path / "again", "epochs=2", "validation.every_epochs=1")
    content["ros_kd_perception"]["recipe_sha256"] = recipe.sha256
    torch.save(content, tmp_path / "best.ckpt")
    again = train(recipe, resume=tmp_path / "best.ckpt", accelerator="cpu")
    one, other = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, again))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name


class StartAgain(lightning.Callback):
    """Starts the same run in the middle of its first epoch, before there is a checkpoint."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.refusal = ""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if not self.refusal:
            try:
                train(self.recipe, accelerator="cpu")
            except CheckpointError as error:
                self.refusal = str(error)
            else:
                self.refusal = "none"


def test_a_running_run_cannot_be_started_again(rendered_samples: Path, tmp_path: Path) -> None:
    recipe = smoke(rendered_samples, tmp_path, "epochs=1", "validation={}")
    second = StartAgain(recipe)
    folder = train(recipe, accelerator="cpu", callbacks=(second,))
    assert "another run is writing there" in second.refusal
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the lock is released


def test_run_resumes_without_its_initial_weights(rendered_samples: Path, tmp_path: Path) -> None:
    first = train(smoke(rendered_samples, tmp_path, "name=first", "epochs=1", "validation={}"), accelerator="cpu")
    start = tmp_path / "start.ckpt"
    (first / "checkpoints" / "last.ckpt").rename(start)
    recipe = smoke(rendered_samples, tmp_path, "epochs=2", "validation={}", f"initial_weights={start}")

    class Stop(lightning.Callback):
        def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped by the test")

    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, accelerator="cpu", callbacks=(Stop(),))
    start.unlink()
    last = tmp_path / recipe.name / "checkpoints" / "last.ckpt"
    noted = read_checkpoint(last)["ros_kd_perception"]["initial_weights_sha256"]
    train(recipe, resume=last, accelerator="cpu")
    after = read_checkpoint(last)["ros_kd_perception"]
    assert after["epoch"] == 2
    assert after["initial_weights_sha256"] == noted != ""


def test_resuming_is_exact_for_a_network_with_random_numbers(rendered_samples: Path, tmp_path: Path) -> None:
    overrides = ("epochs=2", "validation={}", DROP_PATH)
    whole = train(smoke(rendered_samples, tmp_path / "whole", *overrides), accelerator="cpu")
    recipe = smoke(rendered_samples, tmp_path / "stopped", *overrides)

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped by the test")

    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, accelerator="cpu", callbacks=(Stop(),))
    last = tmp_path / "stopped" / recipe.name / "checkpoints" / "last.ckpt"
    train(recipe, resume=last, accelerator="cpu")
    expected, found = (read_checkpoint(path)["state_dict"] for path in (whole / "checkpoints" / "last.ckpt", last))
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


class Rates(lightning.Callback):
    """Notes epoch and learning rate of every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.steps.append((trainer.current_epoch, trainer.optimizers[0].param_groups[0]["lr"]))


def test_a_finished_run_with_more_epochs_trains_the_missing_ones_only(rendered_samples: Path, tmp_path: Path) -> None:
    words = ("validation={}", "optimizer.warmup_steps=1")
    folder = train(smoke(rendered_samples, tmp_path, "epochs=1", *words), accelerator="cpu")
    last = folder / "checkpoints" / "last.ckpt"
    one, longer, rates = read_checkpoint(last), smoke(rendered_samples, tmp_path, "epochs=3", *words), Rates()
    assert train(longer, resume=last, accelerator="cpu", callbacks=(rates,)) == folder
    three = read_checkpoint(last)
    steps = one["global_step"]
    assert (three["global_step"], three["ros_kd_perception"]["epoch"]) == (3 * steps, 3)
    assert three["ros_kd_perception"]["recipe_sha256"] == longer.sha256
    assert load_recipe(folder / "recipe.yaml").epochs == 3
    assert [epoch for epoch, _ in rates.steps] == [1] * steps + [2] * steps
    # From the first step on, the learning rate is that of a run of three epochs.
    share = rate_share(longer.optimizer, 3 * steps)
    expected = [longer.optimizer.learning_rate * share(step) for step in range(steps, 3 * steps)]
    assert [rate for _, rate in rates.steps] == pytest.approx(expected)


@pytest.mark.parametrize("changes", [["epochs=1"], ["epochs=3", "seed=5"]], ids=" ".join)
def test_only_more_epochs_may_change_when_a_run_is_resumed(
    changes: list[str], rendered_samples: Path, tmp_path: Path
) -> None:
    begun = smoke(rendered_samples, tmp_path, "epochs=2", "validation={}")
    folder = train(begun, accelerator="cpu")
    other = smoke(rendered_samples, tmp_path, "validation={}", *changes)
    with pytest.raises(CheckpointError, match="or of this recipe with fewer epochs"):
        train(other, resume=folder / "checkpoints" / "last.ckpt", accelerator="cpu")


def test_averaging_does_not_count_as_waiting_for_data(
    rendered_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks: list[DataClock] = []

    class Seen(lightning.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            clocks.extend(callback for callback in trainer.callbacks if isinstance(callback, DataClock))

    import time

    from training.run.ema import AveragedWeights

    update = AveragedWeights.update

    def slow(self: AveragedWeights, network: torch.nn.Module) -> None:
        time.sleep(0.3)
        update(self, network)

    monkeypatch.setattr(AveragedWeights, "update", slow)
    train(smoke(rendered_samples, tmp_path, "epochs=1", "validation={}"), accelerator="cpu", callbacks=(Seen(),))
    (clock,) = clocks
    assert clock._worked_s > 6 * 0.3  # six steps


def test_epoch_without_a_batch_for_every_process_is_refused(
    rendered_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightning.Trainer, "world_size", 8)  # like on a machine with eight GPUs
    with pytest.raises(RecipeError, match="24 samples does not fill one batch of 4 in each of 8 processes"):
        train(smoke(rendered_samples, tmp_path), accelerator="cpu")


@pytest.mark.parametrize(("height", "width"), [(100, 640), (384, 650)])
def test_input_size_that_no_student_can_have_is_refused_before_files_are_read(
    height: int, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"validation.input_height={height}", f"validation.input_width={width}"]
    words = ["train", str(RECIPE), *(word for override in overrides for word in ("--override", override))]
    assert main(words) == 2
    assert "multiples of 32 up to 8192" in capsys.readouterr().err


def test_depthwise_kernels_are_decayed_and_scales_are_not(rendered_samples: Path, tmp_path: Path) -> None:
    run = StudentTraining(smoke(rendered_samples, tmp_path, "validation={}", DROP_PATH), 1, "")
    groups = run.configure_optimizers()["optimizer"].param_groups
    decayed, free = ({id(value) for value in group["params"]} for group in groups)
    names = dict(run.student.named_parameters())
    kernels = [value for name, value in names.items() if "dwconv.weight" in name]
    assert kernels
    assert all(id(value) in decayed for value in kernels)
    others = [value for name, value in names.items() if "grn" in name or name.endswith(("bias", "scale"))]
    assert others
    assert all(id(value) in free for value in others)
