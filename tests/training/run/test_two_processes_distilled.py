"""A distilled student learns the same in two processes as in one, including adapters and optimiser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from one_and_two_processes import by_one_and_by_two

from training.checkpoint import digest_of_weights, load_student, read_checkpoint
from training.data.readers.registry import open_source
from training.data.readers.rendered import RenderedSource
from training.evaluation.evaluate import evaluate
from training.evaluation.models import open_model
from training.recipe import Recipe, load_recipe
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
ONE_OF_EACH_FAMILY = """[{kind: temperature_kl}, {kind: pearson, at: p4}, {kind: channel_wise, at: p3},
  {kind: cross_image_relation, at: p4, grid: 4}, {kind: soft_classification}, {kind: weighted_box_iou},
  {kind: foreground_imitation, at: p3}]"""

# Three optimiser steps on the samples of a run. Batch norms are frozen, because they would use half a batch.
STEPS = """
import os, sys
import training
import torch
from pathlib import Path
from torch import distributed, nn
from training.data.batch import Batch
from training.run.data_module import DrivingData
from training.run.frames import RunFrames
from training.run.lightning_module import StudentTraining
from training.recipe import load_recipe

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
recipe = load_recipe(Path(folder) / "recipe.yaml", [])
data = DrivingData(recipe, RunFrames(recipe))
run = StudentTraining(recipe, 6, data.fingerprint).train()
for module in run.student.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.eval()

class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.student, self.objective = run.student, run.objective
    def forward(self, batch):
        return sum(self.objective(self.student(batch.images.float() / 255), batch, 0).values())

def half(batch):
    mine = slice(rank * len(batch) // world, (rank + 1) * len(batch) // world)
    return Batch(batch.images[mine], batch.masks[mine], batch.boxes_xyxy[mine], batch.labels[mine],
                 batch.has_boxes[mine], batch.box_weight[mine], batch.views[mine])

loss = Loss()
taught = nn.parallel.DistributedDataParallel(loss) if world > 1 else loss
optimizer = run.configure_optimizers()["optimizer"]
start = {name: value.detach().clone() for name, value in loss.named_parameters()}
for batch, _ in zip(data.train_dataloader(), range(3)):
    optimizer.zero_grad()
    taught(half(batch)).backward()
    optimizer.step()
    run.averaged.update(run.student)
if rank == 0:
    moved = {name: value.detach() - start[name] for name, value in loss.named_parameters()}
    averaged = {f"averaged.{name}": value for name, value in run.averaged.network.named_parameters()}
    torch.save(moved | averaged, f"{folder}/moved_{world}.pt")
if world > 1:
    distributed.barrier()  # no process ends while the other still communicates
    distributed.destroy_process_group()
os._exit(0)
"""


@pytest.fixture(scope="module")
def teacher_checkpoint(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = (f"data.train.0.folder={rendered_samples}", "validation={}", "epochs=1")
    recipe = load_recipe(RECIPE, [*overrides, f"output={tmp_path_factory.mktemp('teacher')}"])
    return train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"


@pytest.fixture
def unlabeled_frames(rendered_samples: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "unlabeled"
    folder.mkdir()
    (folder / "images").symlink_to(rendered_samples / "images")
    return folder


def mixed(samples: Path, unlabeled: Path, output: Path, teacher: Path) -> Recipe:
    """Return the recipe of a student that learns from labelled frames, and from unlabelled ones with the teacher."""
    sources = (
        f"data.train=[{{kind: rendered, folder: {samples}, share: 0.5}}, "
        f"{{kind: unlabeled, folder: {unlabeled}, share: 0.5}}]"
    )
    validation = [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    taught = [f"distillation.teacher={teacher}", f"distillation.terms={ONE_OF_EACH_FAMILY}"]
    return load_recipe(RECIPE, [sources, *validation, *taught, f"output={output}", "size=n", "epochs=1", "name=two"])


def test_optimiser_steps_are_equal_in_two_processes(
    rendered_samples: Path, unlabeled_frames: Path, teacher_checkpoint: Path, tmp_path: Path
) -> None:
    recipe = mixed(rendered_samples, unlabeled_frames, tmp_path, teacher_checkpoint)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    one, two = by_one_and_by_two(STEPS, tmp_path, "moved")
    adapters = [name for name in one if "adapter" in name]
    assert len(adapters) == 6
    # A correlation or a softmax over positions does not change if a channel is shifted. The gradients of these two
    # biases are only rounding, from which AdamW makes a step, because it divides by the size of the gradient.
    for name in set(one) - {"objective.terms.1.adapter.bias", "objective.terms.2.adapter.bias"}:
        assert float(one[name].norm()) > 0, name
        assert float((two[name] - one[name]).norm()) <= 1e-3 * float(one[name].norm()), name


def test_distilled_run_of_two_processes_notes_the_metrics_of_one(
    rendered_samples: Path, unlabeled_frames: Path, teacher_checkpoint: Path, tmp_path: Path
) -> None:
    recipe = mixed(rendered_samples, unlabeled_frames, tmp_path, teacher_checkpoint)
    path = tmp_path / "two.yaml"
    path.write_text(recipe.to_yaml())
    words = [sys.executable, "-m", "training", "train", str(path), "--accelerator", "cpu", "--devices", "2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoint = tmp_path / "two" / "checkpoints" / "last.ckpt"
    _, info = load_student(checkpoint)
    scored = evaluate(
        open_model(checkpoint, "ema", 128, 192, 1), open_source(RenderedSource(folder=rendered_samples, limit=2))
    )
    assert info.metrics["miou"] == pytest.approx(scored["miou"], abs=1e-6)
    assert info.teacher_sha256 == digest_of_weights(load_student(teacher_checkpoint)[0])
    assert sum("adapter" in name for name in read_checkpoint(checkpoint)["state_dict"]) == 6
