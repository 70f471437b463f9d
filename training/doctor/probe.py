"""Child process of the doctor: imports packages and runs devices, each of which may fail or end the process.

`python -m training.doctor.probe NAME...` runs the named probes in turn. It writes one line of JSON for each to the
standard output that it was started with: `[name, facts]`. What packages print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

IMPORT = "import "
Facts = dict[str, Any]


def import_module(name: str) -> Facts:
    """Import a module and return its version."""
    return {"version": str(getattr(importlib.import_module(name), "__version__", ""))}


def torch_devices() -> Facts:
    """Return the threads and GPUs that torch sees. A training step of a small convolution runs on each device."""
    import torch

    gpus: list[Facts] = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        gpus.append({"name": properties.name, "memory_bytes": total, "free_bytes": free, **_tried(f"cuda:{index}")})
    return {"threads": torch.get_num_threads(), "cuda_build": torch.version.cuda or "", "gpus": gpus, **_tried("cpu")}


def _tried(device: str) -> Facts:
    """Run one training step; return the error in one line, or an empty one."""
    import torch

    try:
        layer = torch.nn.Conv2d(3, 8, 3, padding=1).to(device)
        optimizer = torch.optim.AdamW(layer.parameters())
        loss = layer(torch.ones(2, 3, 32, 32, device=device)).square().mean()
        loss.backward()
        optimizer.step()
        return {"error": "" if torch.isfinite(layer.weight).all() else "a training step gives NaN or infinity"}
    except Exception as error:  # torch raises many types, for example for a GPU that its build does not know
        return {"error": one_line(error)}


def runtime_devices() -> Facts:
    """Return the providers of ONNX Runtime, and for CPU and CUDA what runs the shipped student, or why it does not."""
    from ros_kd_perception.model.execution_provider import CUDA, available_providers
    from ros_kd_perception.model.onnx_model import ModelError, OnnxModel
    from ros_kd_perception.system.shipped_files import SHIPPED_STUDENT, shipped_file

    providers = available_providers()
    devices: dict[str, Facts] = {}
    for device in ["cpu", *(["cuda"] if CUDA in providers else [])]:
        try:
            reports: list[Any] = []
            OnnxModel.open(shipped_file(SHIPPED_STUDENT), device=device, tell=reports.append)
            devices[device] = {"runs": reports[0].what_runs, "error": reports[0].fell_back}
        except ModelError as error:
            devices[device] = {"error": one_line(error)}
    return {"providers": providers, "devices": devices}


PROBES: dict[str, Callable[[], Facts]] = {"torch": torch_devices, "onnxruntime": runtime_devices}


def one_line(error: BaseException) -> str:
    """Return an error's class and the start of its text in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def run(name: str) -> Facts:
    """Run one probe; any error is a fact."""
    try:
        return import_module(name.removeprefix(IMPORT)) if name.startswith(IMPORT) else PROBES[name]()
    except ModuleNotFoundError as error:
        if name == f"{IMPORT}{error.name}":
            return {"missing": True}
        return {"error": one_line(error)}
    except BaseException as error:  # a broken package may even call sys.exit
        return {"error": one_line(error)}


def main() -> None:
    """Run the probes that the arguments name."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in sys.argv[1:]:
        print(json.dumps([name, run(name)], allow_nan=False), file=results, flush=True)


if __name__ == "__main__":
    main()
