"""Writes every figure of a comparison as JSON: the totals, then one line for each frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from ros_kd_perception.differences.boxes import BOX_COLUMNS
from ros_kd_perception.differences.classes import CommonClasses
from ros_kd_perception.differences.comparison import Side
from ros_kd_perception.differences.figures import Figures, FrameRow, Totals, percentiles_of
from ros_kd_perception.differences.limits import Judged
from ros_kd_perception.differences.masks import CountTable, class_ious, share
from ros_kd_perception.differences.moments import Moment
from ros_kd_perception.differences.verdict import Verdict


def document_of(
    figures: Figures,
    verdict: Verdict,
    judged: Sequence[Judged],
    sides: tuple[Side, Side],
    moments: Mapping[str, Moment],
) -> dict[str, Any]:
    """Return everything but the frames.

    Args:
        figures: All figures.
        verdict: What they say.
        judged: The limits.
        sides: The old side and the new one.
        moments: The worst moments by the name of their picture.
    """
    return {
        "verdict": {
            "within_limits": verdict.is_within,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
        },
        "sides": {
            name: {"title": side.title, "facts": dict(side.facts)}
            for name, side in zip(("old", "new"), sides, strict=True)
        },
        "classes": {"masks": _common(figures.classes.masks), "boxes": _common(figures.classes.boxes)},
        "limits": [one.to_json() for one in judged],
        "total": _totals(figures, figures.total, figures.rows),
        "cameras": {
            camera: _totals(figures, totals, figures.rows_of(camera)) for camera, totals in figures.cameras.items()
        },
        "frames_of_one_side": {
            side: [{"camera": camera, "stamp_ns": stamp_ns} for camera, stamp_ns in alone]
            for side, alone in figures.one_sided.items()
        },
        "frames_without_results": dict(figures.dropped),
        "worst": [_moment(name, moment) for name, moment in moments.items()],
    }


def write_json(file: TextIO, document: Mapping[str, Any], figures: Figures) -> None:
    """Write a document with the key `frames` at its end. Frames are written one by one, so memory does not grow.

    Args:
        file: The open file.
        document: Everything but the frames.
        figures: Has the frames.
    """
    head = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    file.write(f'{head.removesuffix("}").rstrip()},\n "frames": [')
    names = () if figures.classes.masks is None else figures.classes.masks.names
    for number, row in enumerate(figures.rows):
        text = json.dumps(_row(row, names), allow_nan=False, ensure_ascii=False)
        file.write(f"{',' if number else ''}\n  {text}")
    file.write("\n ]\n}\n")


def classes_moved_to(pixels: CountTable) -> list[tuple[int, float] | None]:
    """Return for each class the other class that most of its old pixels have now, with their share. None: nothing.

    Args:
        pixels: int64 `[n + 1, n + 1]`, rows of the old side. The last class is that of unlabeled pixels.
    """
    found: list[tuple[int, float] | None] = []
    for index, row in enumerate(pixels[:-1]):
        others = row.copy()
        others[index] = 0
        best = int(others.argmax())
        found.append((best, float(others[best] / row.sum())) if others[best] else None)
    return found


def _common(classes: CommonClasses | None) -> dict[str, Any] | None:
    if classes is None:
        return None
    return {"common": list(classes.names), "only_old": list(classes.only_old), "only_new": list(classes.only_new)}


def _totals(figures: Figures, totals: Totals, rows: list[FrameRow]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "frames": totals.frames,
        "frames_only_old": totals.one_sided["old"],
        "frames_only_new": totals.one_sided["new"],
    }
    if figures.classes.masks is not None:
        found["masks"] = {
            "compared_px": totals.compared_px,
            "changed_pixels": totals.changed_share,
            "left_out_pixels": totals.left_out_share,
            "changed_pixels_of_frames": percentiles_of(rows),
            "classes": _mask_classes(totals.pixels, figures.classes.masks.names),
            "pixels_by_class": totals.pixels.tolist(),
        }
    if figures.classes.boxes is not None:
        found["boxes"] = {
            **_box_figures(totals.boxes.sum(axis=0).tolist()),
            "renamed": totals.renamed_boxes,
            "left_out": totals.left_out_boxes,
            "frames_with_lost": totals.frames_with_lost,
            "frames_with_new": totals.frames_with_gained,
            "classes": {
                name: _box_figures(row)
                for name, row in zip(figures.classes.boxes.names, totals.boxes.tolist(), strict=True)
            },
        }
    return found


def _mask_classes(pixels: CountTable, names: Sequence[str]) -> dict[str, Any]:
    ious, whole = class_ious(pixels), max(1, int(pixels.sum()))
    words = [*names, "unlabeled"]
    found = {}
    for index, (name, moved) in enumerate(zip(names, classes_moved_to(pixels), strict=True)):
        found[name] = {
            "old_share": float(pixels[index].sum() / whole),
            "new_share": float(pixels[:, index].sum() / whole),
            "iou": _number(ious[index]),
            "mostly_became": None if moved is None else words[moved[0]],
            "became_share": None if moved is None else moved[1],
        }
    return found


def _box_figures(sums: Sequence[float]) -> dict[str, Any]:
    row = dict(zip(BOX_COLUMNS, sums, strict=True))
    old, new, matched = (round(row[column]) for column in ("old", "new", "matched"))
    return {
        "old": old,
        "new": new,
        "matched": matched,
        "lost_share": share(old - matched, old),
        "new_share": share(new - matched, new),
        "mean_iou": share(row["iou_sum"], matched),
        "mean_score_change": share(row["score_change_sum"], matched),
        "mean_score_distance": share(row["score_distance_sum"], matched),
    }


def _row(row: FrameRow, names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"camera": row.camera, "stamp_ns": row.stamp_ns, "time_s": row.position_ns / 1e9}
    if row.class_ious is not None:
        ious = {name: _number(iou) for name, iou in zip(names, row.class_ious.tolist(), strict=True)}
        found |= {
            "changed_pixels": row.changed_share,
            "left_out_px": row.left_out_px,
            "class_iou": {name: iou for name, iou in ious.items() if iou is not None},
        }
    if row.old_boxes is not None:
        found |= {
            "old_boxes": row.old_boxes,
            "new_boxes": row.new_boxes,
            "matched": row.matched_boxes,
            "lost": row.lost_boxes,
            "new": row.gained_boxes,
            "renamed": row.renamed_boxes,
            "mean_iou": row.mean_iou,
            "mean_score_change": row.score_change,
        }
    return found


def _moment(name: str, moment: Moment) -> dict[str, Any]:
    row = moment.row
    return {
        "picture": name,
        "camera": row.camera,
        "stamp_ns": row.stamp_ns,
        "time_s": row.position_ns / 1e9,
        "changed_pixels": row.changed_share,
        "lost": list(moment.lost),
        "new": list(moment.gained),
        "sentences": list(moment.sentences),
    }


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
