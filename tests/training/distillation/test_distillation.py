"""Distillation runs on tiny rendered frames: what is trained, cached, exported and resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from checkout import ROOT
from distillation_terms import EVERY_TERM, EVERY_TERM_COUNT
from shipped_classes import SEGMENTATION_CLASSES

from training.__main__ import main
from training.checkpoint import digest_of_weights, load_student, read_checkpoint
from training.data.batch import Batch
from training.distillation.base import Comparison
from training.distillation.cache import from_arrays, to_arrays
from training.distillation.detection_losses import ForegroundImitation
from training.distillation.logit_losses import TemperatureKl
from training.distillation.loss import DistillationLoss, Term, channels_of
from training.distillation.relation_losses import CrossImageRelation
from training.distillation.settings import DistillationRecipe, StageRecipe, balance_at
from training.distillation.teacher import Teacher, check_teacher
from training.errors import CheckpointError, RecipeError
from training.losses import SupervisedLoss
from training.networks.student import build_student
from training.recipe import Recipe, load_recipe, parse_recipe
from training.run.objective import build_objective
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
NAMES = tuple(entry.name for entry in SEGMENTATION_CLASSES)
TERMS = """[{kind: temperature_kl}, {kind: channel_wise, at: p3, weight: 0.5}, {kind: pearson, at: p4},
  {kind: pairwise_affinity, at: p3, grid: 4}, {kind: soft_classification}, {kind: weighted_box_iou}]"""


def recipe_for(samples: Path, output: Path, *overrides: str) -> Recipe:
    folders = [f"data.train.0.folder={samples}", f"output={output}", "size=n"]
    folders += [f"validation.{task}.folder={samples}" for task in ("segmentation", "detection")]
    return load_recipe(RECIPE, [*folders, *overrides])


def distilled(samples: Path, output: Path, teacher: Path, *overrides: str, terms: str = TERMS) -> Recipe:
    section = (f"distillation.teacher={teacher}", f"distillation.terms={terms}")
    return recipe_for(samples, output, *section, *overrides)


@pytest.fixture(scope="module")
def teacher_checkpoint(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipe_for(rendered_samples, tmp_path_factory.mktemp("teacher"), "size=s", "epochs=1")
    return train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def finished_run(rendered_samples: Path, teacher_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = distilled(rendered_samples, tmp_path_factory.mktemp("runs"), teacher_checkpoint)
    return train(recipe, accelerator="cpu")


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 96, 160), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 11, (2, 96, 160), dtype=torch.uint8, generator=generator)
    boxes = [torch.tensor([[10.0, 10.0, 60.0, 60.0]]), torch.zeros(0, 4)]
    labels = [torch.tensor([0]), torch.zeros(0, dtype=torch.int64)]
    return Batch(images, masks, boxes, labels, torch.ones(2, dtype=torch.bool), torch.ones(2), ["", ""])


def test_checkpoint_holds_adapters_and_the_digest_of_the_teacher(finished_run: Path, teacher_checkpoint: Path) -> None:
    content = read_checkpoint(finished_run / "checkpoints" / "last.ckpt")
    adapters = [name for name in content["state_dict"] if "adapter" in name]
    assert sorted(adapters) == [f"objective.terms.{n}.adapter.{what}" for n in (1, 2) for what in ("bias", "weight")]
    assert not any("teacher" in name for name in content["state_dict"])
    teacher, _ = load_student(teacher_checkpoint)
    assert content["ros_kd_perception"]["teacher_sha256"] == digest_of_weights(teacher)


def test_run_from_a_distilled_student_notes_the_earlier_teacher(
    finished_run: Path, rendered_samples: Path, tmp_path: Path
) -> None:
    distilled_student = finished_run / "checkpoints" / "last.ckpt"
    recipe = load_recipe(
        RECIPE,
        [
            *(f"data.train.0.folder={rendered_samples}", f"output={tmp_path}", "validation={}", "size=n", "epochs=1"),
            *(f"initial_weights={distilled_student}", "trained_part=detection"),
        ],
    )
    _, info = load_student(train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt")
    _, before = load_student(distilled_student)
    assert info.teacher_sha256 == ""
    assert info.taught_by == before.teacher_sha256 != ""


def test_adapters_are_trained(finished_run: Path, rendered_samples: Path, teacher_checkpoint: Path) -> None:
    recipe = distilled(rendered_samples, finished_run.parent, teacher_checkpoint)
    torch.manual_seed(recipe.seed)
    student = build_student("n", 11, 4)
    before = build_objective(recipe, student, "").state_dict()
    after = read_checkpoint(finished_run / "checkpoints" / "last.ckpt")["state_dict"]
    names = [name for name in before if "adapter" in name]
    assert len(names) == 4
    assert all(not torch.allclose(before[name], after[f"objective.{name}"], atol=1e-6) for name in names)


def test_the_exported_student_has_no_adapters(finished_run: Path) -> None:
    student, info = load_student(finished_run / "checkpoints" / "last.ckpt")
    assert info.size == "n"
    assert student.state_dict().keys() == build_student("n", 11, 4).state_dict().keys()


def test_loss_weights_labels_and_teacher_as_the_recipe_says(
    teacher_checkpoint: Path, rendered_samples: Path, tmp_path: Path, batch: Batch
) -> None:
    recipe = distilled(
        rendered_samples, tmp_path, teacher_checkpoint, "distillation.hard_weight=0.25", "distillation.terms.0.weight=3"
    )
    torch.manual_seed(0)
    student = build_student("n", 11, 4)
    objective = build_objective(recipe, student, "")
    outputs = student(batch.images.float() / 255)
    found = objective(outputs, batch, 0)
    hard = SupervisedLoss()(outputs, batch)
    for name, value in hard.items():
        torch.testing.assert_close(found[name], 0.25 * value)
    # The first term by hand: KL of the softened distributions, mean over pixels, times T squared.
    teacher = load_student(teacher_checkpoint)[0](batch.images.float() / 255).segmentation_logits
    p = torch.softmax(teacher.double() / 2, dim=1)
    q = torch.softmax(outputs.segmentation_logits.double() / 2, dim=1)
    expected = 0.75 * 3 * 4 * (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(found["soft_0_temperature_kl"].double(), expected, rtol=1e-4, atol=1e-6)


def test_every_term_gives_gradients_to_the_student_and_not_to_the_teacher(
    teacher_checkpoint: Path, rendered_samples: Path, tmp_path: Path, batch: Batch
) -> None:
    recipe = distilled(rendered_samples, tmp_path, teacher_checkpoint, terms=EVERY_TERM)
    torch.manual_seed(0)
    student = build_student("n", 11, 4)
    objective = build_objective(recipe, student, "")
    assert isinstance(objective, DistillationLoss)
    images = torch.cat([batch.images, batch.images.flip(0) // 2])  # four frames, because angles need three
    four = Batch(images, batch.masks.repeat(2, 1, 1), batch.boxes_xyxy * 2, batch.labels * 2,
                 batch.has_boxes.repeat(2), batch.box_weight.repeat(2), [""] * 4)  # fmt: skip
    outputs = student(four.images.float() / 255)
    terms = objective(outputs, four, 0)
    for name in objective.names:
        student.zero_grad()
        terms[name].backward(retain_graph=True)
        gradient = sum(float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None)
        assert np.isfinite(gradient), name
        assert gradient > 0, name


def test_teacher_stays_in_eval_mode_and_does_not_change(
    teacher_checkpoint: Path, rendered_samples: Path, tmp_path: Path, batch: Batch
) -> None:
    network, _ = load_student(teacher_checkpoint)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    teacher = Teacher(network)
    network.train()  # other code may do this by mistake
    first = teacher(batch)
    assert not network.training
    assert not first.segmentation_logits.requires_grad
    assert first.detection_one_to_many is not None
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_distilled_run_resumes_exactly(rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped by the test")

    overrides = ("epochs=2", "distillation.stages=[{from_epoch: 1, hard_weight: 0.9, temperature_factor: 0.5}]")
    whole = train(distilled(rendered_samples, tmp_path / "whole", teacher_checkpoint, *overrides), accelerator="cpu")
    recipe = distilled(rendered_samples, tmp_path / "stopped", teacher_checkpoint, *overrides)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, accelerator="cpu", callbacks=(Stop(),))
    checkpoint = tmp_path / "stopped" / recipe.name / "checkpoints" / "last.ckpt"
    stopped = train(recipe, resume=checkpoint, accelerator="cpu")
    expected, found = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, stopped))
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][name]), name


def test_another_teacher_is_refused_on_resuming(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher.ckpt"
    teacher.write_bytes(teacher_checkpoint.read_bytes())
    recipe = distilled(rendered_samples, tmp_path, teacher, "epochs=1")
    checkpoint = train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"
    teacher.write_bytes(checkpoint.read_bytes())
    with pytest.raises(CheckpointError, match="expected the teacher that the run began with"):
        train(recipe, resume=checkpoint, accelerator="cpu")


def test_cached_outputs_give_the_same_weights_as_new_ones(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    overrides = ("data.views_per_frame=2", f"distillation.cache={cache}", "epochs=1")
    runs = []
    for name in ("first", "second"):
        recipe = distilled(rendered_samples, tmp_path / name, teacher_checkpoint, *overrides)
        runs.append(read_checkpoint(train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt")["state_dict"])
        written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
        assert len(written) == 16  # eight frames in two views
        if name == "first":
            first = written
    assert written == first  # the second run did not run the teacher
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())


def test_damaged_cached_output_is_replaced(rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    overrides = ("data.views_per_frame=1", f"distillation.cache={cache}", "epochs=1")
    recipe = distilled(rendered_samples, tmp_path / "runs", teacher_checkpoint, *overrides)
    train(recipe, accelerator="cpu")
    damaged = sorted(cache.rglob("*.npz"))[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    train(recipe, accelerator="cpu", anew=True)
    assert damaged.read_bytes() == whole


def test_outputs_fit_into_half_precision(teacher_checkpoint: Path, batch: Batch) -> None:
    outputs = Teacher.load(teacher_checkpoint)(batch)
    again = from_arrays(to_arrays(outputs), torch.device("cpu"))
    assert again.detection_one_to_many is not None
    assert outputs.detection_one_to_many is not None
    pairs = [
        (outputs.segmentation_logits, again.segmentation_logits),
        (outputs.features.p5, again.features.p5),
        (outputs.features.segmentation, again.features.segmentation),
        (outputs.detection.flat_class_logits(), again.detection.flat_class_logits()),
        (outputs.detection_one_to_many.flat_distance_logits(), again.detection_one_to_many.flat_distance_logits()),
    ]
    for expected, found in pairs:
        torch.testing.assert_close(expected, found, rtol=1e-3, atol=1e-3)


def test_a_stage_changes_the_balance_from_its_epoch_on() -> None:
    recipe = DistillationRecipe(
        teacher="t.ckpt",
        terms=(TemperatureKl(weight=2.0), TemperatureKl(weight=1.0)),
        hard_weight=0.5,
        stages=(
            StageRecipe(from_epoch=2, hard_weight=0.8),
            StageRecipe(from_epoch=4, temperature_factor=1.5, weights=(0.0, 3.0)),
        ),
    )
    assert [balance_at(recipe, epoch).hard_weight for epoch in range(6)] == [0.5, 0.5, 0.8, 0.8, 0.8, 0.8]
    assert [balance_at(recipe, epoch).temperature_factor for epoch in (0, 3, 4)] == [1.0, 1.0, 1.5]
    assert [balance_at(recipe, epoch).weights for epoch in (0, 3, 4)] == [(2.0, 1.0), (2.0, 1.0), (0.0, 3.0)]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("{teacher: t, terms: [{kind: temperature_lk}]}", "did you mean temperature_kl"),
        ("{teacher: t, terms: [{kind: hint, at: p6}]}", r"terms\.0\.at must be one of p3, p4, p5, segmentation"),
        ("{teacher: t, terms: [{kind: hint}]}", r"terms\.0\.at is missing"),
        (
            "{teacher: t, terms: [{kind: logit_mse, temperature: 2}]}",
            r"terms\.0\.temperature does not apply to kind logit_mse",
        ),
        ("{teacher: t, terms: []}", "needs at least one term"),
        ("{teacher: t, terms: [{kind: dist}], hard_weight: 1.5}", "hard_weight must be from 0 to 1, got 1.5"),
        ("{teacher: t, terms: [{kind: dist}], cache: c}", "views_per_frame"),
        ("{teacher: t, terms: [{kind: dist}], stages: [{from_epoch: 1, weights: [1, 2]}]}", "name 1 weights"),
        ("{teacher: t, terms: [{kind: dist}], stages: [{from_epoch: 3}, {from_epoch: 2}]}", "rising"),
        ("{teacher: t, terms: [{kind: dist}], stages: [{from_epoch: 60}]}", r"from_epoch must be below epochs, 60,"),
        (
            "{teacher: t, terms: [{kind: dist}], stages: [{from_epoch: 1, temperature: 1.0}]}",
            "did you mean temperature_factor",
        ),
        ("{terms: [{kind: dist}]}", r"distillation\.teacher is missing"),
    ],
)
def test_an_invalid_section_is_refused_in_one_sentence(section: str, sentence: str) -> None:
    text = f"name: x\ndata: {{train: [{{kind: rendered, folder: x}}]}}\ndistillation: {section}"
    with pytest.raises(RecipeError, match=sentence):
        parse_recipe(text)


def test_a_section_that_is_written_and_read_is_equal() -> None:
    data = "data: {train: [{kind: rendered, folder: x}]}"
    text = f"name: x\n{data}\ndistillation: {{teacher: t, terms: {EVERY_TERM}}}"
    recipe = parse_recipe(text)
    assert recipe.distillation is not None
    assert len(recipe.distillation.terms) == EVERY_TERM_COUNT
    assert parse_recipe(recipe.to_yaml()) == recipe


def test_a_teacher_with_other_classes_is_refused_before_training() -> None:
    with pytest.raises(CheckpointError, match="train a teacher with the same classes"):
        check_teacher(build_student("n", 11, 4), Teacher(build_student("n", 10, 4)), "teacher.ckpt")


def teacher_of(path: Path, source: Path, segmentation: tuple[str, ...], noted: bool) -> Path:
    """Write a checkpoint like `train` for other classes, with or without their names."""
    content = read_checkpoint(source)
    network = build_student("s", len(segmentation), 4)
    content["state_dict"] = {f"averaged.network.{name}": value for name, value in network.state_dict().items()}
    if noted:
        content["ros_kd_perception"]["segmentation_classes"] = segmentation
    else:
        del content["ros_kd_perception"]["segmentation_classes"], content["ros_kd_perception"]["detection_classes"]
    torch.save(content, path)
    return path


SWAPPED = (NAMES[1], NAMES[0], *NAMES[2:])


@pytest.mark.parametrize(
    ("classes", "noted", "difference"),
    [
        (NAMES[:-1], True, "it lacks bicyclist;"),
        ((*NAMES[:-1], "rider"), True, "it lacks bicyclist and it also has rider;"),
        (SWAPPED, True, "sky, building have other ids;"),
        (NAMES[:-1], False, "10 without names;"),
    ],
)
def test_a_refused_teacher_is_named_with_the_classes_that_differ(
    classes: tuple[str, ...],
    noted: bool,
    difference: str,
    rendered_samples: Path,
    teacher_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = teacher_of(tmp_path / "teacher.ckpt", teacher_checkpoint, classes, noted)
    (tmp_path / "recipe.yaml").write_text(distilled(rendered_samples, tmp_path, teacher).to_yaml())
    assert main(["train", str(tmp_path / "recipe.yaml"), "--accelerator", "cpu"]) == 2
    error = capsys.readouterr().err
    assert f"distillation.teacher: {teacher}: expected a network with the segmentation classes sky, building" in error
    assert difference in error
    assert "use a checkpoint that was trained with the classes" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "smoke").exists()


def test_teacher_without_noted_classes_still_loads(teacher_checkpoint: Path, tmp_path: Path) -> None:
    _, info = load_student(teacher_checkpoint)
    assert (info.segmentation_classes, info.detection_classes) == (NAMES, ("car", "pedestrian", "bicyclist", "sign"))
    Teacher.load(teacher_of(tmp_path / "old.ckpt", teacher_checkpoint, NAMES, noted=False))


def test_stage_multiplies_each_temperature(batch: Batch) -> None:
    torch.manual_seed(0)
    student, teacher = (build_student("n", 11, 4)(batch.images.float() / 255) for _ in range(2))
    seen, channels = Comparison(student, teacher, batch), channels_of(student)
    for whole, halved in (
        (TemperatureKl(temperature=4.0), TemperatureKl(temperature=2.0)),
        (CrossImageRelation(at="p3", temperature=0.2), CrossImageRelation(at="p3", temperature=0.1)),
    ):
        found = Term(whole, channels, channels)(seen, 0.5)
        torch.testing.assert_close(found, Term(halved, channels, channels)(seen, 1.0))
        assert not torch.isclose(found, Term(whole, channels, channels)(seen, 1.0))


def test_the_foreground_is_where_the_one_to_many_branch_finds_objects(batch: Batch) -> None:
    torch.manual_seed(0)
    student, teacher = (build_student("n", 11, 4)(batch.images.float() / 255) for _ in range(2))
    many, one = teacher.detection_one_to_many, teacher.detection
    assert many is not None
    lit, dark = (replace(one, class_logits=tuple(torch.full_like(x, y) for x in one.class_logits)) for y in (9.0, -30))
    term = Term(ForegroundImitation(at="p3"), channels_of(student), channels_of(teacher))
    around = replace(teacher, detection=dark, detection_one_to_many=lit)
    cells = replace(teacher, detection=lit, detection_one_to_many=dark)
    alone = replace(teacher, detection=lit, detection_one_to_many=None)
    values = [float(term(Comparison(student, said, batch), 1.0).detach()) for said in (around, cells, alone)]
    assert values[0] == values[2] > 0.1
    assert values[1] < 1e-6


def test_room_for_cached_outputs_is_checked_at_the_start(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    overrides = ("data.views_per_frame=2", f"distillation.cache={cache}", "epochs=1", "validation={}")
    recipe = distilled(rendered_samples, tmp_path / "runs", teacher_checkpoint, *overrides)
    train(recipe, accelerator="cpu")
    kept = list(cache.rglob("*.npz"))
    objective = build_objective(recipe, build_student("n", 11, 4), kept[0].parent.name)
    assert isinstance(objective, DistillationLoss)
    growth = objective.cache_growth(len(kept), recipe.data.crop_height * recipe.data.crop_width)
    assert growth is not None
    written = sum(path.stat().st_size for path in kept)
    assert growth[1] == pytest.approx(written, rel=0.05)  # without the headers of the files
    again = distilled(rendered_samples, tmp_path / "again", teacher_checkpoint, *overrides, "seed=5")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1e6 if place.name == "cache" else 1e9))
    with pytest.raises(CheckpointError, match=r"cache/\w+: expected \d+ MB of free disk for the teacher's outputs"):
        train(again, accelerator="cpu")


def test_a_missing_teacher_is_reported_in_one_sentence(
    rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = distilled(rendered_samples, tmp_path, tmp_path / "none.ckpt")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert main(["train", str(path), "--accelerator", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "none.ckpt" in error
    assert error.count("\n") == 1
