"""Write a calibration: the weights, its figures as JSON, a report and a plot."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from training.calibration.measure import Calibration, Fitted, MeasuredSet
from training.calibration.plots import reliability_png
from training.calibration.wording import said_of, text_of
from training.checkpoint import CheckpointInfo, digest_of_weights
from training.evaluation.confidence import confidence_of
from training.weights_file import SUFFIX, write_weights
from training.whole_files import write_bytes, write_text

WEIGHTS = f"calibrated{SUFFIX}"


def write_calibration(folder: Path, found: Calibration, info: CheckpointInfo) -> str:
    """Write calibrated.safetensors, report.json, report.md and reliability.png.

    Args:
        folder: Folder of the calibration.
        found: The calibration.
        info: Notes of the weights that it began with.

    Returns:
        The text of report.md.

    Raises:
        OSError: A file cannot be written.
    """
    text = text_of(found)
    notes = asdict(replace(info, confidence=found.confidence))
    write_weights(folder / WEIGHTS, found.student.state_dict(), notes, digest_of_weights(found.student))
    write_text(folder / "report.json", json.dumps(_content(found), indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.md", text)
    write_bytes(folder / "reliability.png", reliability_png(found))
    return text


def _content(found: Calibration) -> dict[str, Any]:
    return {
        "name": found.recipe.name,
        "confidence": found.confidence,
        "temperature": found.temperature and _fitted(found.temperature),
        "scales": {name: _fitted(fitted) for name, fitted in found.scales.items()},
        "promises": {
            name: asdict(promise) | {"in_the_file": said_of(promise)} for name, promise in found.promises.items()
        },
        "fit": {each.name: _set(found, each) for each in found.fit},
        "check": {each.name: _set(found, each) for each in found.check},
    }


def _fitted(fitted: Fitted) -> dict[str, Any]:
    return {
        "scale": fitted.scale.scale,
        "shift": fitted.scale.shift,
        "refused": fitted.refused,
        "negative_log_likelihood": {
            name: {"before": before, "after": after} for name, (before, after) in fitted.losses.items()
        },
    }


def _set(found: Calibration, each: MeasuredSet) -> dict[str, Any]:
    content: dict[str, Any] = {
        when: asdict(confidence_of(records)) for when, records in (("before", each.before), ("after", each.after))
    }
    if each.pixels is not None and found.temperature is not None:
        temperature = 1 / found.temperature.scale.scale
        content["pixels"] = {
            when: asdict(each.pixels.reliability(at)) for when, at in (("before", 1.0), ("after", temperature))
        }
    return content
