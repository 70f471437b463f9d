"""The scales of scores that a calibration found, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.label_sets.label_set import LabelSet

NO_SCALE = {"scale": 1.0, "shift": 0.0}


def score_scales_of(confidence: Mapping[str, Any], classes: LabelSet) -> tuple[tuple[float, float], ...]:
    """Return scale and shift of the logit of each detection class's scores; empty if no class has any.

    Args:
        confidence: The section `confidence` of a contract or of the notes of weights.
        classes: Classes of the network.
    """
    by_name = confidence.get("box_scores", {})
    if not by_name:
        return ()
    each = (by_name.get(info.name, NO_SCALE) for info in classes.detection_classes)
    return tuple((float(scale["scale"]), float(scale["shift"])) for scale in each)
