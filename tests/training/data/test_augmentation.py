"""Test that augmentation moves labels with their pixels, and that the same generator gives the same sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_sets import CAMVID

from training.config.sections import AugmentationRecipe
from training.data.augmentation import augment, cut, erase, flip, paste_rare
from training.data.sample import Sample

GEOMETRY_ONLY = AugmentationRecipe(
    brightness=0, contrast=0, gamma=0, saturation=0, gain=0, hue_degrees=0, grey=0, blur=0, noise=0, jpeg=0, shade=0
)


def scene(seed: int = 0, height: int = 120, width: int = 160) -> Sample:
    """Return a road with three cars whose pixels, mask and boxes agree."""
    rng = np.random.default_rng(seed)
    mask = np.full((height, width), 3, np.uint8)
    mask[: height // 3] = 0
    boxes = []
    for number in range(3):
        left, top = 50 * number + int(rng.integers(0, 10)), int(rng.integers(45, 60))
        box = (left, top, left + int(rng.integers(20, 35)), top + int(rng.integers(20, 40)))
        mask[box[1] : box[3], box[0] : box[2]] = 8
        boxes.append(box)
    image = np.repeat((mask * 20)[..., None], 3, axis=2).astype(np.uint8)
    return Sample("scene", image, mask, np.array(boxes, np.float32), np.zeros(3, np.int64))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_boxes_follow_their_pixels_through_crop_zoom_and_flip(seed: int) -> None:
    recipe = GEOMETRY_ONLY.replace(visible_share_min=0.0)
    sample = augment(scene(seed), None, 96, 128, recipe, np.random.default_rng(seed), CAMVID)
    assert sample.image_bgr.shape == (96, 128, 3)
    cars = sample.mask == 8
    for x0, y0, x1, y1 in sample.boxes_xyxy:
        assert 0 <= x0 < x1 <= 128
        assert 0 <= y0 < y1 <= 96
        inside = cars[round(y0 + 1) : round(y1 - 1), round(x0 + 1) : round(x1 - 1)]
        assert inside.size == 0 or inside.mean() > 0.95
    covered = np.zeros_like(cars)
    for x0, y0, x1, y1 in sample.boxes_xyxy:
        covered[max(0, int(y0) - 2) : int(y1) + 3, max(0, int(x0) - 2) : int(x1) + 3] = True
    missed = cars & ~covered
    assert missed.sum() <= 3 * 96 * 3  # slivers under SIDE_MIN_PX only


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_image_and_mask_move_together(seed: int) -> None:
    sample = augment(scene(seed), None, 96, 128, GEOMETRY_ONLY, np.random.default_rng(seed), CAMVID)
    labelled = sample.mask != 255
    guessed = np.round(sample.image_bgr[..., 0] / 20)
    assert (guessed[labelled] == sample.mask[labelled]).mean() > 0.9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_mask_and_confidence_move_together(seed: int) -> None:
    sure = replace(scene(seed), confidence=np.where(scene(seed).mask == 8, 60, 200).astype(np.uint8))
    sample = augment(sure, scene(seed + 1), 96, 128, GEOMETRY_ONLY, np.random.default_rng(seed), CAMVID)
    assert sample.confidence is not None
    labelled = sample.mask != 255
    assert (sample.confidence[labelled & (sample.mask != 8)] == 200).all()
    assert (sample.confidence[sample.mask == 8] == 60).all()


def test_pasted_pixels_bring_their_confidence() -> None:
    donor = scene(2)
    donor = replace(donor, mask=np.where(donor.mask == 8, 9, donor.mask).astype(np.uint8))
    full, half = (np.full(donor.mask.shape, level, np.uint8) for level in (255, 128))
    for ours, theirs in ((None, half), (half, None), (half, full)):
        first, second = replace(scene(), confidence=ours), replace(donor, confidence=theirs)
        pasted = paste_rare(first, second, np.random.default_rng(0), CAMVID)
        assert pasted.confidence is not None
        there = pasted.mask == 9
        assert there.any()
        assert (pasted.confidence[there] == (255 if theirs is None else theirs[there])).all()
        assert (pasted.confidence[~there] == (255 if ours is None else ours[~there])).all()


def test_the_generator_alone_decides_the_sample() -> None:
    recipe = AugmentationRecipe(noise=1, blur=1, jpeg=1, shade=1, grey=0.5, erase=1)
    first, again, other = (
        augment(scene(), scene(7), 96, 128, recipe, np.random.default_rng(seed), CAMVID) for seed in (3, 3, 4)
    )
    assert (first.image_bgr == again.image_bgr).all()
    assert (first.mask == again.mask).all()
    assert (first.boxes_xyxy == again.boxes_xyxy).all()
    assert not (first.image_bgr == other.image_bgr).all()


def test_changed_colors_do_not_change_labels() -> None:
    recipe = AugmentationRecipe(noise=1, jpeg=1, shade=1, flip=0, scale_min=1, scale_max=1, aspect=0)
    sample = scene()
    varied = augment(sample, None, 120, 160, recipe, np.random.default_rng(0), CAMVID)
    assert (varied.mask == sample.mask).all()
    np.testing.assert_array_equal(varied.boxes_xyxy, sample.boxes_xyxy)
    assert not (varied.image_bgr == sample.image_bgr).all()


def test_a_box_is_dropped_if_too_little_of_it_is_left() -> None:
    sample = replace(scene(), boxes_xyxy=np.array([[0, 40, 40, 80]], np.float32), labels=np.zeros(1, np.int64))
    assert len(cut(sample, (30, 0, 94, 96), 96, 64, visible_share_min=0.3).labels) == 0
    kept = cut(sample, (20, 0, 84, 96), 96, 64, visible_share_min=0.3)
    assert kept.boxes_xyxy.tolist() == [[0, 40, 20, 80]]


def test_a_window_beyond_the_frame_is_padded_without_labels() -> None:
    wide = cut(scene(), (-40, -30, 200, 150), 180, 240, visible_share_min=0.3)
    assert (wide.mask[:30] == 255).all()
    assert (wide.image_bgr[:30] == 114).all()
    assert (wide.mask[30:150, 40:200] == scene().mask).all()


def test_two_flips_give_the_original() -> None:
    sample = scene()
    twice = flip(flip(sample))
    assert (twice.image_bgr == sample.image_bgr).all()
    np.testing.assert_array_equal(twice.boxes_xyxy, sample.boxes_xyxy)


def test_pasted_objects_have_pixels_and_boxes_and_hide_what_is_behind() -> None:
    sample = scene()
    mask = np.full_like(sample.mask, 3)
    hidden = sample.boxes_xyxy[0].astype(int)
    mask[hidden[1] : hidden[3], hidden[0] : hidden[2]] = 9
    donor = Sample(
        "donor", np.full_like(sample.image_bgr, 200), mask, hidden[None].astype(np.float32), np.ones(1, np.int64)
    )
    pasted = paste_rare(sample, donor, np.random.default_rng(0), CAMVID)
    assert (pasted.mask == 9).sum() == (mask == 9).sum()
    assert (pasted.image_bgr[pasted.mask == 9] == 200).all()
    assert pasted.labels.tolist() == [0, 0, 1]
    assert pasted.boxes_xyxy[-1].tolist() == hidden.tolist()
    assert (sample.mask == scene().mask).all()  # the frame itself is untouched


def donor_with_a_pedestrian() -> Sample:
    """Return the road with pixels of a pedestrian, class 9 of masks and 1 of boxes, and no box of it."""
    donor = scene()
    mask = donor.mask.copy()
    mask[70:100, 60:70] = 9
    return replace(donor, mask=mask)


@pytest.mark.parametrize("label", [1, -1])
def test_pixels_of_an_ignored_region_are_ignored_where_they_are_pasted(label: int) -> None:
    """Of a crowd, boxes are not known: its pixels must not teach that no pedestrian is there."""
    region = np.array([[40, 60, 80, 110]], np.float32)
    donor = replace(donor_with_a_pedestrian(), ignored_xyxy=region, ignored_labels=np.array([label]))
    pasted = paste_rare(scene(), donor, np.random.default_rng(0), CAMVID)
    assert (pasted.mask == 9).any()
    assert pasted.ignored_xyxy is not None
    assert pasted.ignored_labels is not None
    assert pasted.ignored_xyxy.tolist() == [[60, 70, 70, 100]]
    assert pasted.ignored_labels.tolist() == [1]

    own = replace(scene(), ignored_xyxy=np.array([[0, 0, 9, 9]], np.float32), ignored_labels=np.array([0]))
    both = paste_rare(own, donor, np.random.default_rng(0), CAMVID)
    assert both.ignored_labels is not None
    assert both.ignored_labels.tolist() == [0, 1]
    of_cars = replace(donor, ignored_labels=np.array([0]))
    assert paste_rare(scene(), of_cars, np.random.default_rng(0), CAMVID).ignored_xyxy is None


def test_objects_of_which_no_box_is_known_are_not_pasted_among_known_ones() -> None:
    donor = replace(donor_with_a_pedestrian(), has_boxes=False)
    assert not (paste_rare(scene(), donor, np.random.default_rng(0), CAMVID).mask == 9).any()
    for unknown in (replace(scene(), has_boxes=False), replace(scene(), box_weight=0.0)):
        assert (paste_rare(unknown, donor, np.random.default_rng(0), CAMVID).mask == 9).any()
    pole = replace(donor, mask=np.where(donor.mask == 9, 2, donor.mask).astype(np.uint8))  # a class without boxes
    assert (paste_rare(scene(), pole, np.random.default_rng(0), CAMVID).mask == 2).any()


def test_a_class_that_a_frame_does_not_label_is_not_pasted_into_it() -> None:
    for labels_pedestrians in (True, False):
        labeled = np.ones(11, np.bool_)
        labeled[9] = labels_pedestrians
        sample = replace(scene(), labeled_pixels=labeled)
        pasted = paste_rare(sample, donor_with_a_pedestrian(), np.random.default_rng(0), CAMVID)
        assert (pasted.mask == 9).any() == labels_pedestrians


def test_a_donor_without_rare_classes_changes_nothing() -> None:
    assert paste_rare(scene(), scene(5), np.random.default_rng(0), CAMVID) is not None
    np.testing.assert_array_equal(paste_rare(scene(), scene(5), np.random.default_rng(0), CAMVID).mask, scene().mask)


def test_an_erased_rectangle_loses_its_labels() -> None:
    erased = erase(scene(), np.random.default_rng(0))
    changed = erased.mask != scene().mask
    assert changed.any()
    assert (erased.mask[changed] == 255).all()


def test_sample_checks_itself() -> None:
    sample = scene()
    with pytest.raises(ValueError, match="mask must be uint8"):
        replace(sample, mask=sample.mask[:-1])
    with pytest.raises(ValueError, match="confidence must be uint8"):
        replace(sample, confidence=sample.mask[:-1])
    with pytest.raises(ValueError, match="labels need boxes"):
        replace(sample, labels=np.zeros(2, np.int64))
