"""How far the results of a quantised file differ between kinds of arithmetic: `python benchmarks/int8_arithmetic.py`.

The reference is the session of the node on the CPU. Compared with it: two threads, the requested device, signed and
unsigned weights, and floats between QuantizeLinear and DequantizeLinear, which is what a GPU computes. Signed weights
overflow on an x86-64 CPU without VNNI, and only there. The golden frames of the file and the images of a folder are
compared with the measures of the golden gate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from device_option import add_device_option

from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.model.golden import GoldenFrame, GoldenResult
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.model.onnx_runtime import onnxruntime
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import Detections, Frame, UInt8Array
from ros_kd_perception.system.cpu_kernels import int8_kernels

MOST_FRAMES = 100
Run = Callable[[UInt8Array], GoldenFrame]


def of_node(path: Path, device: str, threads: int) -> Run:
    """Return a function that runs a network input in the session of the node."""
    model = OnnxModel.open(path, device=device, intra_op_threads=threads, verify_golden=False)

    def run(image: UInt8Array) -> GoldenFrame:
        outputs = model.run(image[None])
        return GoldenFrame(image, outputs.cells(0), outputs.rows(0))

    return run


def of_session(path: Path, *, optimised: bool = True, **entries: str) -> Run:
    """Return a function that runs a network input in a session with some settings."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]

    def run(image: UInt8Array) -> GoldenFrame:
        outputs = {name: rows[0] for name, rows in zip(names, session.run(names, {"images": image[None]}), strict=True)}
        boxes = [outputs.get(name) for name in ("boxes", "scores", "labels")]
        return GoldenFrame(image, outputs.get("class_map"), None if boxes[0] is None else Detections(*boxes))

    return run


def network_inputs(path: Path, frames: Path | None) -> dict[str, list[UInt8Array]]:
    """Return the golden frames of a file, and the images of a folder fitted into its input."""
    import cv2

    inputs = {"golden frames": [frame.image for frame in ContractFile.read(path).golden_frames()]}
    if frames is not None:
        perceiver = Perceiver(OnnxModel.open(path, device="cpu", verify_golden=False))
        files = sorted(file for file in frames.rglob("*") if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
        chosen = files[:: -(-len(files) // MOST_FRAMES) or 1]
        images = [cv2.imread(str(file)) for file in chosen]
        prepared = [perceiver.prepare(Frame("front", 0, "", np.asarray(image, np.uint8))) for image in images]
        inputs[str(frames)] = [frame.network_input for frame in prepared]
    return inputs


def main() -> None:
    """Print one row for each kind of arithmetic and each group of frames."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--model", type=Path, default=Path("models/student_int8.onnx"), help="quantised file")
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help=f"images; at most {MOST_FRAMES} are compared")
    add_device_option(parser, default="cpu")
    options = parser.parse_args()
    path, contract = options.model, ContractFile.read(options.model).contract
    kinds = {
        "two threads": of_node(path, "cpu", 2),
        f"device {options.device}": of_node(path, options.device, 0),
        "unsigned weights": of_session(path, x64quantprecision="1"),
        "signed weights": of_session(path, x64quantprecision="0"),
        "floats": of_session(path, optimised=False),
    }
    reference = of_node(path, "cpu", 1)
    print(f"{path} with ONNX Runtime {onnxruntime.__version__}; {int8_kernels().reason}; the worst of all frames:")
    for group, images in network_inputs(path, options.frames).items():
        expected = [reference(image) for image in images]
        for kind, run in kinds.items():
            worst = GoldenResult()
            for frame in expected:
                found = run(frame.image)
                known = frame.detections
                above = None if known is None else known.at_least(contract.score_threshold)
                compared = GoldenFrame(frame.image, frame.class_map, above)
                worst = worst.worse(compared.compare(found.class_map, found.detections, contract))
            print(f"  {group}, {len(images)} frames, {kind}: {worst.words(contract)}")


if __name__ == "__main__":
    main()
