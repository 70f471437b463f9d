#!/usr/bin/env python3
"""Quantise one exported file with the libraries that are installed, and compare the results.

Each library does its usual post-training quantisation to 8 bits, on the same frames. A library that cannot be imported
is left out and named. The files run in sessions of ONNX Runtime with its defaults, one after the other frame by frame,
because the node's sessions fold no constants and so would be unfair to files whose biases are floats.

Usage: python benchmarks/quantiser_libraries.py PARENT.onnx --calibration FOLDER --frames FOLDER [--count N]
       [--turns N] [--out FOLDER] [--device DEVICE]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from device_option import add_device_option

from ros_kd_perception.model.execution_provider import available_providers, wanted_provider
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Frame, UInt8Array
from training.quantization.quantise import quantised_graph
from training.quantization.settings import QuantiseSettings

CALIBRATION_FRAMES = 90
Make = Callable[[Path, Sequence[UInt8Array], Path], None]


def with_onnx_runtime(parent: Path, images: Sequence[UInt8Array], output: Path) -> None:
    calibration = {"frames": {"kind": "unlabeled", "folder": "."}}
    settings = QuantiseSettings.model_validate({"form": "cpu", "calibration": calibration})
    onnx.save(quantised_graph(parent, images, settings), output)


def with_nncf(parent: Path, images: Sequence[UInt8Array], output: Path) -> None:
    import nncf  # type: ignore[import-not-found]

    data = nncf.Dataset([image[None] for image in images], lambda image: {"images": image})
    graph = nncf.quantize(
        onnx.load(parent),
        data,
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
    )
    onnx.save(graph, output)


def with_modelopt(parent: Path, images: Sequence[UInt8Array], output: Path) -> None:
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]

    quantize(
        str(parent),
        quantize_mode="int8",
        calibration_data={"images": np.stack(images)},
        calibration_method="max",
        calibration_eps=["cpu"],
        output_path=str(output),
        high_precision_dtype="fp32",
    )


LIBRARIES: dict[str, Make] = {
    "onnxruntime": with_onnx_runtime,
    "nncf": with_nncf,
    "modelopt": with_modelopt,
}


def main() -> int:
    """Parse the command line, quantise, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parent", type=Path, nargs="?", help="exported file in fp32")
    parser.add_argument("--calibration", type=Path, help="folder of images to calibrate on")
    parser.add_argument("--frames", type=Path, help="folder of images to compare on")
    parser.add_argument("--count", type=int, default=60, help="images to compare on (60)")
    parser.add_argument("--turns", type=int, default=60, help="timed runs of each file (60)")
    parser.add_argument("--out", type=Path, help="keep the files in this folder")
    add_device_option(parser, "cpu")
    options = parser.parse_args()
    if options.parent is None or options.calibration is None or options.frames is None:
        parser.error("expected PARENT.onnx, --calibration and --frames")
    perceiver = Perceiver(OnnxModel.open(options.parent, device="cpu"))
    calibration = network_inputs(options.calibration, perceiver, CALIBRATION_FRAMES)
    images = network_inputs(options.frames, perceiver, options.count)
    with tempfile.TemporaryDirectory() as temporary:
        files = {"parent": options.parent}
        files |= quantised_files(options.parent, calibration, options.out or Path(temporary))
        compare(files, images, options)
    return 0


def network_inputs(folder: Path, perceiver: Perceiver, count: int) -> list[UInt8Array]:
    """Return network inputs of images that are spread evenly over a folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    chosen = np.unique(np.linspace(0, len(paths) - 1, count).round().astype(int))
    frames = [cv2.imread(str(paths[number]), cv2.IMREAD_COLOR) for number in chosen]
    return [np.array(perceiver.prepare(Frame("benchmark", 0, "", frame)).network_input) for frame in frames]


def quantised_files(parent: Path, images: Sequence[UInt8Array], folder: Path) -> dict[str, Path]:
    """Quantise with each library that can be imported."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, make in LIBRARIES.items():
        output = folder / f"{name}.onnx"
        begin = time.perf_counter()
        try:
            make(parent, images, output)
        except ImportError as error:
            print(f"{name}: left out, {error}")
            continue
        print(f"{name}: {time.perf_counter() - begin:.0f} s over {len(images)} frames")
        files[name] = output
    return files


def compare(files: dict[str, Path], images: Sequence[UInt8Array], options: argparse.Namespace) -> None:
    """Print size, kernels, latency against the parent, and the share of equal cells of the class map."""
    provider = wanted_provider(options.device, available_providers())
    sessions = {name: open_session(path, provider) for name, path in files.items()}
    maps = {
        name: np.stack([session.run(["class_map"], {"images": image[None]})[0] for image in images])
        for name, (session, _) in sessions.items()
    }
    times: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(options.turns):
        for name, (session, _) in sessions.items():
            begin = time.perf_counter()
            session.run(None, {"images": images[turn % len(images)][None]})
            times[name].append(time.perf_counter() - begin)
    print(f"{'library':<12}    MB   ratio  same map  kernels of convolutions")
    for name, (_, kernels) in sessions.items():
        ratio = np.median(np.array(times[name]) / np.array(times["parent"]))
        equal = np.mean(maps[name] == maps["parent"])
        size = files[name].stat().st_size / 1e6
        print(f"{name:<12} {size:5.1f}  {ratio:6.3f}  {100 * equal:7.2f}%  {kernels}")


def open_session(path: Path, provider: str) -> tuple[Any, str]:
    """Open a file with the defaults of ONNX Runtime on one thread, and name the kernels of its convolutions."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.NamedTemporaryFile(suffix=".onnx") as optimised:
        options.optimized_model_filepath = optimised.name
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        kinds = Counter(node.op_type for node in onnx.load(optimised.name).graph.node if "Conv" in node.op_type)
    return session, ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


if __name__ == "__main__":
    raise SystemExit(main())
