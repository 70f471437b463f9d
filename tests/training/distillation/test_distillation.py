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
from label_sets import CAMVID
from said_by_teachers import taught_by
from shipped_classes import DETECTION_CLASSES, SEGMENTATION_CLASSES
from tiny_transformers import save_tiny

from training.__main__ import main
from training.checkpoint import digest_of_weights, load_student, read_checkpoint
from training.data.batch import Batch
from training.distillation.base import Comparison
from training.distillation.cache import arrays_of_frames, taught_of_frames
from training.distillation.detection_losses import ForegroundImitation
from training.distillation.logit_losses import TemperatureKl
from training.distillation.loss import DistillationLoss, Term, channels_of
from training.distillation.relation_losses import CrossImageRelation
from training.distillation.settings import DistillationRecipe, StageRecipe, balance_at
from training.errors import CheckpointError, RecipeError
from training.losses import SupervisedLoss
from training.networks.student import build_student
from training.recipe import Recipe, load_recipe, parse_recipe
from training.run.objective import build_objective
from training.run.train import train
from training.teachers.own_network import OwnNetwork

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
NAMES = tuple(entry.name for entry in SEGMENTATION_CLASSES)
BOX_NAMES = tuple(entry.name for entry in DETECTION_CLASSES)
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
    before = build_objective(recipe, student, CAMVID, "").state_dict()
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
    objective = build_objective(recipe, student, CAMVID, "")
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
    objective = build_objective(recipe, student, CAMVID, "")
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
    teacher = OwnNetwork(network, CAMVID)
    network.train()  # other code may do this by mistake
    first = teacher.outputs(batch.images)
    assert not network.training
    assert first.segmentation_logits is not None
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
    with pytest.raises(CheckpointError, match="expected the teachers that the run began with"):
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
    said = taught_by(OwnNetwork.load(teacher_checkpoint).outputs(batch.images))
    said_again = taught_of_frames(arrays_of_frames(said), torch.device("cpu"))
    outputs, again = said.outputs, said_again.outputs
    assert said.boxes is not None
    assert said_again.boxes is not None
    for before, after in zip(said.boxes.objects, said_again.boxes.objects, strict=True):
        assert torch.equal(before.xyxy, after.xyxy)
        assert torch.equal(before.ids, after.ids)
    assert said.pixels is not None
    assert said_again.pixels is not None
    assert outputs is not None
    assert again is not None
    assert outputs.detection is not None
    assert again.detection is not None
    assert again.detection_one_to_many is not None
    assert outputs.detection_one_to_many is not None
    pairs = [
        (said.pixels.logits, said_again.pixels.logits),
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
        ("{terms: [{kind: dist}]}", r"distillation\.teacher must name a checkpoint, or"),
        ("{terms: [{kind: temporal_consistency}, {kind: dist}]}", r"distillation\.teacher must name a checkpoint, or"),
        ("{terms: [{kind: temporal_consistency}], hard_weight: 0}", "leaves nothing that says what is right"),
        ("{terms: [{kind: temporal_consistency}], look: frame, cache: c}", "needs teachers, there are none"),
        ("{terms: [{kind: temporal_consistency, zoom: 0.6}]}", r"terms\.0\.zoom must be from 0 to 0\.5"),
        ("{terms: [{kind: temporal_consistency, noise: -1}]}", r"terms\.0\.noise must be from 0 to 64"),
        ("{terms: [{kind: temporal_consistency, temperature: 2}]}", "does not apply to kind temporal_consistency"),
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


def teacher_of(path: Path, source: Path, classes: dict[str, tuple[str, ...]] | None) -> Path:
    """Write a checkpoint like `train` for other classes; None leaves the notes on classes out, like early versions."""
    content = read_checkpoint(source)
    notes = content["ros_kd_perception"]
    del notes["segmentation_classes"], notes["detection_classes"], notes["label_set"]
    counts = (11, 4)
    if classes is not None:
        rows = {task: [{"id": n, "name": name} for n, name in enumerate(names)] for task, names in classes.items()}
        notes["label_set"] = {"name": "other", **rows}
        counts = (len(classes["segmentation"]), len(classes["detection"]))
    torch.manual_seed(4)
    network = build_student("s", *counts)
    content["state_dict"] = {f"averaged.network.{name}": value for name, value in network.state_dict().items()}
    torch.save(content, path)
    return path


def test_a_class_of_a_teacher_that_the_student_lacks_is_refused(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {"segmentation": (*NAMES[:-1], "rider"), "detection": BOX_NAMES}
    teacher = teacher_of(tmp_path / "teacher.ckpt", teacher_checkpoint, classes)
    (tmp_path / "recipe.yaml").write_text(distilled(rendered_samples, tmp_path, teacher).to_yaml())
    assert main(["train", str(tmp_path / "recipe.yaml"), "--accelerator", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "distillation.teacher.0: label set other to camvid11, segmentation: rider map" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "smoke").exists()


def test_classes_of_a_teacher_are_matched_by_name_and_not_by_number(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path, batch: Batch
) -> None:
    order = (*NAMES[5:], *NAMES[:3])  # other ids, and without two of the student's classes
    teacher = teacher_of(tmp_path / "t.ckpt", teacher_checkpoint, {"segmentation": order, "detection": BOX_NAMES[:2]})
    recipe = distilled(rendered_samples, tmp_path, teacher, terms="[{kind: temperature_kl, temperature: 1}]")
    torch.manual_seed(0)
    student = build_student("n", 11, 4)
    outputs = student(batch.images.float() / 255)

    found = build_objective(recipe, student, CAMVID, "")(outputs, batch, 0)["soft_0_temperature_kl"]

    logits = load_student(teacher)[0](batch.images.float() / 255).segmentation_logits
    assert logits is not None
    assert outputs.segmentation_logits is not None
    p = torch.softmax(logits.double(), dim=1)
    log_q = torch.log_softmax(outputs.segmentation_logits[:, [NAMES.index(name) for name in order]].double(), dim=1)
    expected = 0.5 * (torch.xlogy(p, p) - p * log_q).sum(dim=1).mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)
    (gradient,) = torch.autograd.grad(found, outputs.segmentation_logits)
    taught = gradient.abs().sum(dim=(0, 2, 3)) > 0
    assert [name for name, is_taught in zip(NAMES, taught.tolist(), strict=True) if not is_taught] == list(NAMES[3:5])


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (
            "[{kind: hint, at: p4}]",
            "hint compares features or detection branches, for which it needs a teacher of kind",
        ),
        ("[{kind: soft_classification}]", "soft_classification compares features or detection branches"),
        ("[{kind: pseudo_boxes}]", "expected a teacher of boxes for pseudo_boxes, there is none"),
    ],
)
def test_a_term_without_a_teacher_for_its_part_is_refused(
    terms: str, sentence: str, rendered_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_tiny("segformer", tmp_path / "segformer", NAMES)
    teachers = f"distillation.teachers=[{{kind: transformers, model: {tmp_path / 'segformer'}}}]"
    recipe = recipe_for(rendered_samples, tmp_path, teachers, f"distillation.terms={terms}")
    with pytest.raises(RecipeError, match=f"distillation.terms.0: {sentence}"):
        build_objective(recipe, build_student("n", 11, 4), CAMVID, "")


def test_a_detection_branch_with_other_classes_is_refused(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path
) -> None:
    classes = {"segmentation": NAMES, "detection": BOX_NAMES[:2]}
    teacher = teacher_of(tmp_path / "teacher.ckpt", teacher_checkpoint, classes)
    recipe = distilled(rendered_samples, tmp_path, teacher, terms="[{kind: soft_classification}]")
    with pytest.raises(RecipeError, match=r"needs the student's classes of boxes, distillation.teacher.0 has car, ped"):
        build_objective(recipe, build_student("n", 11, 4), CAMVID, "")


def test_a_run_with_two_teachers_trains_and_notes_both(
    rendered_samples: Path, teacher_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_tiny("segformer", tmp_path / "segformer", NAMES)
    teachers = (
        f"[{{kind: checkpoint, path: {teacher_checkpoint}, tasks: [detection], box_sure: 0.05, box_unsure: 0.02}}, "
        f"{{kind: transformers, model: {tmp_path / 'segformer'}, pixel_confidence_min: 0, views: {{mirrored: true}}}}]"
    )
    terms = "[{kind: temperature_kl}, {kind: pseudo_boxes, labeled_too: true}, {kind: pearson, at: p4}]"
    cache = tmp_path / "cache"
    overrides = (f"distillation.teachers={teachers}", f"distillation.terms={terms}", f"distillation.cache={cache}")
    runs = []
    for name in ("first", "second"):
        recipe = recipe_for(
            rendered_samples, tmp_path / name, *overrides, "epochs=1", "data.views_per_frame=1", "validation={}"
        )
        runs.append(read_checkpoint(train(recipe, accelerator="cpu") / "checkpoints" / "last.ckpt"))
    digests = runs[0]["ros_kd_perception"]["teacher_sha256"].split("+")
    assert digests[0] == digest_of_weights(load_student(teacher_checkpoint)[0])
    assert [len(digest) for digest in digests] == [64, 64]
    # The second run takes all words of the teachers from the cache.
    assert all(torch.equal(value, runs[1]["state_dict"][name]) for name, value in runs[0]["state_dict"].items())


def test_teacher_without_noted_classes_still_loads(teacher_checkpoint: Path, tmp_path: Path) -> None:
    assert OwnNetwork.load(teacher_of(tmp_path / "old.ckpt", teacher_checkpoint, None)).label_set == CAMVID


def test_stage_multiplies_each_temperature(batch: Batch) -> None:
    torch.manual_seed(0)
    student, teacher = (build_student("n", 11, 4)(batch.images.float() / 255) for _ in range(2))
    seen, channels = Comparison(student, taught_by(teacher), batch), channels_of(student)
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
    values = [float(term(Comparison(student, taught_by(said), batch), 1.0).detach()) for said in (around, cells, alone)]
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
    objective = build_objective(recipe, build_student("n", 11, 4), CAMVID, kept[0].parent.name)
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
