"""Objects that are partly hidden: each true box is covered by a patch of a growing share of its area."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.conditions.light import soft_noise
from training.data.sample import Sample
from training.label_sets.label_set import UNLABELED_ID


def occluded(sample: Sample, share: float, rng: np.random.Generator) -> Sample:
    """Return a frame in which a patch with a grey texture covers a share of every true box.

    Where the patch lies in the box is random. A patch of a larger share contains the one of a smaller share. The boxes
    stay, because a hidden object is still there. Pixels under a patch become void in the mask.

    Args:
        sample: The frame.
        share: Share of the area of each box, 0..1.
        rng: Generator of all random numbers.
    """
    image, mask = sample.image_bgr.copy(), sample.mask.copy()
    height, width = mask.shape
    texture = np.rint(110 * soft_noise(height, width, 60, rng) + 65).astype(np.uint8)
    places, tones = rng.uniform(0, 1, (len(sample.labels), 2)), rng.uniform(0.5, 1.1, len(sample.labels))
    for box, place, tone in zip(sample.boxes_xyxy.astype(np.float64), places, tones, strict=True):
        side = (box[2:] - box[:2]) * np.sqrt(share)
        low = box[:2] + place * (box[2:] - box[:2] - side)
        x0, y0 = np.clip(np.rint(low).astype(int), 0, (width, height)).tolist()
        x1, y1 = np.clip(np.rint(low + side).astype(int), 0, (width, height)).tolist()
        patch = np.clip(texture[y0:y1, x0:x1, None] * tone, 0, 255)
        image[y0:y1, x0:x1] = patch.astype(np.uint8)
        mask[y0:y1, x0:x1] = UNLABELED_ID
    return replace(sample, image_bgr=image, mask=mask)
