"""Small pairs of Cityscapes become labelled frames: colours that JPEG blended give their class, or void."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.readers.folder import OwnFolderSource
from training.errors import DataError
from training.extraction.cityscapes_pairs import VOID, PaintedClasses, convert
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping

CLASSES = {info.name: info for info in load_label_set("cityscapes19").segmentation}


def painted(ids: np.ndarray, quality: int = 90) -> np.ndarray:
    """Return the mask in colours, BGR, as it comes out of a JPEG file."""
    rgb = np.zeros((*ids.shape, 3), np.uint8)
    for info in CLASSES.values():
        rgb[ids == info.id] = info.color
    return cv2.imdecode(cv2.imencode(".jpg", rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)


def street(size: int = 128) -> np.ndarray:
    ids = np.full((size, size), CLASSES["building"].id, np.uint8)
    ids[: size // 4] = CLASSES["sky"].id
    ids[size // 2 :] = CLASSES["road"].id
    ids[40:90, 60:100] = CLASSES["car"].id
    ids[30:70, 20:24] = CLASSES["pole"].id
    return ids


@pytest.mark.parametrize("quality", [95, 85, 75])
def test_classes_come_back_and_blends_become_void(quality: int) -> None:
    truth = street()
    found = PaintedClasses().of(painted(truth, quality))
    known = found != VOID
    assert np.mean(found[known] == truth[known]) > 0.999
    assert np.mean(known) > 0.85
    for name in ("sky", "building", "road", "car", "pole"):
        of_class = truth == CLASSES[name].id
        assert np.mean(found[of_class] == CLASSES[name].id) > (0.3 if name == "pole" else 0.85), name
    assert (found[:, [0, -1]] == VOID).all()


def test_an_edge_of_car_and_black_is_no_truck() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, 20:40] = CLASSES["car"].color
    rgb[:, 40:43] = CLASSES["truck"].color  # what a blend looks like
    found = PaintedClasses().of(np.ascontiguousarray(rgb[..., ::-1]))
    assert not (found == CLASSES["truck"].id).any()
    rgb[20:40, 40:60] = CLASSES["truck"].color  # a piece that is compact stays
    found = PaintedClasses().of(np.ascontiguousarray(rgb[..., ::-1]))
    assert (found[22:38, 43:58] == CLASSES["truck"].id).all()


def write_pair(folder: Path, name: str, ids: np.ndarray) -> None:
    for kind in ("pictures", "masks"):
        (folder / kind).mkdir(exist_ok=True, parents=True)
    picture = np.full((*ids.shape, 3), 90, np.uint8)
    cv2.imwrite(str(folder / "pictures" / f"{name}.jpg"), picture)
    cv2.imwrite(str(folder / "masks" / f"{name}.jpg"), painted(ids), (cv2.IMWRITE_JPEG_QUALITY, 95))


def test_the_command_writes_a_folder_that_a_recipe_reads(tmp_path: Path) -> None:
    write_pair(tmp_path, "1", street())
    write_pair(tmp_path, "2", street())
    (tmp_path / "masks" / "2.jpg").unlink()
    command = [sys.executable, "-m", "training.extraction.cityscapes_pairs", tmp_path / "pictures", tmp_path / "masks"]
    done = subprocess.run([*command, "-o", tmp_path / "out"], capture_output=True, text=True, check=True, timeout=120)
    assert "1 frames with masks" in done.stdout
    source = OwnFolderSource(folder=tmp_path / "out", labels="cityscapes19")
    frames = source.open(LabelMapping.between(load_label_set("cityscapes19"), load_label_set("camvid11")))
    assert len(frames) == 1
    sample = frames[0]
    assert sample.image_bgr.shape == (128, 256, 3)
    assert sample.mask[110, 128] == 3  # road of camvid11
    assert sample.mask[60, 160] == 8  # car


def test_folders_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "1", street())
    cv2.imwrite(str(tmp_path / "masks" / "1.jpg"), painted(street(64)))
    command = [sys.executable, "-m", "training.extraction.cityscapes_pairs", tmp_path / "pictures", tmp_path / "masks"]
    done = subprocess.run([*command, "-o", tmp_path / "out"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "expected a mask of the same size, it has 64x64 pixels" in done.stderr
    (tmp_path / "joined").mkdir()
    cv2.imwrite(str(tmp_path / "joined" / "1.jpg"), np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(DataError, match="expected a picture that is squeezed to a square, got 128x64"):
        convert(tmp_path / "joined", tmp_path / "joined", tmp_path / "out")
    (tmp_path / "masks" / "1.jpg").rename(tmp_path / "masks" / "9.jpg")
    with pytest.raises(DataError, match="expected masks with the names of the pictures"):
        convert(tmp_path / "pictures", tmp_path / "masks", tmp_path / "out")
