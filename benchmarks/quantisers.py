#!/usr/bin/env python3
"""Compare ways to quantise an exported file: what each keeps of its accuracy, and how fast it is.

Each row is the same file, quantised in another way on the same calibration frames. All files are timed in turns in one
process. `ratio` is the time of a frame over that of the file in fp32. Differences to fp32 are in percent points, with
95 % intervals by a bootstrap over frames. `agree` is the share of the class map that is equal to that in fp32.

Usage: python benchmarks/quantisers.py --calibration FOLDER --frames NAME=KIND:FOLDER [--frames ...] [--row NAME ...]
       [--model MODEL.onnx] [--count N] [--limit N] [--threads N] [--rounds N] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from device_option import add_device_option  # also finds this checkout, not an installed package

ROOT = Path(__file__).resolve().parents[1]

if TYPE_CHECKING:
    from training.compare.recipe import ScoreRecipe
    from training.compression.figures import Figures, Row
    from training.quantization.settings import QuantiseSettings

PARENT = "fp32"


def main() -> int:
    """Parse the command line, quantise, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = ROOT / "models" / "student_plain.onnx"
    parser.add_argument("--model", type=Path, default=usual, help="exported file in fp32")
    parser.add_argument("--calibration", type=Path, required=True, help="folder with images/")
    parser.add_argument("--frames", action="append", required=True, metavar="NAME=KIND:FOLDER", help="labelled frames")
    parser.add_argument("--row", action="append", choices=sorted(WAYS), help="a way to quantise; default: all")
    parser.add_argument("--count", type=int, default=90, help="calibration frames (90)")
    parser.add_argument("--limit", type=int, default=0, help="labelled frames of each set; 0 = all")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run (1)")
    parser.add_argument("--rounds", type=int, default=60, help="how often each file is timed (60)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures")
    add_device_option(parser, "cpu")
    arguments = parser.parse_args()
    from training.compression.figures import measure
    from training.whole_files import write_text

    with tempfile.TemporaryDirectory() as folder:
        files = {PARENT: arguments.model}
        for name in arguments.row or list(WAYS):
            files[name] = Path(folder) / f"{name}.onnx"
            WAYS[name](arguments.model, arguments.calibration, arguments.count, files[name])
        scores = [_score(text, arguments.limit) for text in arguments.frames]
        threads, kept = arguments.threads, Path(folder) / "kept"
        figures = measure(files, scores, threads, kept, rounds=arguments.rounds, device=arguments.device)
    print(table(figures))
    if arguments.json:
        write_text(arguments.json, json.dumps(figures.to_json(), indent=1, allow_nan=False) + "\n")
    return 0


def table(figures: Figures) -> str:
    """Return the figures as text, a row for each file."""
    head = [f"{figures.threads} thread(s), {figures.rounds} rounds in one process"]
    head += [f"{name}: {words}" for name, words in figures.frames.items()]
    columns = "".join(f"{f'mIoU, {name}':>24}{f'AP50, {name}':>24}{'agree':>9}" for name in figures.frames)
    head.append(f"{'':<16}{'ms':>8}{'ratio':>8}{'MB':>7}{columns}")
    return "\n".join([*head, *(_line(row, list(figures.frames)) for row in figures.rows)])


def _line(row: Row, frames: Sequence[str]) -> str:
    cells = f"{row.name:<16}{row.latency.median_ms:8.1f}{row.latency.ratio:8.2f}{row.size_bytes / 1e6:7.1f}"
    for name in frames:
        score = row.scores[name]
        cells += "".join(f"{_figure(row, name, mean):>24}" for mean in ("miou", "ap50"))
        cells += f"{'-':>9}" if score.agreement is None else f"{score.agreement:9.2%}"
    return cells


def _figure(row: Row, frames: str, mean: str) -> str:
    found = row.scores[frames].means.get(mean)
    if found is None or found.value is None:
        return "-"
    if found.difference is None:
        return f"{100 * found.value:.2f}"
    change = found.difference
    span = "" if change.low is None or change.high is None else f" [{100 * change.low:+.2f} {100 * change.high:+.2f}]"
    return f"{100 * change.value:+.2f}{span}"


def _score(text: str, limit: int) -> ScoreRecipe:
    from training.compare.recipe import ScoreRecipe

    name, _, place = text.partition("=")
    kind, _, folder = place.partition(":")
    return ScoreRecipe.checked({"name": name, "frames": {"kind": kind, "folder": folder, "limit": limit}})


def _settings(calibration: Path, count: int, method: str, percentile: float = 99.99) -> QuantiseSettings:
    from training.quantization.settings import QuantiseSettings

    frames = {"kind": "unlabeled", "folder": str(calibration)}
    rule = {"frames": frames, "count": count, "method": method, "percentile": percentile}
    return QuantiseSettings.checked({"calibration": rule})


def _by_rule(method: str, percentile: float = 99.99) -> Callable[[Path, Path, int, Path], None]:
    def quantise(model: Path, calibration: Path, count: int, output: Path) -> None:
        from training.quantization.quantise_file import quantise_file

        quantise_file(model, _settings(calibration, count, method, percentile), output)

    return quantise


def _per_tensor(model: Path, calibration: Path, count: int, output: Path) -> None:
    """Quantise with one scale for all channels of a weight."""
    from ros_kd_perception.model.onnx_model import OnnxModel
    from ros_kd_perception.perceiver import Perceiver
    from training.export.derived_file import derived_contract, write_derived_file
    from training.quantization.calibration import CalibrationFrames
    from training.quantization.quantise import Quantiser
    from training.quantization.quantise_file import golden_images

    settings, opened = _settings(calibration, count, "minmax"), OnnxModel.open(model, device="cpu")
    assert settings.calibration is not None
    quantiser = Quantiser(model, CalibrationFrames(settings.calibration, Perceiver(opened)), settings, {})
    quantiser.form = replace(quantiser.form, per_channel=False)
    contract = derived_contract(quantiser.contract, "int8", {})
    write_derived_file(quantiser.graph(), output, contract, golden_images(model, opened))


# The ways to quantise. Each writes a file: (model, folder of calibration frames, their number, output).
WAYS: dict[str, Callable[[Path, Path, int, Path], None]] = {
    "minmax": _by_rule("minmax"),
    "percentile99.99": _by_rule("percentile"),
    "percentile99.999": _by_rule("percentile", 99.999),
    "entropy": _by_rule("entropy"),
    "per_tensor": _per_tensor,
}

if __name__ == "__main__":
    sys.exit(main())
