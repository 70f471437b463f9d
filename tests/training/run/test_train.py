"""Complete runs on tiny rendered frames: they learn, they are logged, and an interruption changes nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from label_sets import CAMVID
from shipped_classes import DETECTION_CLASSES, SEGMENTATION_CLASSES
from smoke_runs import RECIPE, StopAfter, logged, smoke

import training.run.train as train_module
from training.__main__ import main
from training.checkpoint import INFO_KEY, digest_of_weights, load_student, read_checkpoint
from training.config.sections import OptimizerRecipe
from training.errors import CheckpointError, RecipeError
from training.networks.student import build_student
from training.recipe import load_recipe
from training.run.ema import AveragedWeights
from training.run.frames import RunFrames
from training.run.lightning_module import rate_share, split_by_decay
from training.run.train import train
from training.starting_weights import load_weights_into


@pytest.fixture(scope="module")
def finished_run(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(smoke(rendered_samples, tmp_path_factory.mktemp("runs")), accelerator="cpu")


def test_the_loss_falls_and_all_files_are_written(finished_run: Path) -> None:
    losses = logged(finished_run, "loss")
    assert len(losses) == 6
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5
    assert len(logged(finished_run, "miou")) == 2
    assert {path.name for path in (finished_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((finished_run / "tensorboard").rglob("events.*"))


def test_checkpoint_notes_its_origin(finished_run: Path, rendered_samples: Path) -> None:
    averaged, info = load_student(finished_run / "checkpoints" / "last.ckpt")
    trained, _ = load_student(finished_run / "checkpoints" / "last.ckpt", weights="trained")
    recipe = smoke(rendered_samples, finished_run.parent)
    assert (info.epoch, info.size, info.recipe, info.recipe_sha256) == (2, "s", recipe.to_yaml(), recipe.sha256)
    assert info.data_sha256
    assert 0 <= info.metrics["miou"] <= 1
    assert not averaged.training
    assert any(not torch.equal(a, b) for a, b in zip(averaged.parameters(), trained.parameters(), strict=True))


def test_checkpoint_without_a_noted_backbone_still_loads(finished_run: Path, tmp_path: Path) -> None:
    content = read_checkpoint(finished_run / "checkpoints" / "last.ckpt")
    notes = content["ros_kd_perception"]
    del notes["backbone"]
    notes["recipe"] = "".join(line for line in notes["recipe"].splitlines(True) if not line.startswith("backbone:"))
    torch.save(content, tmp_path / "old.ckpt")
    student, info = load_student(tmp_path / "old.ckpt")
    assert info.backbone is None
    assert "backbone" not in info.recipe
    current, _ = load_student(finished_run / "checkpoints" / "last.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), current.parameters(), strict=True))


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(rendered_samples: Path, tmp_path: Path) -> None:
    # With workers, to show that random numbers do not depend on the worker.
    overrides = ("size=n", "epochs=3", "data.workers=1", "augmentation.rare_paste=0.5", "augmentation.noise=1.0")
    whole = train(smoke(rendered_samples, tmp_path / "whole", *overrides), accelerator="cpu")
    recipe = smoke(rendered_samples, tmp_path / "stopped", *overrides)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, accelerator="cpu", callbacks=(StopAfter(epoch=1, batch=3),))
    checkpoint = tmp_path / "stopped" / recipe.name / "checkpoints" / "last.ckpt"
    assert read_checkpoint(checkpoint)["ros_kd_perception"]["epoch"] == 1
    stopped = train(recipe, resume=checkpoint, accelerator="cpu")
    expected, found = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, stopped))
    assert expected["global_step"] == found["global_step"] == 18
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][name]), name
    # Every second step is logged; the last two epochs have twelve.
    assert logged(whole, "loss")[-6:] == logged(stopped, "loss")[-6:]


def test_resuming_another_recipe_is_refused(finished_run: Path, rendered_samples: Path) -> None:
    other = smoke(rendered_samples, finished_run.parent, "optimizer.learning_rate=0.1")
    with pytest.raises(CheckpointError, match="another recipe"):
        train(other, resume=finished_run / "checkpoints" / "last.ckpt", accelerator="cpu")


def test_resuming_with_other_data_is_refused(finished_run: Path, rendered_samples: Path, tmp_path: Path) -> None:
    content = read_checkpoint(finished_run / "checkpoints" / "last.ckpt")
    content[INFO_KEY]["data_sha256"] = "0" * 16
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=f"those of {rendered_samples} have changed; restore them"):
        train(smoke(rendered_samples, finished_run.parent), resume=tmp_path / "last.ckpt", accelerator="cpu")


def test_a_run_with_the_same_name_is_not_overwritten(finished_run: Path, rendered_samples: Path) -> None:
    last = finished_run / "checkpoints" / "last.ckpt"
    before = last.stat()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: expected a new run's folder.*--resume.*name=.*delete"):
        train(smoke(rendered_samples, finished_run.parent), accelerator="cpu")
    assert last.stat() == before


class MetricsAtStart(lightning.Callback):
    """Records the metrics that a checkpoint would note at the start of each epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(dict(pl_module.last_metrics))


def test_the_last_epoch_is_validated_at_any_interval(rendered_samples: Path, tmp_path: Path) -> None:
    metrics = MetricsAtStart()
    recipe = smoke(rendered_samples, tmp_path, "size=n", "epochs=3", "validation.every_epochs=2")
    folder = train(recipe, accelerator="cpu", callbacks=(metrics,))
    _, info = load_student(folder / "checkpoints" / "last.ckpt")
    assert [bool(seen) for seen in metrics.seen] == [False, False, True]  # no metrics of the untrained network
    mious = logged(folder, "miou")
    assert len(mious) == 2
    assert info.metrics["miou"] == pytest.approx(mious[-1], abs=1e-6)
    assert logged(folder, "epoch", beside="miou") == [1, 2]  # counted from 0


class NotedMetrics(lightning.Callback):
    """Records whether last.ckpt of the epoch before has metrics, at the start of each epoch."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint, self.noted = checkpoint, list[bool]()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch:
            self.noted.append(bool(read_checkpoint(self.checkpoint)[INFO_KEY]["metrics"]))


def test_a_checkpoint_notes_no_metrics_of_earlier_weights(rendered_samples: Path, tmp_path: Path) -> None:
    recipe = smoke(rendered_samples, tmp_path, "size=n", "epochs=4", "validation.every_epochs=2")
    noted = NotedMetrics(tmp_path / recipe.name / "checkpoints" / "last.ckpt")
    train(recipe, accelerator="cpu", callbacks=(noted,))
    assert noted.noted == [False, True, False]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["validation.segmentation=null"], "set validation.best_by to ap50, or add validation.segmentation"),
        (["validation.detection=null", "validation.best_by=car_ap50"], "set validation.best_by to miou, or add"),
        (["validation.segmentation.kind=unlabeled"], "validation.segmentation must be frames with labels"),
        (["validation.detection.kind=bag"], "validation.detection must be frames with labels"),
    ],
)
def test_validation_without_metrics_is_refused(
    overrides: list[str], sentence: str, rendered_samples: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as error:
        train(smoke(rendered_samples, tmp_path, *overrides), accelerator="cpu")
    assert sentence in str(error.value)
    assert not list(tmp_path.iterdir())


def test_best_is_chosen_by_the_available_metric(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = (f"validation.segmentation.folder={tmp_path / 'absent'}", "validation.required=false")
    recipe = smoke(rendered_samples, tmp_path, "size=n", "epochs=1", *absent)
    checkpoints = train(recipe, accelerator="cpu") / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "best checkpoint is chosen by ap50, because there are no frames for miou" in capsys.readouterr().out
    neither = smoke(rendered_samples, tmp_path, *absent, f"validation.detection.folder={tmp_path / 'absent'}")
    assert RunFrames(neither).best_by == ""


def test_a_run_starts_from_the_averaged_weights_of_another(
    finished_run: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = finished_run / "checkpoints" / "last.ckpt"
    recipe = smoke(
        rendered_samples, tmp_path, f"initial_weights={start}", "optimizer.learning_rate=0", "epochs=1", "size=s"
    )
    continued, _ = load_student(train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt")
    assert "epoch 1 of 1: loss" in capsys.readouterr().out  # no progress bar without a terminal
    initial, _ = load_student(start)
    for before, after in zip(initial.parameters(), continued.parameters(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_a_run_starts_from_the_mean_of_several_checkpoints(
    finished_run: Path, rendered_samples: Path, tmp_path: Path
) -> None:
    first = finished_run / "checkpoints" / "last.ckpt"
    second = train(smoke(rendered_samples, tmp_path, f"initial_weights={first}", "epochs=1"), accelerator="cpu")
    starts = [first, second / "checkpoints" / "last.ckpt"]
    recipe = smoke(
        rendered_samples, tmp_path, f"initial_weights=[{starts[0]}, {starts[1]}]", "optimizer.learning_rate=0"
    )
    folder = train(recipe.replace(name="soup", epochs=1), accelerator="cpu")
    found, info = load_student(folder / "checkpoints" / "last.ckpt")
    states = [load_student(start)[0].state_dict() for start in starts]
    moved = 0
    trained = [name for name in states[0] if name.endswith(("weight", "bias"))]
    for name in trained:
        value = found.state_dict()[name]
        torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2, rtol=1e-4, atol=1e-6)
        moved += not torch.allclose(value, states[0][name], rtol=1e-4, atol=1e-6)
    assert moved > 20
    averaged = build_student("s", len(SEGMENTATION_CLASSES), len(DETECTION_CLASSES))
    sha256 = load_weights_into(averaged, CAMVID, *starts).sha256
    assert info.initial_weights_sha256 == sha256 == digest_of_weights(averaged)
    for name, value in averaged.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2)


def test_the_mean_of_different_networks_is_refused(finished_run: Path, rendered_samples: Path, tmp_path: Path) -> None:
    other = train(smoke(rendered_samples, tmp_path, "size=n", "epochs=1").replace(name="n"), accelerator="cpu")
    starts = [finished_run / "checkpoints/last.ckpt", other / "checkpoints/last.ckpt"]
    recipe = smoke(rendered_samples, tmp_path, f"initial_weights=[{starts[0]}, {starts[1]}]")
    with pytest.raises(
        CheckpointError, match=r"n/checkpoints/last\.ckpt: expected weights of the same shapes as in .*, got others"
    ):
        train(recipe, accelerator="cpu")


def test_a_larger_network_starts_with_the_outputs_of_the_smaller_one(
    finished_run: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = finished_run / "checkpoints" / "last.ckpt"  # of size s
    larger = build_student("m", len(SEGMENTATION_CLASSES), len(DETECTION_CLASSES)).eval()
    load_weights_into(larger, CAMVID, start)
    assert "grown from the weights of size s" in capsys.readouterr().out
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = (network(images).segmentation_logits for network in (load_student(start)[0], larger))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    smaller = smoke(rendered_samples, tmp_path, f"initial_weights={start}", "size=n")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: expected .* smaller size .* these are of size s"):
        train(smaller, accelerator="cpu")


def test_training_only_detection_leaves_the_rest_unchanged(
    finished_run: Path, rendered_samples: Path, tmp_path: Path
) -> None:
    start = finished_run / "checkpoints" / "last.ckpt"
    recipe = smoke(rendered_samples, tmp_path, f"initial_weights={start}", "trained_part=detection", "epochs=1")
    after, _ = load_student(train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt")
    before = load_student(start)[0].state_dict()
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("detection.") for name in changed)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.train.0.folder=nowhere"], "nowhere: expected a folder with images/ and masks/"),
        (["epoch=1"], "did you mean epochs?"),
        (["initial_weights=none.ckpt"], "none.ckpt: expected a checkpoint"),
        (["backbone.architecture=resnett"], "did you mean resnet?"),
        (["batch_size=100"], "does not fill one batch"),
    ],
)
def test_command_refuses_wrong_input_with_status_2(
    overrides: list[str], sentence: str, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(RECIPE), "--accelerator", "cpu"]
    for override in [f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", *overrides]:
        words += ["--override", override]
    words += ["--override", "validation.segmentation=null", "--override", "validation.detection=null"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


class FullDisk(lightning.Callback):
    """The disk of a logger fills up in the middle of an epoch; the error of the write has no path."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        def write(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        trainer.loggers[0].experiment.save = write


def test_a_full_disk_of_a_logger_ends_with_one_sentence(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = train_module._make_trainer
    monkeypatch.setattr(train_module, "_make_trainer", lambda *a: make(*a[:-1], (*a[-1], FullDisk())))
    recipe = smoke(rendered_samples, tmp_path, "size=n", "epochs=1", "validation={}")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert main(["train", str(tmp_path / "recipe.yaml"), "--accelerator", "cpu"]) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / recipe.name}: expected to read or write it, got: No space left on device; make" in error
    assert "--resume" in error
    assert "Traceback" not in error


def test_a_folder_that_cannot_be_created_ends_with_one_sentence(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    recipe = smoke(rendered_samples, tmp_path / "file", "size=n", "epochs=1", "validation={}")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert main(["train", str(tmp_path / "recipe.yaml"), "--accelerator", "cpu"]) == 2
    error = capsys.readouterr().err
    folder = tmp_path / "file" / recipe.name
    assert f"error: expected {folder} to be a folder to write to, but {tmp_path / 'file'} is not a folder" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("accelerator", "devices", "nodes", "expected"),
    [("gpu", "1", 2, True), ("gpu", "2", 1, True), ("gpu", "1", 1, False), ("cpu", "2", 2, False)],
)
def test_normalisation_is_shared_between_gpus_of_all_machines(
    accelerator: str, devices: str, nodes: int, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(lightning, "Trainer", lambda **settings: asked.update(settings))
    train_module._make_trainer(load_recipe(RECIPE), tmp_path, False, accelerator, devices, nodes, ())
    assert asked["sync_batchnorm"] is expected


def test_a_checkpoint_that_contains_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="tensors and plain values"):
        load_student(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_student(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="notes of python -m training train"):
        load_student(tmp_path / "foreign.ckpt")


def test_average_follows_weights_and_running_statistics() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    averaged = AveragedWeights(network, decay=0.5)
    start = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight.add_(1.0)
    averaged.update(network)  # the first update keeps a tenth of the average
    torch.testing.assert_close(averaged.network[0].weight, start + 0.9)
    network(torch.randn(2, 3, 4, 4))
    averaged.update(network)
    assert int(averaged.network[1].num_batches_tracked) == 1
    assert not averaged.train().training


@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant"])
def test_the_learning_rate_warms_up_and_decays_to_its_end(schedule: Any) -> None:
    share = rate_share(OptimizerRecipe(schedule=schedule, warmup_steps=10, final_share=0.1), steps=100)
    rates = [share(step) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == pytest.approx(1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(1 if schedule == "constant" else 0.1)


def test_only_kernels_are_decayed() -> None:
    student = build_student("n", 11, 4)
    decayed, free = split_by_decay(student)
    assert len(decayed) + len(free) == len(list(student.parameters()))
    assert all(parameter.ndim == 4 for parameter in decayed)
    assert all(parameter.ndim == 1 or parameter.shape[1] == 1 for parameter in free)
