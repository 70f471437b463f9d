"""Measure whether zeros in the kernels of a student make it faster in ONNX Runtime.

    python benchmarks/sparsity.py --rounds 60

Files with zeros in the kernels of all convolutions run in turns with the file itself, in one process:

- `2:4`: of four weights in a row, the two smallest are zero, as sparse tensor cores of GPUs expect;
- `90 %`: the smallest nine tenths of the weights of each kernel are zero, wherever they are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from device_option import add_device_option  # also finds this checkout, not an installed package
from numpy.typing import NDArray
from onnx import numpy_helper

from ros_kd_perception.model.contract_file import GRAPH_SHA256_KEY
from ros_kd_perception.model.onnx_model import OnnxModel

Kernel = NDArray[np.float32]
WARM_UP = 3


def two_of_four(kernel: Kernel) -> Kernel:
    """Set the two smallest of each four weights along the input channels to zero."""
    rows = kernel.transpose(0, 2, 3, 1).copy()
    if rows.shape[-1] % 4:
        return kernel
    fours = rows.reshape(-1, 4)
    np.put_along_axis(fours, np.abs(fours).argsort(axis=1)[:, :2], 0.0, axis=1)
    return np.ascontiguousarray(fours.reshape(rows.shape).transpose(0, 3, 1, 2))


def nine_tenths(kernel: Kernel) -> Kernel:
    """Set the smallest nine tenths of the weights to zero."""
    return np.where(np.abs(kernel) < np.quantile(np.abs(kernel), 0.9), np.float32(0), kernel)


FORMS: dict[str, Callable[[Kernel], Kernel]] = {"2:4": two_of_four, "90 %": nine_tenths}


def write_with_zeros(path: Path, form: Callable[[Kernel], Kernel], output: Path) -> float:
    """Write a model with zeros in its kernels; return the share of their weights that are zero."""
    model = onnx.load(str(path))
    kernels = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    zeros = weights = 0
    for tensor in model.graph.initializer:
        if tensor.name in kernels:
            kernel = form(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(kernel, tensor.name))
            zeros, weights = zeros + int((kernel == 0).sum()), weights + kernel.size
    noted = {entry.key: entry.value for entry in model.metadata_props if entry.key != GRAPH_SHA256_KEY}
    onnx.helper.set_model_props(model, noted)
    onnx.save(model, str(output))
    return zeros / weights


def main() -> None:
    """Print the latency of each form as a share of that of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/student_plain.onnx"))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    add_device_option(parser, "cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shares, files = {}, {"the file": arguments.model}
        for number, (name, form) in enumerate(FORMS.items()):
            files[name] = Path(folder) / f"{number}.onnx"
            shares[name] = write_with_zeros(arguments.model, form, files[name])
        models = {
            name: OnnxModel.open(path, device=arguments.device, intra_op_threads=arguments.threads, verify_golden=False)
            for name, path in files.items()
        }
    size = models["the file"].contract.input
    image = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(WARM_UP + arguments.rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model.run(image)
            times[name].append(time.perf_counter() - start)
    own = np.array(times.pop("the file")[WARM_UP:])
    print(f"{arguments.model}: {1e3 * np.median(own):.1f} ms")
    for name, found in times.items():
        ratio = np.median(np.array(found[WARM_UP:]) / own)
        print(f"{name}: {shares[name]:.0%} of the weights are zero, {ratio:.2f} of the latency")


if __name__ == "__main__":
    main()
