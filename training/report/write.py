"""Write a report: report.html for people, report.json with every figure, card.md for a model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.report.card import card_of
from training.report.measure import MODEL, Measured, MeasuredFrames, frame_scores
from training.report.page import page_of, rows_of
from training.report.pictures import shown_frames
from training.report.verdict import Verdict
from training.whole_files import write_text


def write_report(folder: Path, measured: Measured, verdict: Verdict) -> None:
    """Write the files.

    Args:
        folder: Folder of the report.
        measured: What was measured.
        verdict: Its verdict.

    Raises:
        OSError: A file cannot be written.
    """
    shown = {frames.name: shown_frames(measured, frames) for frames in measured.sets}
    content = {
        "name": measured.recipe.name,
        "passed": verdict.passed,
        "headline": verdict.headline,
        "verdict": asdict(verdict),
        "models": {name: _model(measured, name) for name in rows_of(measured)},
        "frames": {frames.name: _frames(measured, frames) for frames in measured.sets},
        "agreement": {frames.name: asdict(frames) for frames in measured.agreed},
        "conditions": measured.robustness and measured.robustness.to_json(),
        "stability": measured.stability and measured.stability.to_json(),
        "never_seen": list(measured.recipe.never_seen),
    }
    write_text(folder / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "card.md", card_of(measured, verdict))
    write_text(folder / "report.html", page_of(measured, verdict, shown))


def _model(measured: Measured, name: str) -> dict[str, Any]:
    model = measured.models[name]
    return {
        "file": measured.recipe.models[name].name,
        "runtime": model.runtime,
        "digest": model.digest,
        "size": model.size and asdict(model.size),
        "memory": asdict(measured.memory[name]) if name in measured.memory else None,
    }


def _frames(measured: Measured, frames: MeasuredFrames) -> dict[str, Any]:
    records = frames.records[MODEL]
    return {
        "frames": len(frames.frames),
        "folder": frames.frames.folder.name,
        "fingerprint": frames.frames.fingerprint(),
        "exact_boxes": frames.exact_boxes,
        "labeled_by": frames.teachers,
        "not_scored": frames.unscored,
        "figures": {name: asdict(frames.figures[name]) for name in rows_of(measured)},
        "confidence": asdict(frames.confidence),
        "confusion": {
            "classes": records.mask_classes.tolist(),
            "pixels": records.confusion.sum(axis=0, dtype=np.int64).tolist(),
        },
        "score_of_each_frame": dict(zip(frames.frames.names, frame_scores(records).tolist(), strict=True)),
    }
