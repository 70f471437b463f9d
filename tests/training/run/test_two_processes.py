"""Two processes equal one: the same gradients from the same batch, the same metrics from the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from distillation_terms import EVERY_TERM, EVERY_TERM_COUNT
from one_and_two_processes import by_one_and_by_two

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
for module in student.modules():  # frozen, because each process would use statistics of half a batch
    if isinstance(module, nn.BatchNorm2d):
        module.eval()
images = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8)
masks = torch.randint(0, 11, (4, 64, 96), dtype=torch.uint8)
masks[1] = 255  # the halves differ in labelled pixels and objects
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
    distributed.barrier()  # no process ends while the other still communicates
    distributed.destroy_process_group()
# Threads of torch sometimes abort the normal exit of the interpreter; the results are already written here.
os._exit(0)
"""

# Every distillation term separately, with a teacher that is sure of objects in one half of the batch only.
SOFT_GRADIENTS = """
import os, sys
import training
import torch
from torch import distributed
from training.data.batch import Batch
from training.distillation.base import Comparison
from training.distillation.loss import Term, channels_of
from training.networks.heads import DetectionOutputs
from training.networks.student import StudentFeatures, StudentOutputs
from training.recipe import parse_recipe
from training.teachers.seen import Boxes
from training.teachers.taught import Taught, TaughtBoxes, TaughtPixels

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
frames = 6
torch.manual_seed(0)

def said(channels, sure):
    def branch():
        logits = tuple(3 * torch.randn(frames, 4, 64 // s, 96 // s) - 6 + sure for s in (8, 16, 32))
        distances = tuple(torch.randn(frames, 4, *level.shape[2:]) for level in logits)
        return DetectionOutputs(logits, distances, (8, 16, 32))
    scale = torch.linspace(0.2, 3, frames).view(-1, 1, 1, 1)
    features = [scale * torch.randn(frames, channels, 64 // s, 96 // s) + scale for s in (8, 16, 32, 4)]
    return StudentOutputs(scale * torch.randn(frames, 11, 16, 24), branch(), branch(), StudentFeatures(*features))

def every_tensor(outputs):
    f, one, many = outputs.features, outputs.detection, outputs.detection_one_to_many
    levels = [*one.class_logits, *one.distance_logits, *many.class_logits, *many.distance_logits]
    return [outputs.segmentation_logits, *levels, f.p3, f.p4, f.p5, f.segmentation]

def part(outputs, mine):
    def cut(branch):
        levels = [tuple(x[mine] for x in xs) for xs in (branch.class_logits, branch.distance_logits)]
        return DetectionOutputs(*levels, branch.strides)
    f = outputs.features
    features = StudentFeatures(*(x[mine] for x in (f.p3, f.p4, f.p5, f.segmentation)))
    return StudentOutputs(outputs.segmentation_logits[mine], cut(outputs.detection),
                          cut(outputs.detection_one_to_many), features)

def taught(outputs, boxes):
    pixels = TaughtPixels(outputs.segmentation_logits, None, torch.ones(11, dtype=torch.bool))
    nothing = [Boxes.of(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)) for _ in boxes]
    return Taught(pixels, TaughtBoxes(boxes, nothing, torch.ones(4, dtype=torch.bool)), outputs)

boxes = [Boxes.of(torch.tensor([[4.0, 4, 30 + 5 * n, 40]] * (n > 1)).reshape(-1, 4), torch.tensor([n % 4] * (n > 1)),
                  torch.tensor([0.5] * (n > 1))) for n in range(frames)]
sure = torch.tensor([-9.0, -9, -9, 0, 4, 6]).view(-1, 1, 1, 1)  # the first process sees no objects
student, teacher = said(8, sure / 3), said(12, sure)
masks = torch.randint(0, 11, (frames, 64, 96), dtype=torch.uint8)
masks[:3] = 255  # and no labels
masks[1, :20] = 3
mine = slice(rank * frames // world, (rank + 1) * frames // world)
known = torch.ones(frames, dtype=torch.bool)
batch = Batch(torch.zeros(frames, 3, 64, 96, dtype=torch.uint8)[mine], masks[mine], [], [], known[mine],
              known[mine].float(), [""] * frames)
data = "name: x\\ndata: {train: [{kind: rendered, folder: x}]}\\n"
recipe = parse_recipe(data + f"distillation: {{teacher: t, terms: {open(folder + '/terms.yaml').read()}}}")
gradients = {}
for number, settings in enumerate(recipe.distillation.terms):
    torch.manual_seed(number)
    term = Term(settings, channels_of(student), channels_of(teacher))
    leaves = [x.requires_grad_() for x in every_tensor(student)] + list(term.parameters())
    words = taught(part(teacher, mine), boxes[mine])
    value = term(Comparison(part(student, mine), words, batch, lambda images: part(student, mine)), 1.0)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    flat = torch.cat([(torch.zeros_like(x) if g is None else g).flatten() for x, g in zip(leaves, found)])
    if world > 1:
        distributed.all_reduce(flat)  # averaged, like in DistributedDataParallel
    gradients[f"{number} {settings}"] = flat / world
if rank == 0:
    torch.save(gradients, f"{folder}/gradients_{world}.pt")
if world > 1:
    distributed.barrier()
    distributed.destroy_process_group()
os._exit(0)
"""


def test_every_distillation_term_is_equal_in_two_processes(tmp_path: Path) -> None:
    (tmp_path / "terms.yaml").write_text(EVERY_TERM)
    one, two = by_one_and_by_two(SOFT_GRADIENTS, tmp_path, "gradients")
    assert len(one) == EVERY_TERM_COUNT
    for name, value in one.items():
        assert float(value.norm()) > 0, name
        assert float((two[name] - value).norm() / value.norm()) < 1e-4, name


def test_gradients_are_equal_in_two_processes(tmp_path: Path) -> None:
    import torch

    one, two = by_one_and_by_two(GRADIENTS, tmp_path, "gradients")
    assert sum(float(value.abs().sum()) for value in one.values()) > 1
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_run_of_two_processes_notes_the_metrics_of_one(rendered_samples: Path, tmp_path: Path) -> None:
    from training.checkpoint import load_student
    from training.data.readers.registry import open_source
    from training.data.readers.rendered import RenderedSource
    from training.evaluation.evaluate import evaluate
    from training.evaluation.models import open_model

    folders = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "size=n", "epochs=1"]
    folders += [f"validation.{task}.folder={rendered_samples}" for task in ("segmentation", "detection")]
    words = [sys.executable, "-m", "training", "train", str(RECIPE), "--accelerator", "cpu", "--devices", "2"]
    done = subprocess.run(
        [*words, *(word for override in folders for word in ("--override", override))],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "It is recommended" not in done.stderr  # advice that does not fit: each process scores all frames
    checkpoint = tmp_path / "student_s_smoke" / "checkpoints" / "last.ckpt"
    _, info = load_student(checkpoint)
    found = evaluate(
        open_model(checkpoint, "ema", 128, 192, 1), open_source(RenderedSource(folder=rendered_samples, limit=2))
    )
    assert info.metrics["miou"] == pytest.approx(found["miou"], abs=1e-6)
    assert info.metrics["car_ap50"] == pytest.approx(found["detection"]["per_class"]["car"]["ap50"], abs=1e-6)
