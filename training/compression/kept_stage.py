"""Keeps finished steps of a chain in their folders, so that a chain that was stopped goes on after them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.compression.stage import Stage
from training.whole_files import write_text

DONE = "done.json"


def key_of(settings: Mapping[str, Any], *inputs: Path | None) -> str:
    """Return the SHA-256 of settings and of the content of files; files that are None are left out."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False, default=str).encode())
    for path in inputs:
        if path is not None:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def kept_stage(folder: Path, key: str, make: Callable[[], Stage]) -> Stage:
    """Return the stage of a finished step, or make and keep it.

    Args:
        folder: Folder of the step.
        key: Digest of everything that the step depends on; see `key_of`.
        make: Does the step.
    """
    stage = _read(folder / DONE, key)
    if stage is None:
        # The note of other settings must not outlive their files, which an interrupted step leaves half replaced.
        (folder / DONE).unlink(missing_ok=True)
        stage = make()
        text = json.dumps({"key": key, "stage": asdict(stage)}, indent=1, allow_nan=False, default=str)
        write_text(folder / DONE, text + "\n")
    return stage


def _read(path: Path, key: str) -> Stage | None:
    """Return the kept stage; None if there is none, if it is of other settings, or if one of its files is gone."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = content["stage"]
        stage = Stage(
            kind=values["kind"],
            weights=Path(values["weights"]) if values["weights"] else None,
            file=Path(values["file"]),
            said=tuple(values["said"]),
            data_sha256=values["data_sha256"],
            tables=dict(values["tables"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    there = all(file is None or file.is_file() for file in (stage.weights, stage.file))
    return stage if content["key"] == key and there else None
