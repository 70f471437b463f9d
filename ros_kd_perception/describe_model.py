"""Say what is inside a model file, without ROS: `describe_model MODEL.onnx`.

Contract, origin and golden frames are read and checked as the node does it. The network runs only with `--run`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ros_kd_perception.candidates.trial import try_model
from ros_kd_perception.model.contract import DYNAMIC_BATCH, ContractError, ModelContract
from ros_kd_perception.model.contract_file import GRAPH_SHA256_KEY, ContractFile
from ros_kd_perception.model.contract_notes import DROPS_BOXES_ABOVE_IOU, LOOKS_AT_HALF_SIZE
from ros_kd_perception.model.contract_reader import is_finite_number
from ros_kd_perception.model.golden import golden_limits_in_words
from ros_kd_perception.model.onnx_model import DEVICES, OnnxModel
from ros_kd_perception.model.origin import Origin
from ros_kd_perception.system.command_arguments import MAX_THREADS, path_argument, whole_number

EXIT_UNUSABLE = 2
TIMED_RUNS = 20
BUDGET_S = 5.0
MAX_SHOWN_CHARACTERS = 200


def describe(path: Path) -> dict[str, Any]:
    """Return what a file says of itself, for JSON.

    Raises:
        ModelFileError, ContractError: The file cannot be used; one sentence that names it.
    """
    source = ContractFile.read(path)
    try:
        golden = source.golden_frames()
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None
    contract = json.loads(source.contract.to_json())
    return {
        "file": str(path),
        "bytes": len(source.file.content),
        "sha256": source.file.sha256,
        "graph_sha256_recorded": GRAPH_SHA256_KEY in source.file.metadata,
        "golden_frames": len(golden),
        "contract": contract,
    }


def measure(path: Path, device: str, threads: int) -> dict[str, Any]:
    """Open a file, run its golden frames and time it on an empty frame.

    Args:
        path: The model file.
        device: One of `DEVICES`.
        threads: Threads of one operator; 0 lets ONNX Runtime choose.

    Raises:
        CandidateRefused, ModelError: The file cannot be run.
    """
    trial = try_model(path, {"device": device})
    model = OnnxModel.open(path, device=device, intra_op_threads=threads, sha256=trial.sha256)
    size = model.contract.input
    images = np.full((1, size.height, size.width, 3), size.pad_value, np.uint8)
    model.run(images)
    times_ms: list[float] = []
    deadline_s = time.perf_counter() + BUDGET_S
    while len(times_ms) < TIMED_RUNS and (not times_ms or time.perf_counter() < deadline_s):
        started_s = time.perf_counter()
        model.run(images)
        times_ms.append((time.perf_counter() - started_s) * 1e3)
    return {
        "provider": model.provider.what_runs,
        "threads": threads,
        "golden_frames_agree": True,
        "median_ms": statistics.median(times_ms),
        "runs": len(times_ms),
        "int8_speed": trial.speed,
    }


def in_words(facts: Mapping[str, Any]) -> str:
    """Return the facts of `describe`, and of `measure` below `run`, as lines of a name and a text."""
    contract = ModelContract.from_json(json.dumps(facts["contract"], allow_nan=False))
    rows = [*_identity(facts, contract), *_contents(contract), *_origin(contract)]
    rows += [("provenance", f"{key} {_shown(value)}") for key, value in contract.provenance.items()]
    rows += [("confidence", f"{key} {_shown(value)}") for key, value in contract.confidence.items()]
    rows += [("metrics", f"{key} {_shown(value)}") for key, value in contract.metrics.items()]
    rows.append(("golden frames", f"{facts['golden_frames']}, to agree {golden_limits_in_words(contract)}"))
    rows += _run(facts.get("run"))
    width = max(len(name) for name, _ in rows)
    names = [name if index == 0 or rows[index - 1][0] != name else "" for index, (name, _) in enumerate(rows)]
    return "\n".join(f"{name:<{width}}  {_printable(text)}" for name, (_, text) in zip(names, rows, strict=True))


def _identity(facts: Mapping[str, Any], contract: ModelContract) -> list[tuple[str, str]]:
    recorded = "recorded and equal" if facts["graph_sha256_recorded"] else "not recorded, as in older exports"
    return [
        ("file", facts["file"]),
        ("name", f"{contract.name} {contract.version}"),
        ("precision", contract.precision),
        ("size", f"{facts['bytes']} bytes ({facts['bytes'] / 1e6:.1f} MB)"),
        ("sha256", facts["sha256"]),
        ("hash of layers", recorded),
    ]


def _contents(contract: ModelContract) -> list[tuple[str, str]]:
    size, masks, boxes = contract.input, contract.class_map, contract.detections
    batch = "any number of frames at once" if size.batch == DYNAMIC_BATCH else "one frame at a time"
    rows = [("input", f"{size.width}x{size.height} {size.channels}, {size.resize}, {batch}")]
    if masks is not None:
        names = ", ".join(info.name for info in masks.classes)
        rows.append(("segmentation", f"{len(masks.classes)} classes, stride {masks.stride} px: {names}"))
    if boxes is not None:
        names = ", ".join(info.name for info in boxes.classes)
        limits = f"up to {boxes.max} boxes from score {boxes.score_threshold}, {_duplicates(contract)}"
        rows.append(("detection", f"{len(boxes.classes)} classes, {limits}: {names}"))
        if contract.provenance.get(LOOKS_AT_HALF_SIZE) is True:
            rows.append(("detection", "the network looks for boxes at half of the input's size, too"))
    return rows


def _duplicates(contract: ModelContract) -> str:
    boxes, dropped = contract.detections, contract.provenance.get(DROPS_BOXES_ABOVE_IOU)
    if boxes is not None and boxes.nms_iou is not None:
        return f"duplicates removed above IoU {boxes.nms_iou}"
    if is_finite_number(dropped):
        return f"no duplicates (the network drops those above IoU {dropped:g})"
    return "no duplicates"


def _origin(contract: ModelContract) -> list[tuple[str, str]]:
    origin = Origin.of(contract.derived)
    rows = [("made from", origin.parent or "no other file that the contract names")]
    rows += [("steps", step) for step in origin.steps]
    rows += [("loss", loss.in_words()) for loss in origin.losses]
    if origin.agreement is not None:
        rows.append(("equal to parent", origin.agreement_in_words()))
    if "data_sha256" in contract.derived:
        rows.append(("calibration", f"frames of sha256 {contract.derived['data_sha256']}"))
    return rows


def _run(run: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if run is None:
        return []
    rows = [
        ("provider", run["provider"]),
        ("golden gate", "passed"),
        ("time", f"{run['median_ms']:.1f} ms, median of {run['runs']} runs of the network on one frame"),
    ]
    return [*rows, ("speed", run["int8_speed"])] if run["int8_speed"] else rows


def _printable(text: str) -> str:
    """Replace what a terminal would take for a command: the texts come from the file."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]} ..."


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="describe_model",
        description="Say what is inside a model file: precision, classes, origin, loss and how it is checked.",
    )
    parser.add_argument("model", type=path_argument, metavar="MODEL.onnx", help="exported, adopted or quantised model")
    parser.add_argument("--json", action="store_true", help="print JSON, with the whole contract")
    parser.add_argument("--run", action="store_true", help="also open it, run its golden frames and time it")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="execution provider of --run")
    parser.add_argument(
        "--threads", type=whole_number(0, MAX_THREADS), default=0, metavar="N", help="threads of --run; 0: all cores"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Describe a file. Return 0; 2 with one sentence if it cannot be used; 130 when interrupted."""
    options = parse_arguments(arguments)
    try:
        facts = describe(options.model)
        if options.run:
            facts["run"] = measure(options.model, options.device, options.threads)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        print(f"describe_model: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    print(json.dumps(facts, indent=2, allow_nan=False) if options.json else in_words(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
