"""Augmentation of samples: geometry is here, colours are in `photometry`.

What teachers say about a frame goes through the same geometry, see `training.data.taught_frame`.

All random numbers come from the generator that is passed in. A generator in the same state gives the same sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config.sections import AugmentationRecipe
from training.data.box_geometry import HIDDEN_SHARE_MAX, area, covered_shares, mirrored, placed, whole_enough
from training.data.labels import EVERY_CLASS
from training.data.photometry import vary_colors
from training.data.sample import FULL_CONFIDENCE, Sample
from training.label_sets.label_set import UNLABELED_ID, LabelSet

PAD_VALUE = 114  # that of the letterbox in the model contract
# A shorter side could leave no pixel of the frame in a crop at the smallest zoom that a recipe allows.
SOURCE_SIDE_MIN_PX = 32
_CROP_TRIES = 4
_ONE_CLASS_SHARE_MAX = 0.8  # crops with a larger share of one class are drawn again


def augment(
    sample: Sample,
    donor: Sample | None,
    height: int,
    width: int,
    recipe: AugmentationRecipe,
    rng: np.random.Generator,
    label_set: LabelSet,
) -> Sample:
    """Return a randomly changed crop of a frame.

    Args:
        sample: The frame, at least SOURCE_SIDE_MIN_PX a side.
        donor: Another frame whose rare objects are pasted in; None pastes nothing.
        height: Height of the crop in pixels.
        width: Width of the crop in pixels.
        recipe: How much and how often.
        rng: Generator of all random numbers.
        label_set: Classes of the samples; it names the rare ones.
    """
    result = random_crop(sample, height, width, recipe, rng)
    if donor is not None:
        result = paste_rare(result, random_crop(donor, height, width, recipe, rng), rng, label_set)
    if rng.random() < recipe.flip:
        result = flip(result)
    image = vary_colors(result.image_bgr, recipe, rng)
    result = replace(result, image_bgr=image)
    return erase(result, rng) if rng.random() < recipe.erase else result


def random_crop(
    sample: Sample, height: int, width: int, recipe: AugmentationRecipe, rng: np.random.Generator
) -> Sample:
    """Return a random crop of height x width; draw again, up to a limit, if it shows hardly more than one class."""
    for _ in range(_CROP_TRIES):
        zoom = np.exp(rng.uniform(np.log(recipe.scale_min), np.log(recipe.scale_max)))
        stretch = np.exp(rng.uniform(-1, 1) * np.log1p(recipe.aspect) / 2)
        zoom_x, zoom_y = zoom * stretch, zoom / stretch
        window_width, window_height = width / zoom_x, height / zoom_y
        source_height, source_width = sample.mask.shape
        left = _place(window_width, source_width, rng)
        top = _place(window_height, source_height, rng)
        window = (left, top, left + round(window_width), top + round(window_height))
        x0, y0 = max(0, window[0]), max(0, window[1])
        x1, y1 = min(source_width, window[2]), min(source_height, window[3])
        counts = np.bincount(sample.mask[y0:y1:4, x0:x1:4].ravel(), minlength=256)[:UNLABELED_ID]
        if counts.max() <= _ONE_CLASS_SHARE_MAX * max(1, counts.sum()):
            break
    return cut(sample, window, height, width, recipe.visible_share_min)


def _place(window: float, source: int, rng: np.random.Generator) -> int:
    """Draw where a window starts: the smaller of window and source lies anywhere inside the larger."""
    return int(np.floor(rng.uniform(min(0.0, source - window), max(0.0, source - window) + 1e-6)))


def cut(sample: Sample, window: tuple[int, int, int, int], height: int, width: int, visible_share_min: float) -> Sample:
    """Return a window of a frame, resized to height x width. Outside of the frame it is padded, without labels.

    Boxes are clipped. A box is dropped if it keeps less than `visible_share_min` of its area, or if a side is shorter
    than SIDE_MIN_PX.

    Args:
        sample: The frame.
        window: Left, top, right and bottom in pixels of the frame. May reach outside of it.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        visible_share_min: Share of a box's area, 0..1.
    """
    left, top, right, bottom = window
    scale_x, scale_y = width / (right - left), height / (bottom - top)
    source_height, source_width = sample.mask.shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(source_width, right), min(source_height, bottom)
    to_x0, to_x1 = round((x0 - left) * scale_x), round((x1 - left) * scale_x)
    to_y0, to_y1 = round((y0 - top) * scale_y), round((y1 - top) * scale_y)
    size = (to_x1 - to_x0, to_y1 - to_y0)

    def pasted_in(pixels: NDArray[np.uint8], result: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
        cut_out = cv2.resize(pixels[y0:y1, x0:x1], size, interpolation=interpolation)
        result[to_y0:to_y1, to_x0:to_x1] = cut_out
        return result

    smooth = cv2.INTER_AREA if scale_x * scale_y < 1 else cv2.INTER_LINEAR
    image = pasted_in(sample.image_bgr, np.full((height, width, 3), PAD_VALUE, np.uint8), smooth)
    # INTER_NEAREST_EXACT aligns pixel centres, as the image's interpolation does; INTER_NEAREST does not.
    mask = pasted_in(sample.mask, np.full((height, width), UNLABELED_ID, np.uint8), cv2.INTER_NEAREST_EXACT)
    confidence = sample.confidence
    if confidence is not None:
        confidence = pasted_in(confidence, np.full((height, width), FULL_CONFIDENCE, np.uint8), cv2.INTER_NEAREST_EXACT)
    boxes, clipped = placed(sample.boxes_xyxy, window, height, width)
    kept = whole_enough(boxes, clipped, visible_share_min)
    taught = None if sample.taught is None else sample.taught.cut(window, height, width, visible_share_min)
    result = replace(
        sample,
        image_bgr=image,
        mask=mask,
        confidence=confidence,
        boxes_xyxy=clipped[kept],
        labels=sample.labels[kept],
        taught=taught,
    )
    if sample.ignored_xyxy is None or sample.ignored_labels is None:
        return result
    _, ignored = placed(sample.ignored_xyxy, window, height, width)
    seen = area(ignored) > 0
    return replace(result, ignored_xyxy=ignored[seen], ignored_labels=sample.ignored_labels[seen])


def flip(sample: Sample) -> Sample:
    """Mirror a sample left to right."""
    width = sample.mask.shape[1]
    return replace(
        sample,
        image_bgr=np.ascontiguousarray(sample.image_bgr[:, ::-1]),
        mask=np.ascontiguousarray(sample.mask[:, ::-1]),
        confidence=None if sample.confidence is None else np.ascontiguousarray(sample.confidence[:, ::-1]),
        boxes_xyxy=mirrored(sample.boxes_xyxy, width),
        ignored_xyxy=None if sample.ignored_xyxy is None else mirrored(sample.ignored_xyxy, width),
        taught=None if sample.taught is None else sample.taught.flipped(width),
    )


def paste_rare(sample: Sample, donor: Sample, rng: np.random.Generator, label_set: LabelSet) -> Sample:
    """Copy the pixels of one to three rare classes of the donor into a sample of the same size.

    This is ClassMix (Olsson et al., 2021) with labelled frames and rare classes only. The donor's boxes of pasted
    classes are added, and so is what is pasted out of its ignored regions. Boxes of the sample that are mostly hidden
    afterwards are dropped. Left out are classes that the sample does not label, and classes with boxes if only the
    sample's objects are known: pasted objects would pass for background.
    """
    rare = np.array(
        [label for label in label_set.rare_ids if _may_be_pasted(label, sample, donor, label_set)], np.int64
    )
    present = rare[np.bincount(donor.mask.ravel(), minlength=256)[rare] > 0]
    if not len(present):
        return sample
    chosen = rng.choice(present, size=min(len(present), int(rng.integers(1, 4))), replace=False)
    pasted = np.isin(donor.mask, chosen)
    image, mask = sample.image_bgr.copy(), sample.mask.copy()
    image[pasted] = donor.image_bgr[pasted]
    mask[pasted] = donor.mask[pasted]
    kept = covered_shares(pasted, sample.boxes_xyxy) <= HIDDEN_SHARE_MAX
    brought_classes = [label for label, region in label_set.region_ids.items() if region in chosen]
    brought = np.isin(donor.labels, brought_classes)
    taught = sample.taught
    if taught is not None and donor.taught is not None:
        taught = taught.with_pasted(donor.taught, pasted, brought_classes)
    return replace(
        _with_ignored(sample, donor, pasted, brought_classes),
        image_bgr=image,
        mask=mask,
        confidence=_pasted_confidence(sample, donor, pasted),
        boxes_xyxy=np.concatenate([sample.boxes_xyxy[kept], donor.boxes_xyxy[brought]]),
        labels=np.concatenate([sample.labels[kept], donor.labels[brought]]),
        taught=taught,
    )


def _may_be_pasted(label: int, sample: Sample, donor: Sample, label_set: LabelSet) -> bool:
    """Return whether pixels of a class of masks may be pasted from a donor into a sample."""
    if sample.labeled_pixels is not None and not sample.labeled_pixels[label]:
        return False
    teaches_background = sample.has_boxes and sample.box_weight > 0
    return donor.has_boxes or not teaches_background or label not in label_set.region_ids.values()


def _with_ignored(sample: Sample, donor: Sample, pasted: NDArray[np.bool_], classes: Sequence[int]) -> Sample:
    """Return a sample with ignored regions of some classes around the pixels that come out of those of the donor."""
    if donor.ignored_xyxy is None or donor.ignored_labels is None:
        return sample
    regions: list[tuple[int, ...]] = []
    labels: list[int] = []
    for region, label in zip(donor.ignored_xyxy, donor.ignored_labels.tolist(), strict=True):
        concerned = classes if label == EVERY_CLASS else [label] if label in classes else []
        (left, top), (right, bottom) = np.floor(region[:2]).astype(int), np.ceil(region[2:]).astype(int)
        rows, columns = np.nonzero(pasted[top:bottom, left:right])
        if len(rows):
            extent = (left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1)
            regions += [extent] * len(concerned)
            labels += concerned
    if not labels:
        return sample
    own_regions = np.zeros((0, 4), np.float32) if sample.ignored_xyxy is None else sample.ignored_xyxy
    own_labels = np.zeros(0, np.int64) if sample.ignored_labels is None else sample.ignored_labels
    return replace(
        sample,
        ignored_xyxy=np.concatenate([own_regions, np.array(regions, np.float32)]),
        ignored_labels=np.concatenate([own_labels, np.array(labels, np.int64)]),
    )


def _pasted_confidence(sample: Sample, donor: Sample, pasted: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """Return the confidence of a sample with the donor's where its pixels are pasted; None if both are sure."""
    if sample.confidence is None and donor.confidence is None:
        return None
    full = np.full(sample.mask.shape, FULL_CONFIDENCE, np.uint8)
    ours, theirs = (full if each.confidence is None else each.confidence for each in (sample, donor))
    return np.where(pasted, theirs, ours)


def erase(sample: Sample, rng: np.random.Generator) -> Sample:
    """Fill a rectangle of up to a third of each side with one colour and make it void. Boxes stay."""
    height, width = sample.mask.shape
    erased_height, erased_width = int(rng.integers(8, height // 3)), int(rng.integers(8, width // 3))
    top, left = int(rng.integers(0, height - erased_height)), int(rng.integers(0, width - erased_width))
    image, mask = sample.image_bgr.copy(), sample.mask.copy()
    image[top : top + erased_height, left : left + erased_width] = rng.integers(0, 256, 3)
    mask[top : top + erased_height, left : left + erased_width] = UNLABELED_ID
    taught = sample.taught
    if taught is not None:
        taught = taught.erased(top, left, top + erased_height, left + erased_width)
    return replace(sample, image_bgr=image, mask=mask, taught=taught)
