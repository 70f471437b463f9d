"""What `gpu_report.py` asks for in a process of its own: open a network on a device, or write one in half precision.

An execution provider may take minutes to build an engine, or end its process. In a process of its own, neither ends the
report. Results go to a file, errors in one sentence to standard error.

Usage: gpu_networks.py open MODEL.onnx DEVICE PRECISION OUT.json
       gpu_networks.py tiny OUT.onnx
       gpu_networks.py half PARENT.onnx OUT.onnx
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from device_option import add_device_option  # noqa: F401  # puts this checkout on the path

BATCHES = (1, 8)
REPEATS = 50


def main() -> int:
    """Do what the arguments say."""
    job, *words = sys.argv[1:]
    try:
        if job == "open":
            model, device, precision, output = words
            found = opened(Path(model), device, precision)
            Path(output).write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
        elif job == "tiny":
            write_tiny(Path(words[0]))
        else:
            write_half(*map(Path, words))
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def opened(path: Path, device: str, precision: str) -> dict[str, Any]:
    """Open a network, verify its golden frames on the device, and time its runs.

    Returns:
        `provider` (what runs), `fell_back` (whether that is not the device asked for), `nodes` (by provider),
        `cuda_graph`, `opened_s` and `run_ms` (p50 by batch size).
    """
    from ros_kd_perception.model.onnx_model import OnnxModel

    began_s = time.monotonic()
    model = OnnxModel.open(path, device=device, precision=precision, max_batch=max(BATCHES), tell=lambda report: None)
    opened_s = time.monotonic() - began_s
    report = model.provider
    return {
        "model": path.name,
        "device": device,
        "precision": model.contract.precision if precision == "auto" else precision,
        "provider": report.what_runs,
        "fell_back": bool(report.fell_back),
        "nodes": report.placement(),
        "cuda_graph": report.cuda_graph,
        "opened_s": round(opened_s, 2),
        "run_ms": {str(batch): run_ms(model, batch) for batch in BATCHES if batch <= model.max_batch},
    }


def run_ms(model: Any, batch: int) -> float:
    """Return the median duration of a run of a batch, milliseconds."""
    size = model.contract.input
    images = np.random.default_rng(0).integers(0, 256, (batch, size.height, size.width, 3), dtype=np.uint8)
    durations_ms = []
    for _ in range(REPEATS):
        began_s = time.perf_counter()
        model.run(images)
        durations_ms.append(1e3 * (time.perf_counter() - began_s))
    return round(float(np.median(durations_ms)), 3)


def write_tiny(output: Path) -> None:
    """Write the network of `throughput.py`, whose run takes about 1 ms on a CPU."""
    from throughput import write_tiny_network

    write_tiny_network(output)


def write_half(parent: Path, output: Path) -> None:
    """Write a file in half precision, as `python -m training compress` does. Needs the packages of training."""
    from training.quantization.quantise_file import quantise_file
    from training.quantization.settings import QuantiseSettings

    quantise_file(parent, QuantiseSettings(form="fp16"), output)


def machine() -> dict[str, Any]:
    """Return what the figures depend on: GPUs, driver, CPU, cores, shared memory, versions and providers."""
    from ros_kd_perception.model.engine_cache import tensorrt_version
    from ros_kd_perception.model.execution_provider import available_providers
    from ros_kd_perception.model.onnx_runtime import onnxruntime
    from ros_kd_perception.system.segment_room import NoSharedMemory, free_bytes

    try:
        shared_mib: int | None = free_bytes() >> 20
    except NoSharedMemory:
        shared_mib = None
    return {
        "gpus": gpus(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "shared_memory_mib": shared_mib,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "providers": available_providers(),
        "tensorrt": tensorrt_version(),
    }


def gpus() -> list[str]:
    """Return name, driver and memory of each GPU."""
    from ros_kd_perception.model.engine_cache import gpu_identity

    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        identity = gpu_identity()
        return [] if identity == "unknown" else [identity]
    return [line.strip() for line in found.splitlines() if line.strip()]


def cpu_model() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
