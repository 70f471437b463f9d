"""One recipe with sources of different label sets: boxes only, masks only, no labels at all."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from checkout import ROOT
from label_sets import CAMVID

from training.checkpoint import INFO_KEY, read_checkpoint
from training.data.batch import collate
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import DataError
from training.losses import SupervisedLoss
from training.networks.student import Student, build_student
from training.recipe import load_recipe
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
REST = "1.65 1.67 3.81 -3.18 1.79 12.20 -1.60"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two frames of 160 x 96 pixels each: KITTI's boxes, masks of Cityscapes, and images without labels."""
    folder = tmp_path_factory.mktemp("sources")
    images = {"kitti": "training/image_2", "masks": "images", "plain": "images"}
    for part in [f"{name}/{below}" for name, below in images.items()] + ["kitti/training/label_2", "masks/masks"]:
        (folder / part).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(2):
        for name, below in images.items():
            picture = generator.integers(0, 256, (96, 160, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / name / below / f"{name}{number}.png"), picture)
        rows = f"Car 0 0 0 20 30 70 70 {REST}\nDontCare -1 -1 -10 100 0 150 40 -1 -1 -1 -1 -1 -1 -1\n"
        (folder / "kitti" / "training" / "label_2" / f"kitti{number}.txt").write_text(rows)
        mask = np.full((96, 160), 0, np.uint8)
        mask[:40], mask[60:80, 30:80] = 10, 18
        cv2.imwrite(str(folder / "masks" / "masks" / f"masks{number}.png"), mask)
    return folder


def sources_of_recipe(folder: Path) -> str:
    return (
        f"[{{kind: kitti, folder: {folder}/kitti}}, {{kind: unlabeled, folder: {folder}/plain}},"
        f" {{kind: frames, folder: {folder}/masks, labels: cityscapes19}}]"
    )


def logged(folder: Path, column: str) -> list[float]:
    files = sorted((folder / "csv").glob("version_*/metrics.csv"))
    return [float(row[column]) for path in files for row in csv.DictReader(path.open()) if row.get(column)]


def test_a_run_learns_masks_and_boxes_from_different_sources(
    sources: Path, rendered_samples: Path, tmp_path: Path
) -> None:
    validation = [f"validation.{task}.folder={rendered_samples}" for task in ("segmentation", "detection")]
    overrides = [f"data.train={sources_of_recipe(sources)}", f"output={tmp_path}", "size=n", "epochs=1", *validation]
    folder = train(load_recipe(RECIPE, overrides), accelerator="cpu")
    for term in ("loss/segmentation", "loss/detection_class"):
        values = logged(folder, term)
        assert values
        assert np.isfinite(values).all()
    assert max(logged(folder, "loss/segmentation")) > 0
    assert len(logged(folder, "miou")) == 1


def gradients_of_classes(student: Student, frames: FrameFolder) -> tuple[set[str], set[str]]:
    """Return the classes of masks and of boxes whose logits get a gradient from the frames of a source."""
    batch = collate([frames[index] for index in range(len(frames))])
    outputs = student(batch.images.float() / 255)
    levels = outputs.detection.class_logits
    for tensor in (outputs.segmentation_logits, *levels):
        tensor.retain_grad()
    torch.stack(list(SupervisedLoss()(outputs, batch).values())).sum().backward()
    of_pixels = outputs.segmentation_logits.grad.abs().sum(dim=(0, 2, 3))
    of_boxes = sum(level.grad.abs().sum(dim=(0, 2, 3)) for level in levels)
    return (
        {info.name for info, gradient in zip(CAMVID.segmentation_classes, of_pixels, strict=True) if gradient != 0},
        {info.name for info, gradient in zip(CAMVID.detection_classes, of_boxes, strict=True) if gradient != 0},
    )


def test_each_source_teaches_the_classes_that_it_labels_and_no_other(sources: Path) -> None:
    torch.manual_seed(0)
    student = build_student("n", segmentation_classes=11, detection_classes=4).train()
    recipe = load_recipe(RECIPE, [f"data.train={sources_of_recipe(sources)}"])
    kitti, plain, masks = (open_source(source, CAMVID) for source in recipe.data.train)
    assert gradients_of_classes(student, kitti) == (set(), {"car", "pedestrian", "bicyclist"})
    assert gradients_of_classes(student, plain) == (set(), set())
    assert gradients_of_classes(student, masks) == ({info.name for info in CAMVID.segmentation}, set())


def test_a_source_that_is_not_required_may_be_missing(
    sources: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = f"{{kind: kitti, folder: {tmp_path}/away, licence: {{of: Away, terms: secret, use: research}}%s}}"
    there = f"{{kind: rendered, folder: {rendered_samples}}}"
    common = ["size=n", "epochs=1", f"output={tmp_path}", "validation={}"]
    with pytest.raises(DataError, match="away"):
        train(load_recipe(RECIPE, [*common, f"data.train=[{there}, {away % ''}]"]), accelerator="cpu")

    recipe = load_recipe(RECIPE, [*common, f"data.train=[{there}, {away % ', required: false'}]"])
    folder = train(recipe, accelerator="cpu")
    said = capsys.readouterr().out
    assert said.count(f"{tmp_path}/away is missing and not required: the run goes on without it") == 1
    noted = read_checkpoint(folder / "checkpoints" / "last.ckpt")[INFO_KEY]["recipe"]
    assert "away" not in noted
    assert "secret" not in noted
    assert "away" not in (folder / "recipe.yaml").read_text()

    nothing_left = load_recipe(RECIPE, [*common, f"data.train=[{away % ', required: false'}]", "name=other"])
    with pytest.raises(DataError, match=r"expected at least one of its sources, .*away are missing"):
        train(nothing_left, accelerator="cpu")
