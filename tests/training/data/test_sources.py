"""The table of readers: each kind of source has its own keys, and opens its own reader."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT
from pydantic import TypeAdapter

import training.data.readers
from ros_kd_perception.sample_drive.camera import default_cameras
from ros_kd_perception.sample_drive.drive_bag import DrivePlan, write_drive
from training.data.readers.bag import BagSource
from training.data.readers.camvid import CamVidFolder, CamVidSource
from training.data.readers.registry import BY_KIND, LABELED_KINDS, READERS, AnySource, open_source, recognize
from training.data.readers.rendered import RenderedFolder, RenderedSource
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledSource
from training.errors import DataError

EVERY_SOURCE = {"kind", "folder", "share", "limit", "zoom", "taught", "required", "licence"}
FOLDERS = EVERY_SOURCE | {"include_drives", "exclude_drives"}


def with_a_kind(base: type[Source]) -> set[type[Source]]:
    """Return a base class of settings and all its subclasses, if they have a `kind` that a recipe can name."""
    below = {source for child in base.__subclasses__() for source in with_a_kind(child)}
    return below | {base} if isinstance(base.model_fields["kind"].default, str) else below


def test_each_kind_has_its_own_keys() -> None:
    keys = {kind: set(source.model_fields) for kind, source in BY_KIND.items()}
    assert keys["rendered"] == keys["camvid"] == FOLDERS | {"box_weight", "labels", "map", "check_shares"}
    assert keys["unlabeled"] == FOLDERS
    assert keys["bag"] == EVERY_SOURCE | {"topics", "stride", "change_min", "teachers"}
    assert all(keys[kind] >= EVERY_SOURCE for kind in BY_KIND)


def test_every_reader_is_in_the_table() -> None:
    for module in pkgutil.iter_modules(training.data.readers.__path__):
        importlib.import_module(f"training.data.readers.{module.name}")
    ours = {source for source in with_a_kind(Source) if source.__module__.startswith("training.")}
    missing = [source.__name__ for source in ours - set(READERS)]
    assert not missing, f"add {missing} to READERS in training/data/readers/registry.py, or no recipe can name it"


def test_every_kind_is_documented() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    section = page.partition("\n## Data\n")[2].partition("\n## ")[0]
    missing = [kind for kind in BY_KIND if f"`{kind}`" not in section]
    assert not missing, f"add {missing} to the section Data of docs/training.md"


def test_only_frames_with_labels_can_be_scored_on() -> None:
    assert {"rendered", "camvid"} <= set(LABELED_KINDS)
    assert not {"unlabeled", "bag"} & set(LABELED_KINDS)


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_a_section_of_a_recipe_becomes_the_settings_of_its_kind(kind: str) -> None:
    source = TypeAdapter(AnySource).validate_python({"kind": kind, "folder": "frames"})
    assert type(source) is BY_KIND[kind]
    assert (source.kind, source.folder) == (kind, Path("frames"))


def test_a_folder_is_recognized_by_its_files(rendered_samples: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    assert recognize(rendered_samples) == "rendered"
    assert recognize(tmp_path) == "camvid"
    assert recognize(tmp_path / "missing") in LABELED_KINDS


@pytest.mark.parametrize("kind", sorted(set(LABELED_KINDS) - {"rendered", "camvid"}))
def test_a_folder_that_is_not_there_is_told_as_this(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere: expected .*there is (nothing|no such folder).*correct the path of the folder"
    ):
        open_source(BY_KIND[kind](folder=tmp_path / "nowhere"))


def test_each_kind_opens_its_reader(rendered_samples: Path) -> None:
    rendered = open_source(RenderedSource(folder=rendered_samples, box_weight=0.5))
    regions = open_source(CamVidSource(folder=rendered_samples))
    images = open_source(UnlabeledSource(folder=rendered_samples, limit=3))
    assert isinstance(rendered, RenderedFolder)
    assert isinstance(regions, CamVidFolder)
    assert (rendered[0].box_weight, regions[0].box_weight, images[0].box_weight) == (0.5, 1.0, 1.0)
    assert (len(rendered), len(images)) == (8, 3)
    assert not images[0].has_boxes
    np.testing.assert_array_equal(images[0].image_bgr, rendered[0].image_bgr)


def test_images_with_masks_may_be_in_a_folder_of_another_name(rendered_samples: Path, tmp_path: Path) -> None:
    class LeftImages(CamVidSource):
        images = "left"

    with pytest.raises(DataError, match=r"expected a folder with left/ and masks/, there is no left/"):
        open_source(LeftImages(folder=rendered_samples))
    shutil.copytree(rendered_samples / "images", tmp_path / "left")
    shutil.copytree(rendered_samples / "masks", tmp_path / "masks")
    assert len(open_source(LeftImages(folder=tmp_path))) == 8


def test_a_bag_becomes_a_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_drive(Path("drive.mcap"), DrivePlan(5, "day", 1.0, 2.0, default_cameras(96, 64)[:1]), processes=1)
    source = BagSource(folder=Path("drive.mcap"), change_min=0.0, limit=1)
    folder = open_source(source)
    assert folder.names == ["front_0000000"]
    assert folder.folder.parent == Path("out/frames")
    assert cv2.imread(str(folder.folder / "images" / "front_0000000.jpg")).shape == (64, 96, 3)
    assert source.image_files() == []
