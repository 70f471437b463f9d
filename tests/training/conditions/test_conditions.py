"""Test all conditions of frames: what they do grows, is the same each time, and leaves labels that do not move."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_kd_perception.sample_drive.training_samples import write_samples
from training.conditions.condition import FAMILIES, SEVERITIES, ChangedFrames, FrameCondition, named
from training.conditions.rendered import RENDERED_CONDITIONS
from training.conditions.table import CONDITIONS
from training.data.readers.registry import open_source, source_of
from training.data.sample import Sample

BY_NAME = {condition.name: condition for condition in CONDITIONS}
STILL = [condition for condition in CONDITIONS if not condition.moves_labels]
every_condition = pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("conditions") / "samples"
    write_samples(folder, 2, (480, 320), 1, 1)
    frames = open_source(source_of("rendered", {"folder": folder}))
    return [frames[place] for place in range(len(frames))]


def uniform(height: int, width: int, level: int) -> Sample:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :] = 3
    boxes = np.array([[1, 1, width / 2, height / 2], [width / 3, 2, width - 1, height - 1]], np.float32)
    return Sample("plain", np.full((height, width, 3), level, np.uint8), mask, boxes, np.array([0, 1]))


def distance(one: Sample, other: Sample) -> float:
    return float(np.abs(one.image_bgr.astype(int) - other.image_bgr).mean())


def assert_equal(one: Sample, other: Sample) -> None:
    for field in ("image_bgr", "mask", "boxes_xyxy", "labels"):
        assert np.array_equal(getattr(one, field), getattr(other, field)), field


def test_the_table_is_complete() -> None:
    conditions = (*CONDITIONS, *RENDERED_CONDITIONS)
    assert len({condition.name for condition in conditions}) == len(conditions)
    assert {condition.family for condition in conditions} == set(FAMILIES)
    for condition in conditions:
        steps = np.diff([condition.value(severity) for severity in SEVERITIES])
        assert len(steps) == 4
        assert (steps > 0).all() or (steps < 0).all(), condition.name
        assert condition.words
        assert condition.parameter
        assert condition.source


@every_condition
def test_a_frame_changes_more_with_each_severity(condition: FrameCondition, samples: list[Sample]) -> None:
    chosen = samples
    if condition.family == "viewpoint":  # pixels of fine texture differ as much after a small turn as after a large one
        chosen = [smooth(sample) for sample in samples]
    if condition.family == "objects":
        chosen = [sample for sample in samples if len(sample.labels)]
    found = [
        np.mean([distance(condition.applied(sample, severity), sample) for sample in chosen])
        for severity in (0, *SEVERITIES)
    ]
    assert found[0] == 0
    assert (np.diff(found) > 0).all(), found


def smooth(sample: Sample) -> Sample:
    rows, columns = np.linspace(0, 255, sample.mask.shape[0]), np.linspace(0, 255, sample.mask.shape[1])
    image = (rows[:, None] + columns[None]) / 2
    return Sample("smooth", np.repeat(image[..., None], 3, axis=2).astype(np.uint8), sample.mask, sample.boxes_xyxy,
                  sample.labels)  # fmt: skip


@every_condition
@given(
    st.integers(32, 400),
    st.integers(32, 400),
    st.sampled_from((0, 128, 255)),
    st.sampled_from(SEVERITIES),
)
@settings(max_examples=8)
def test_frames_of_any_size_and_light(
    condition: FrameCondition, height: int, width: int, level: int, severity: int
) -> None:
    sample = uniform(height, width, level)
    before = sample.image_bgr.copy(), sample.mask.copy(), sample.boxes_xyxy.copy()

    changed = condition.applied(sample, severity)

    assert changed.image_bgr.shape == sample.image_bgr.shape
    assert changed.image_bgr.dtype == np.uint8
    assert_equal(changed, condition.applied(sample, severity))
    for kept, now in zip(before, (sample.image_bgr, sample.mask, sample.boxes_xyxy), strict=True):
        assert np.array_equal(kept, now)  # the frame that was given is not changed
    if condition in STILL:
        assert np.array_equal(changed.mask, sample.mask)
        assert np.array_equal(changed.boxes_xyxy, sample.boxes_xyxy)
        assert np.array_equal(changed.labels, sample.labels)
    assert set(np.unique(changed.mask)) <= {0, 3, 255}
    assert (changed.boxes_xyxy >= 0).all()
    assert (changed.boxes_xyxy <= np.array([width, height] * 2)).all()


@pytest.mark.parametrize("name", ["shot_noise", "dirt", "fog", "rain", "snow", "dead_rows", "motion_blur"])
def test_frames_of_other_names_get_other_patterns(name: str, samples: list[Sample]) -> None:
    first = samples[0]
    again = Sample("another", first.image_bgr, first.mask, first.boxes_xyxy, first.labels)
    assert distance(BY_NAME[name].applied(first, 4), BY_NAME[name].applied(again, 4)) > 0.1


def test_changed_frames_have_a_fingerprint_of_their_own(rendered_samples: Path) -> None:
    frames = open_source(source_of("rendered", {"folder": rendered_samples, "limit": 2}))
    made = [ChangedFrames(frames, condition, severity) for condition in CONDITIONS for severity in SEVERITIES]
    assert len({frames.fingerprint(), *(each.fingerprint() for each in made)}) == 1 + len(made)
    fog = ChangedFrames(frames, BY_NAME["fog"], 3)
    assert len(fog) == 2
    assert_equal(fog[1], BY_NAME["fog"].applied(frames[1], 3))


def test_conditions_are_chosen_by_name_and_family() -> None:
    assert named(CONDITIONS, []) == CONDITIONS
    assert [each.name for each in named(CONDITIONS, ["snow", "objects"])] == ["snow", "occlusion"]


def sharpness(image: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())


@pytest.mark.parametrize("name", ["defocus", "motion_blur"])
def test_blur_takes_detail_away_and_keeps_the_light(name: str, samples: list[Sample]) -> None:
    changed = BY_NAME[name].applied(samples[0], 5).image_bgr
    assert sharpness(changed) < 0.2 * sharpness(samples[0].image_bgr)
    assert abs(changed.mean() - samples[0].image_bgr.mean()) < 6


def test_a_stop_halves_the_light(samples: list[Sample]) -> None:
    grey = uniform(64, 64, 188)  # half of the light of white
    found = BY_NAME["low_light"].applied(grey, 1).image_bgr.mean()
    assert found == pytest.approx(137, abs=1.5)  # a quarter of it: 255 * (1.055 * 0.25 ** (1 / 2.4) - 0.055)


def test_noise_of_photons_grows_with_the_root_of_the_light() -> None:
    from training.conditions.light import to_light
    from training.conditions.sensor import shot_noise

    rng = np.random.default_rng(0)
    for level in (188, 225):
        light = to_light(shot_noise(uniform(200, 200, level).image_bgr, 2000.0, rng))
        expected = float(to_light(np.full((1, 1, 3), level, np.uint8)).mean())
        assert light.mean() == pytest.approx(expected, rel=0.01)
        assert light.std() == pytest.approx(np.sqrt(expected / 2000), rel=0.1)


def test_dead_rows_are_rows(samples: list[Sample]) -> None:
    changed = BY_NAME["dead_rows"].applied(samples[0], 4).image_bgr != samples[0].image_bgr
    share = changed.any(axis=(1, 2)).mean()
    assert 0.15 < share <= 0.22
