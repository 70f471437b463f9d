#!/usr/bin/env python3
"""Compare files of one network side by side, in one process: fp32, fp16 and 8-bit files, on any execution provider.

The first file is the parent. The benchmark reports how long each file takes, how far its class map agrees with that
of the parent, and its scores on labelled frames. The files take turns frame by frame, so that a machine that slows
down slows all of them. A ratio is the median of the ratios of single turns.

Usage: python benchmarks/precisions.py PARENT.onnx FILE.onnx... --data FOLDER [--count N] [--device DEVICE]
       [--threads N] [--turns N] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from device_option import add_device_option

from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import RENDERED_KIND, open_source, recognize, source_of
from training.evaluation.scoring import SCORE_FLOOR, FrameScorer
from training.label_sets.of_model import label_set_of

WARM_UP_TURNS = 5


@dataclass
class Candidate:
    """A file under comparison.

    Attributes:
        path: The file.
        model: The file, opened.
        opened_s: How long opening took, with the build of an engine and the golden frames.
        scorer: Its scores so far.
        equal_cells, cells: Pixels of class maps that are those of the parent, and all of them.
        times_ms: One time for each turn.
    """

    path: Path
    model: OnnxModel
    opened_s: float
    perceiver: Perceiver
    scorer: FrameScorer
    equal_cells: int = 0
    cells: int = 0
    times_ms: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, options: argparse.Namespace) -> Candidate:
        """Open a file on the chosen device.

        Raises:
            ModelError: It cannot be opened.
        """
        begin = time.perf_counter()
        model = OnnxModel.open(path, device=options.device, intra_op_threads=options.threads, tell=lambda report: None)
        opened_s = time.perf_counter() - begin
        return cls(path, model, opened_s, Perceiver(model, SCORE_FLOOR), FrameScorer(model.contract))


def main() -> int:
    """Parse the command line, compare, print a table. Return 0, or 2 if a file or frame is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="exported files; the first is the parent")
    parser.add_argument("--data", type=Path, required=True, help="labelled frames, such as data/camvid/val")
    parser.add_argument("--count", type=int, default=60, help="frames to score, spread over the folder (60)")
    parser.add_argument("--turns", type=int, default=100, help="timed runs of each file (100)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU provider (1)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    add_device_option(parser, "cpu")
    options = parser.parse_args()
    if min(options.count, options.turns, options.threads) < 1:
        parser.error("expected positive numbers for --count, --turns and --threads")
    cv2.setNumThreads(1)
    try:
        candidates = [Candidate.open(path, options) for path in options.files]
        frames = labelled_frames(options.data, candidates[0])
    except (ModelError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    first = score(candidates, frames, options.count)
    take_turns(candidates, first, options.turns)
    rows = [row_of(candidate, candidates[0]) for candidate in candidates]
    print(
        f"{min(options.count, len(frames))} frames of {options.data}, {options.turns} turns, {options.threads} thread"
    )
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return 0


def labelled_frames(folder: Path, parent: Candidate) -> FrameFolder:
    """Return the frames of a folder, with the classes of the parent.

    Raises:
        ValueError: The folder has no such frames, or classes that the parent does not know.
    """
    classes = label_set_of(parent.model.contract).as_student()
    source = open_source(source_of(recognize(folder, RENDERED_KIND), {"folder": folder}), classes)
    return source.for_student(classes)


def score(candidates: Sequence[Candidate], frames: FrameFolder, count: int) -> Frame:
    """Score all files on the same frames, and compare class maps with the parent's. Return the first frame."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    for number in chosen:
        sample = frames[int(number)]
        expected = None
        for candidate in candidates:
            found = candidate.scorer.score(candidate.perceiver, sample).class_map
            if found is None:
                continue
            expected = found if expected is None else expected
            candidate.equal_cells += int(np.count_nonzero(found == expected))
            candidate.cells += found.size
    return Frame("benchmark", 0, "", frames[int(chosen[0])].image_bgr)


def take_turns(candidates: Sequence[Candidate], frame: Frame, turns: int) -> None:
    """Time the network alone. Each turn runs every file once."""
    images = [np.ascontiguousarray(entry.perceiver.prepare(frame).network_input[None]) for entry in candidates]
    for turn in range(WARM_UP_TURNS + turns):
        for candidate, image in zip(candidates, images, strict=True):
            begin = time.perf_counter()
            candidate.model.run(image)
            if turn >= WARM_UP_TURNS:
                candidate.times_ms.append((time.perf_counter() - begin) * 1e3)


def row_of(candidate: Candidate, parent: Candidate) -> dict[str, Any]:
    """Return the figures of a file. Shares are 0..1; None for a task that it does not have."""
    results, times = candidate.scorer.results(), np.array(candidate.times_ms)
    return {
        "file": candidate.path.name,
        "precision": candidate.model.contract.precision,
        "megabytes": candidate.path.stat().st_size / 1e6,
        "runs_on": candidate.model.provider.what_runs,
        "nodes": candidate.model.provider.placement(),
        "opened_s": candidate.opened_s,
        "latency_ms": {"p50": float(np.median(times)), "p95": float(np.quantile(times, 0.95))},
        "latency_ratio": float(np.median(times / np.array(parent.times_ms))),
        "agreement": candidate.equal_cells / candidate.cells if candidate.cells else None,
        "miou": results.get("miou"),
        "ap50": results.get("detection", {}).get("ap50"),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print one line for each file."""
    print(f"{'file':<28} kind     MB  p50 ms  ratio same map   mIoU   AP50  runs on")
    for row in rows:
        shares = [row["agreement"], row["miou"], row["ap50"]]
        words = ["-" if share is None else f"{100 * share:.2f}" for share in shares]
        print(
            f"{row['file']:<28} {row['precision']:<5} {row['megabytes']:5.1f} {row['latency_ms']['p50']:7.2f} "
            f"{row['latency_ratio']:6.3f} {words[0]:>8} {words[1]:>6} {words[2]:>6}  {row['runs_on']}"
        )


if __name__ == "__main__":
    sys.exit(main())
