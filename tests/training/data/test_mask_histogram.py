"""Masks of another label set are found by the values that they have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.readers.registry import BY_KIND, open_source
from training.errors import DataError

HEIGHT, WIDTH = 96, 192


def write_masks(folder: Path, mask: np.ndarray) -> Path:
    for part, name, pixels in (("images", "a.jpg", np.full((*mask.shape, 3), 90, np.uint8)), ("masks", "a.png", mask)):
        (folder / part).mkdir()
        cv2.imwrite(str(folder / part / name), pixels)
    return folder


def own_classes() -> np.ndarray:
    """Return a mask of five classes of one's own, whose shares would be usual for a street as well."""
    mask = np.full((HEIGHT, WIDTH), 3, np.uint8)
    mask[:30], mask[30:60], mask[60:64, :50], mask[80:90] = 0, 1, 2, 4
    return mask


def street(*ids: int) -> np.ndarray:
    """Return a mask with stripes of some ids."""
    return np.repeat(np.array(ids, np.uint8), HEIGHT // len(ids))[:, None].repeat(WIDTH, axis=1)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("camvid", "camvid11"),
        ("folder", "camvid11"),
        ("folder", "cityscapes19"),
        ("folder", "cityscapes"),
        ("folder", "bdd100k19"),
    ],
)
def test_own_ids_from_zero_are_not_the_first_classes_of_a_street(kind: str, labels: str, tmp_path: Path) -> None:
    source = BY_KIND[kind](folder=write_masks(tmp_path, own_classes()), labels=labels)
    with pytest.raises(DataError, match=rf"{tmp_path}: expected masks of the label set {labels}, got the ids 0 to 4 "):
        open_source(source)
    assert len(open_source(source.replace(check_shares=False))) == 1


@pytest.mark.parametrize(
    ("labels", "ids"), [("camvid11", (0, 1, 3, 5)), ("cityscapes19", (10, 2, 8, 0)), ("cityscapes", (23, 11, 21, 7))]
)
def test_few_classes_of_a_street_are_taken(labels: str, ids: tuple[int, ...], tmp_path: Path) -> None:
    source = BY_KIND["folder"](folder=write_masks(tmp_path, street(*ids)), labels=labels)
    assert len(open_source(source)) == 1


def test_train_ids_are_not_label_ids(tmp_path: Path) -> None:
    # Train ids of poles and sky are label ids of what is dynamic and of rail tracks.
    source = BY_KIND["folder"](folder=write_masks(tmp_path, street(10, 10, 2, 8, 0, 0)), labels="cityscapes")
    with pytest.raises(DataError, match=r"in which rail track \(id 10\) has 0% to 30% of the labelled pixels"):
        open_source(source)
