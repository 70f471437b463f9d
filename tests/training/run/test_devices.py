"""A run on a GPU keeps no tensor on the CPU: one step and one validation on a pretended accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ROOT
from distillation_terms import EVERY_TERM
from label_sets import CAMVID
from pretended_accelerator import DevicesMixed, OnAccelerator, move, pretended_accelerator

from training.data.batch import Batch, collate
from training.data.sampling import Draw
from training.evaluation.torch_model import TorchModel
from training.export.settings import ExportSettings
from training.networks.student import build_student
from training.recipe import Recipe, load_recipe
from training.run.data_module import TrainingSet
from training.run.frames import RunFrames
from training.run.lightning_module import StudentTraining
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
CONVNEXT = "{architecture: convnextv2, settings: {depths: [1, 1, 1, 1], hidden_sizes: [8, 16, 24, 32]}}"


@pytest.fixture(scope="module")
def teacher(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("teacher")
    overrides = [f"data.train.0.folder={rendered_samples}", f"output={output}", "validation={}", "epochs=1"]
    return train(load_recipe(RECIPE, overrides), accelerator="cpu") / "checkpoints" / "last.ckpt"


def there(batch: Batch) -> Batch:
    """Move a batch to the pretended accelerator, like `Batch.to` for a GPU."""
    moved: list[Any] = [
        [OnAccelerator(one) for one in value] if isinstance(value, list) else OnAccelerator(value)
        for value in (batch.images, batch.masks, batch.boxes_xyxy, batch.labels, batch.has_boxes, batch.box_weight)
    ]
    return Batch(*moved, batch.views)


def step(run: StudentTraining, batch: Batch) -> tuple[Any, Iterator[tuple[str, Any]]]:
    run.train()
    terms = run.objective(run.student(batch.images.float() / 255), batch, 0)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    run.averaged.update(run.student)
    return total, ((name, p.grad) for name, p in run.named_parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "overrides",
    [(), ("trained_part=detection", "size=s", "initial_weights={teacher}"), (f"backbone={CONVNEXT}",)],
    ids=["all", "detection", "convnextv2"],
)
def test_step_of_a_distilled_run_mixes_no_devices(
    overrides: tuple[str, ...], rendered_samples: Path, teacher: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(
        RECIPE,
        [
            *(f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "validation={}", "size=n"),
            *("loss.class_weights=[1,2,1,1,1,1,3,1,1,1,1]", f"distillation.teacher={teacher}"),
            *(f"distillation.terms={EVERY_TERM}", "precision=32-true"),
            *(override.replace("{teacher}", str(teacher)) for override in overrides),
        ],
    )
    data = RunFrames(recipe)
    samples = TrainingSet(data.sources, recipe, data.label_set)
    batch = collate([samples[Draw(0, index, 0, index)] for index in range(4)])
    expected, gradients = step(StudentTraining(recipe, 1, ""), batch)
    wanted = dict(gradients)
    run = run_on_accelerator(recipe)
    with pretended_accelerator():
        total, gradients = step(run, there(batch))
        found = {name: gradient.there for name, gradient in gradients}
    assert float(total.there.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


def run_on_accelerator(recipe: Recipe) -> StudentTraining:
    run = StudentTraining(recipe, 1, "")
    move(run)
    (member,) = run.objective._teachers.ensemble.members  # type: ignore[union-attr]
    move(member.teacher._network)  # type: ignore[attr-defined]
    return run


def test_validation_mixes_no_devices() -> None:
    student = build_student("n", 11, 4).eval()
    settings = ExportSettings(CAMVID, height=64, width=96, max_detections=20)
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    expected = TorchModel(student, settings).deployed(images)
    move(student)
    with pretended_accelerator(), torch.no_grad():
        found = TorchModel(student, settings).deployed(OnAccelerator(images))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.there, theirs, rtol=1e-4, atol=1e-4)


def test_the_pretended_accelerator_refuses_what_a_gpu_refuses() -> None:
    with pretended_accelerator():
        on_gpu = OnAccelerator(torch.ones(3))
        with pytest.raises(
            DevicesMixed, match=r"aten\.add\.Tensor: \[\(3,\)\] on the accelerator, \[\(3,\)\] on the CPU"
        ):
            on_gpu + torch.ones(3)
        assert (on_gpu + torch.tensor(1.0)).there.tolist() == [2.0, 2.0, 2.0]
        assert on_gpu[torch.tensor([0, 2])].there.tolist() == [1.0, 1.0]
        assert isinstance(torch.zeros(2, device=on_gpu.device), OnAccelerator)
