"""Two processes do what one does: the same gradients from the same batch, the same figures from the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"

GRADIENTS = """
import os, sys
import training
import torch
from torch import distributed, nn
from training.data.batch import Batch
from training.losses import SupervisedLoss
from training.networks.student import build_student

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
torch.manual_seed(0)
student = build_student("n", 11, 4).train()
for module in student.modules():  # frozen: their statistics would be those of half a batch
    if isinstance(module, nn.BatchNorm2d):
        module.eval()
images = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8)
masks = torch.randint(0, 11, (4, 64, 96), dtype=torch.uint8)
masks[1] = 255  # the halves differ in how much is labelled, and in their objects
boxes = [torch.tensor([[5.0, 5, 40, 30], [30, 20, 80, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 50, 50]]),
         torch.tensor([[0.0, 0, 90, 60], [50, 30, 60, 40], [5, 5, 20, 20]])]
labels = [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([3]), torch.tensor([0, 1, 2])]
mine = slice(rank * 4 // world, (rank + 1) * 4 // world)
batch = Batch(images[mine], masks[mine], boxes[mine], labels[mine], torch.ones(4, dtype=torch.bool)[mine],
              torch.tensor([1.0, 1.0, 0.5, 1.0])[mine], [""] * len(images[mine]))
network = nn.parallel.DistributedDataParallel(student) if world > 1 else student
loss = SupervisedLoss(class_weights=[1, 2, 1, 1, 1, 1, 3, 1, 1, 1, 1])
sum(loss(network(batch.images.float() / 255), batch).values()).backward()
if rank == 0:
    torch.save({name: value.grad for name, value in student.named_parameters()}, f"{folder}/gradients_{world}.pt")
if world > 1:
    distributed.barrier()  # neither leaves while the other still talks to it
    distributed.destroy_process_group()
# Threads that torch leaves behind abort the interpreter's own way out now and then; what is tested is done and written.
os._exit(0)
"""


def start(folder: Path, rank: int, world: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", GRADIENTS, str(folder), str(rank), str(world)], cwd=ROOT)


def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    import torch

    processes = [start(tmp_path, 0, 1), start(tmp_path, 0, 2), start(tmp_path, 1, 2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0, 0]
    one, two = (torch.load(tmp_path / f"gradients_{world}.pt", weights_only=True) for world in (1, 2))
    assert sum(float(value.abs().sum()) for value in one.values()) > 1
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_run_of_two_processes_notes_the_figures_that_one_finds(rendered_samples: Path, tmp_path: Path) -> None:
    from training.checkpoint import load_student
    from training.data.data_module import open_source
    from training.evaluate import evaluate, open_model
    from training.recipe import SourceRecipe

    folders = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "size=n", "epochs=1"]
    folders += [f"validation.{task}.folder={rendered_samples}" for task in ("segmentation", "detection")]
    words = [sys.executable, "-m", "training", "train", str(RECIPE), "--accelerator", "cpu", "--devices", "2"]
    done = subprocess.run(
        [*words, *(word for override in folders for word in ("--override", override))],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoint = tmp_path / "student_s_smoke" / "checkpoints" / "last.ckpt"
    _, info = load_student(checkpoint)
    found = evaluate(
        open_model(checkpoint, "ema", 128, 192, 1), open_source(SourceRecipe("rendered", rendered_samples, limit=2))
    )
    assert info.metrics["miou"] == pytest.approx(found["miou"], abs=1e-6)
    assert info.metrics["car_ap50"] == pytest.approx(found["detection"]["per_class"]["car"]["ap50"], abs=1e-6)
