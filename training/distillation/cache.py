"""A folder of teacher outputs, so that a view of a frame is shown to the teacher once, whoever asks again."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros_kd_perception.system.output_paths import check_writable, make_folder
from training.data.batch import Batch
from training.errors import DataError
from training.networks.heads import DetectionOutputs
from training.networks.student import StudentFeatures, StudentOutputs

MAX_FILE_BYTES = 1 << 30
_FEATURES = tuple(item.name for item in fields(StudentFeatures))
_BRANCHES = ("one_to_one", "one_to_many")


class OutputCache:
    """One `.npz` file a view, in half precision, under a folder of its own for each teacher and data.

    What is read and what was just asked are the same numbers: both have been through half precision.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Keep outputs under `folder` / the first letters of `key`, a digest of all that the outputs depend on.

        Raises:
            OutputPathError: nothing can be written there.
        """
        self.folder = folder / key[:16]
        check_writable(self.folder)

    def __len__(self) -> int:
        """How many views are kept."""
        return sum(1 for _ in self.folder.glob("[!.]*.npz"))

    def outputs(self, batch: Batch, ask: Callable[[Tensor], StudentOutputs]) -> StudentOutputs:
        """The teacher's outputs of a batch, asked for the views that are not there yet.

        Raises:
            DataError: an output cannot be written.
        """
        kept = [self._read(view) for view in batch.views]
        missing = [index for index, arrays in enumerate(kept) if arrays is None]
        if missing:
            said = to_arrays(ask(batch.images[missing]))
            for position, index in enumerate(missing):
                arrays = {name: value[position] for name, value in said.items()}
                self._write(batch.views[index], arrays)
                kept[index] = arrays
        full = [arrays for arrays in kept if arrays is not None]
        stacked = {name: np.stack([arrays[name] for arrays in full]) for name in full[0]}
        return from_arrays(stacked, batch.images.device)

    def _read(self, view: str) -> dict[str, NDArray[np.float16]] | None:
        path = self.folder / f"{view}.npz"
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                return None
            with np.load(path, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # damaged: asked and written anew
            return None

    def _write(self, view: str, arrays: dict[str, NDArray[np.float16]]) -> None:
        path = self.folder / f"{view}.npz"
        temporary = path.with_name(f".{view}.{os.getpid()}.npz")
        try:
            make_folder(self.folder)
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes `allow_pickle` for one of them
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(
                f"{path}: the teacher's outputs cannot be kept ({error.strerror or error}); make room, or leave "
                "distillation.cache out"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def to_arrays(outputs: StudentOutputs) -> dict[str, NDArray[np.float16]]:
    """All tensors of a network's outputs by name, float16 [N, ...] in the CPU's memory."""
    tensors = {"logits": outputs.segmentation_logits}
    tensors |= {f"features/{place}": getattr(outputs.features, place) for place in _FEATURES}
    for branch, said in zip(_BRANCHES, (outputs.detection, outputs.detection_one_to_many), strict=True):
        if said is not None:
            for stride, classes, distances in zip(said.strides, said.class_logits, said.distance_logits, strict=True):
                tensors |= {f"{branch}/{stride}/class": classes, f"{branch}/{stride}/distance": distances}
    # Half precision ends at 65504: a logit beyond says nothing more. Contiguous, for sums over another order of the
    # same numbers differ in the last bits, and a run would not be repeated exactly.
    return {name: value.float().clamp(-6e4, 6e4).half().cpu().contiguous().numpy() for name, value in tensors.items()}


def from_arrays(arrays: dict[str, NDArray[np.float16]], device: torch.device) -> StudentOutputs:
    """The inverse of `to_arrays`, float32 on `device`."""
    tensors = {name: torch.from_numpy(value).to(device).float() for name, value in arrays.items()}
    strides = tuple(sorted({int(name.split("/")[1]) for name in tensors if name.startswith("one_to_one/")}))

    def branch(name: str) -> DetectionOutputs | None:
        if f"{name}/{strides[0]}/class" not in tensors:
            return None
        return DetectionOutputs(
            class_logits=tuple(tensors[f"{name}/{stride}/class"] for stride in strides),
            distance_logits=tuple(tensors[f"{name}/{stride}/distance"] for stride in strides),
            strides=strides,
        )

    one_to_one = branch("one_to_one")
    assert one_to_one is not None
    return StudentOutputs(
        segmentation_logits=tensors["logits"],
        detection=one_to_one,
        detection_one_to_many=branch("one_to_many"),
        features=StudentFeatures(*(tensors[f"features/{place}"] for place in _FEATURES)),
    )
