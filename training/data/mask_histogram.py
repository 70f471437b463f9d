"""Finds masks of another label set by how often each of their values occurs in a whole source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.label_sets.label_set import UNLABELED_ID, LabelSet

MASK_VALUES = 1 << 16
_REMEDY = "name the label set that these masks are of (labels), or set check_shares: false if they are right"


def foreign_masks(folder: Path, label_set: LabelSet, pixels: NDArray[np.int64]) -> Iterator[str]:
    """Yield a sentence for each sign that masks are not of the label set that they are read by.

    Only sets with `usual_share` are checked: what is usual for another one is not known.

    Args:
        folder: Names the source in the sentences.
        label_set: The set that the masks are read by.
        pixels: int64 [MASK_VALUES], how often each value occurs.
    """
    if not label_set.usual_share:
        return
    if _counts_from_zero(label_set, pixels):
        last = int(np.delete(pixels, UNLABELED_ID).nonzero()[0].max())
        yield (
            f"{folder}: expected masks of the label set {label_set.name}, got the ids 0 to {last} and no other, as "
            f"masks of one's own classes have them; {_REMEDY}"
        )
    total = sum(int(pixels[info.id]) for info in label_set.segmentation)
    for info in label_set.segmentation:
        least, most = label_set.usual_share.get(info.name, (0.0, 1.0))
        share = int(pixels[info.id]) / max(1, total)
        if total and not least <= share <= most:
            yield (
                f"{folder}: expected masks of the label set {label_set.name}, in which {info.name} (id {info.id}) has "
                f"{least:.0%} to {most:.0%} of the labelled pixels, it has {share:.1%}; {_REMEDY}"
            )


def _counts_from_zero(label_set: LabelSet, pixels: NDArray[np.int64]) -> bool:
    """Return whether masks have two or more of the first ids of a set, all of them, and less than half of its ids."""
    known = {info.id for info in label_set.segmentation} | set(label_set.void_ids)
    found = sorted(set(pixels.nonzero()[0].tolist()) - {UNLABELED_ID})
    return 2 <= len(found) < len(known) / 2 and found == list(range(len(found)))
