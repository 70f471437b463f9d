"""Readers of labelled folders: samples of whole folders, refusals of damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT
from label_sets import CAMVID as CAMVID_SET

from training.data.batch import collate
from training.data.readers.camvid import CamVidSource
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.data.readers.rendered import RenderedSource
from training.data.readers.source import Source
from training.data.region_boxes import boxes_from_regions
from training.errors import DataError

# The folder of docs/training.md, or one beside the checkout.
CAMVID_PLACES = (ROOT / "data" / "camvid", ROOT.parent / "shared" / "camvid")
CAMVID = next((place for place in CAMVID_PLACES if place.is_dir()), CAMVID_PLACES[0])
needs_camvid = pytest.mark.skipif(
    not CAMVID.is_dir(), reason=f"CamVid is not at {CAMVID}: its reader is NOT tested on it"
)


def write_camvid(folder: Path, masks: dict[str, np.ndarray]) -> Source:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for name, mask in masks.items():
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full((*mask.shape, 3), 90, np.uint8))
    return CamVidSource(folder=folder, box_weight=0.25)


def test_void_of_camvid_is_ignored_and_boxes_surround_regions(tmp_path: Path) -> None:
    mask = np.full((60, 80), 3, np.uint8)
    mask[:10] = 11
    mask[20:40, 10:30] = 8
    mask[20:40, 50:70] = 8
    mask[30:42, 34:40] = 9
    mask[50, 50:54] = 6  # too small to be a box
    sample = opened(write_camvid(tmp_path, {"d1_1": mask}))[0]
    assert set(np.unique(sample.mask)) == {3, 6, 8, 9, 255}
    assert (sample.mask[:10] == 255).all()
    found = sorted(zip(sample.labels.tolist(), sample.boxes_xyxy.tolist(), strict=True))
    assert found == [(0, [10, 20, 30, 40]), (0, [50, 20, 70, 40]), (1, [34, 30, 40, 42])]
    assert sample.box_weight == 0.25


def opened(source: Source) -> FrameFolder:
    return source.open(source.mapping_to(None))


def test_confidences_of_teachers_come_with_the_sample_and_the_batch(tmp_path: Path) -> None:
    mask = np.full((60, 80), 3, np.uint8)
    source = write_camvid(tmp_path, {"d1_1": mask, "d1_2": mask})
    before = opened(source).fingerprint()
    (tmp_path / "confidence").mkdir()
    levels = np.arange(4800, dtype=np.uint32).reshape(60, 80).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "confidence" / "d1_1.png"), levels)
    folder = open_source(source)
    assert (folder[0].confidence == levels).all()
    assert folder[1].confidence is None
    batch = collate([folder[0], folder[1]])
    assert batch.confidence is not None
    assert (batch.confidence[0].numpy() == levels).all()
    assert (batch.confidence[1] == 255).all()
    assert collate([folder[1]]).confidence is None
    assert folder.fingerprint() != before


def test_confidences_of_another_size_are_refused(tmp_path: Path) -> None:
    source = write_camvid(tmp_path, {"d1_1": np.full((60, 80), 3, np.uint8)})
    (tmp_path / "confidence").mkdir()
    cv2.imwrite(str(tmp_path / "confidence" / "d1_1.png"), np.zeros((60, 81), np.uint8))
    with pytest.raises(DataError, match=r"confidence/d1_1\.png: expected the confidence of each pixel"):
        open_source(source)


def test_region_cut_by_a_thin_pole_is_one_box() -> None:
    mask = np.full((60, 80), 3, np.uint8)
    mask[20:40, 10:50] = 8
    mask[10:50, 30:32] = 2
    boxes = boxes_from_regions(mask, CAMVID_SET.region_ids)
    assert boxes.ids.tolist() == [0]
    assert boxes.boxes_xyxy.tolist() == [[10, 20, 50, 40]]


def test_drives_are_chosen_by_prefix(tmp_path: Path) -> None:
    road = np.full((8, 8), 3, np.uint8)
    recipe = write_camvid(tmp_path, {"a_1": road, "a_2": road, "b_1": road})
    without = CamVidSource(folder=recipe.folder, exclude_drives=("a",))
    only = CamVidSource(folder=recipe.folder, include_drives=("a",), limit=1)
    assert opened(without).names == ["b_1"]
    assert opened(only).names == ["a_1"]
    with pytest.raises(DataError, match="drive zz"):
        opened(CamVidSource(folder=recipe.folder, exclude_drives=("zz",)))


def test_rendered_folder_gives_the_boxes_of_its_file(rendered_samples: Path) -> None:
    entries = json.loads((rendered_samples / "boxes.json").read_text())
    folder = open_source(RenderedSource(folder=rendered_samples))
    assert len(folder) == len(entries) == 8
    for index, name in enumerate(folder.names):
        sample = folder[index]
        assert sample.image_bgr.shape == (128, 192, 3)
        np.testing.assert_allclose(sample.boxes_xyxy, np.reshape(entries[name]["boxes_xyxy"], (-1, 4)), rtol=1e-6)
        assert sample.labels.tolist() == entries[name]["labels"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: shutil.rmtree(folder / "masks"), r"images/ and masks/.*render_drive"),
        (lambda folder: next((folder / "masks").iterdir()).unlink(), r"expected its mask at"),
        (lambda folder: (folder / "boxes.json").unlink(), r"boxes.json.*write the file again"),
        (lambda folder: (folder / "boxes.json").write_text("{"), r"boxes.json.*as JSON"),
        (lambda folder: (folder / "boxes.json").write_text("{}"), r"expected an entry for frame"),
        (lambda folder: change_boxes(folder, [[5, 5, 5, 9]], [0]), r"positive size"),
        (lambda folder: change_boxes(folder, [[5, 5, 9, 9]], [7]), r"label set rendered .*got \[7\]"),
        (lambda folder: change_boxes(folder, [[5, 5, 9, float("nan")]], [0]), r"corners within"),
        (lambda folder: change_boxes(folder, [[5, 5, 9, 9]], []), r"as many labels"),
        (lambda folder: change_boxes(folder, "boxes", [0]), r"n x 4"),
        (
            lambda folder: write_mask(folder, np.full((128, 192), 12, np.uint8)),
            r"or 255, got \[12\]",
        ),
        (lambda folder: write_mask(folder, np.zeros((128, 192, 3), np.uint8)), r"ids in the one channel .* got RGB;"),
        (
            lambda folder: write_mask(folder, np.zeros((128, 190), np.uint8)),
            r"\(128, 192\) like its image, got \(128, 190\)",
        ),
        (lambda folder: change_boxes(folder, [[5, 5, 193, 9]], [0]), r"within its 192 x 128 pixels"),
        (lambda folder: first_image(folder).write_bytes(b"no image"), r"expected a whole JPEG image .*no image"),
        (lambda folder: cut_off(first_image(folder)), r"expected a whole JPEG image .*cut off"),
        (
            lambda folder: overwrite_middle(first_image(folder)),
            r"images/\S+jpg: expected a whole JPEG .*Corrupt .*replace",
        ),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(rendered_samples: Path, tmp_path: Path, damage, sentence) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(rendered_samples, folder)
    damage(folder)
    with pytest.raises(DataError, match=sentence) as error:
        open_source(RenderedSource(folder=folder))
    assert "\n" not in str(error.value)


def change_boxes(folder: Path, boxes: object, labels: list[int]) -> None:
    entries = json.loads((folder / "boxes.json").read_text())
    entries[min(entries)] = {"boxes_xyxy": boxes, "labels": labels}
    (folder / "boxes.json").write_text(json.dumps(entries))


def first_image(folder: Path) -> Path:
    return min((folder / "images").iterdir())


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def overwrite_middle(path: Path) -> None:
    """Overwrite the middle like a bad sector: header, length and end stay those of a whole file."""
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    path.write_bytes(content)


def write_mask(folder: Path, mask: np.ndarray) -> None:
    cv2.imwrite(str(min((folder / "masks").iterdir())), mask)


def test_undecodable_or_mismatched_image_is_refused_when_read(rendered_samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(rendered_samples, folder)
    first, second, third = sorted((folder / "images").iterdir())[:3]
    first.write_bytes(b"no image")
    overwrite_middle(third)
    cv2.imwrite(str(second), np.zeros((64, 64, 3), np.uint8))
    source = opened(RenderedSource(folder=folder))
    with pytest.raises(DataError, match="expected a whole JPEG"):
        source[0]
    with pytest.raises(DataError, match="Corrupt"):
        source[2]
    with pytest.raises(DataError, match="like its image"):
        source[1]


def test_the_fingerprint_changes_with_the_labels(rendered_samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(rendered_samples, folder)
    before = opened(RenderedSource(folder=folder)).fingerprint()
    assert before == opened(RenderedSource(folder=rendered_samples)).fingerprint()
    change_boxes(folder, [[5, 5, 50, 50]], [0])
    with_other_boxes = opened(RenderedSource(folder=folder)).fingerprint()
    write_mask(folder, np.zeros((128, 192), np.uint8))
    with_other_mask = opened(RenderedSource(folder=folder)).fingerprint()
    assert len({before, with_other_boxes, with_other_mask}) == 3


@needs_camvid
def test_the_real_camvid_is_read_completely() -> None:
    folder = open_source(CamVidSource(folder=CAMVID / "val"))
    assert len(folder) == 101
    sample = folder[0]
    assert sample.image_bgr.shape == (360, 480, 3)
    assert (sample.labels == 0).any()


def test_the_fingerprint_changes_with_an_image(rendered_samples: Path, tmp_path: Path) -> None:
    # The fingerprint finds cached outputs of a teacher and earlier scores of a comparison.
    folder = tmp_path / "samples"
    shutil.copytree(rendered_samples, folder)
    before = opened(RenderedSource(folder=folder)).fingerprint()
    cv2.imwrite(str(first_image(folder)), np.zeros((128, 192, 3), np.uint8))
    assert opened(RenderedSource(folder=folder)).fingerprint() != before
