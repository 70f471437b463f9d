"""Test the cover of a lens: it hides the share that it says, all of it, and grows from one severity to the next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from training.conditions.condition import SEVERITIES
from training.conditions.table import CONDITIONS
from training.data.sample import Sample

(COVERED,) = (condition for condition in CONDITIONS if condition.name == "covered_lens")
FRAMES = 12  # enough for each of the three things, in several places


def white(name: str, height: int = 180, width: int = 320) -> Sample:
    image = np.full((height, width, 3), 255, np.uint8)
    mask = np.full((height, width), 1, np.uint8)
    return Sample(name, image, mask, np.array([[2, 2, 90, 90]], np.float32), np.array([0]))


def hidden(sample: Sample, severity: int) -> np.ndarray:
    """Return the pixels of a white frame that are more cover than frame, by their blue channel in light."""
    return (COVERED.applied(sample, severity).image_bgr[..., 0] / 255.0) ** 2.2 < 0.55


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_share_that_is_hidden_is_that_of_the_table(severity: int) -> None:
    for number in range(FRAMES):
        assert hidden(white(f"frame {number}"), severity).mean() == pytest.approx(COVERED.value(severity), abs=0.03)


def test_what_is_hidden_stays_hidden_and_its_middle_shows_nothing() -> None:
    for number in range(FRAMES):
        sample = white(f"frame {number}")
        inside = [hidden(sample, severity) for severity in SEVERITIES]
        for less, more in pairwise(inside):
            assert (less & ~more).mean() < 0.002

        striped = white(f"frame {number}")
        striped.image_bgr[:, ::8] = 0
        rows = COVERED.applied(striped, 5).image_bgr[..., 1].astype(float)
        contrast = np.abs(np.diff(rows, axis=1)).max(axis=1)
        least = np.abs(np.diff(rows[:, 40:], axis=1)).reshape(len(rows), -1)
        assert contrast.max() > 100, "stripes beside the cover are seen"
        assert np.median(least) < 3, "no stripe shows through it"


def test_labels_stay_so_pixels_under_the_cover_count() -> None:
    sample = white("frame")
    covered = COVERED.applied(sample, 5)
    assert covered.mask is sample.mask
    assert covered.boxes_xyxy is sample.boxes_xyxy
