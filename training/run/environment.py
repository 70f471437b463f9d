"""Note with what a run was made: environment.json in its folder, an entry for each start."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from training.checkpoint import git_commit
from training.errors import DataError
from training.recipe import Recipe
from training.whole_files import write_text

FILE = "environment.json"
PACKAGES = (
    "torch",
    "lightning",
    "numpy",
    "opencv-python-headless",
    "torchvision",
    "transformers",
    "onnx",
    "onnxruntime",
)


def note_start(
    folder: Path, recipe: Recipe, data_sha256: str, devices: Sequence[str], resumed: Path | None, log_version: int
) -> None:
    """Add an entry to the file of a run.

    Args:
        folder: Folder of the run.
        recipe: Recipe of the run.
        data_sha256: Fingerprint of its sources.
        devices: Names of the devices that train.
        resumed: The checkpoint from which the run goes on; None for a new run.
        log_version: Number of the log in csv/ that this start writes.

    Raises:
        OSError: The file cannot be written.
    """
    starts = read_starts(folder) if resumed else []
    entry = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "resumed_from": resumed and resumed.name,
        "command": sys.argv[1:],
        "recipe_sha256": recipe.sha256,
        "data_sha256": data_sha256,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "devices": list(devices),
        "log_version": log_version,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    write_text(folder / FILE, json.dumps({"starts": [*starts, entry]}, indent=1, allow_nan=False) + "\n")


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run, the first start first; none if it has no such file.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise DataError(f"expected {path} to be JSON, got {error}; delete it") from None
    starts = content.get("starts") if isinstance(content, dict) else None
    if not isinstance(starts, list):
        raise DataError(f"expected starts in {path}, there are none; delete it")
    return starts


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""
