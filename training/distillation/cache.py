"""A folder of what teachers said, so that they see each view of a frame only once."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros_kd_perception.system.output_paths import check_writable, make_folder
from training.data.batch import Batch
from training.errors import DataError
from training.networks.heads import DetectionOutputs
from training.networks.student import StudentFeatures, StudentOutputs
from training.teachers.seen import Boxes
from training.teachers.taught import Taught, TaughtBoxes, TaughtPixels

MAX_FILE_BYTES = 1 << 30
_FEATURES = tuple(item.name for item in fields(StudentFeatures))
_BRANCHES = ("one_to_one", "one_to_many")
_BOX_PARTS = tuple(item.name for item in fields(Boxes))

Arrays = dict[str, NDArray[Any]]


class OutputCache:
    """Keeps the teacher's outputs of each view in a `.npz` file, in half precision.

    Each combination of teacher and data has a folder of its own. New outputs go through half precision too, so they
    equal those that are read from a file.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Choose the folder of the files.

        Args:
            folder: Folder of all caches.
            key: Digest of everything that the outputs depend on; its first letters name the folder of this cache.

        Raises:
            OutputPathError: Files cannot be written there.
        """
        self.folder = folder / key[:16]
        check_writable(self.folder)

    def __len__(self) -> int:
        """Return the number of views whose outputs are kept."""
        return sum(1 for _ in self.folder.glob("[!.]*.npz"))

    def outputs(self, batch: Batch, ask: Callable[[Tensor], Taught]) -> Taught:
        """Return what the teachers say about a batch.

        Args:
            batch: Frames whose views have names.
            ask: Runs the teachers on images uint8 [N, 3, H, W]; called for the views that are not kept yet.

        Raises:
            DataError: An output cannot be written.
        """
        kept = [self._read(view) for view in batch.views]
        missing = [index for index, arrays in enumerate(kept) if arrays is None]
        if missing:
            new = arrays_of_frames(ask(batch.images[missing]))
            for index, arrays in zip(missing, new, strict=True):
                self._write(batch.views[index], arrays)
                kept[index] = arrays
        return taught_of_frames([arrays for arrays in kept if arrays is not None], batch.images.device)

    def _read(self, view: str) -> Arrays | None:
        path = self.folder / f"{view}.npz"
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                return None
            with np.load(path, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        except FileNotFoundError:
            return None
        except (
            OSError,
            ValueError,
            EOFError,
            zipfile.BadZipFile,
        ):  # damaged, and replaced later
            return None

    def _write(self, view: str, arrays: Arrays) -> None:
        path = self.folder / f"{view}.npz"
        temporary = path.with_name(f".{view}.{os.getpid()}.npz")
        try:
            make_folder(self.folder)
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes `allow_pickle` for one of the arrays
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(
                f"{path}: expected to write the teacher's outputs, got: {error.strerror or error}; make room, or leave "
                "distillation.cache out"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def arrays_of_frames(taught: Taught) -> list[Arrays]:
    """Return what teachers say about each frame, as arrays by name in the memory of the CPU.

    Logits and features are float16; boxes are float32, because half precision has no pixel beyond 2048.
    """
    stacked, each = to_arrays(taught.outputs) if taught.outputs else {}, {}
    if taught.pixels is not None:
        stacked["pixels/logits"] = half(taught.pixels.logits)
        each["pixels/known"] = taught.pixels.known.cpu().numpy()
        if taught.pixels.counts is not None:
            stacked["pixels/counts"] = taught.pixels.counts.cpu().numpy()
    if taught.boxes is not None:
        each["boxes/known"] = taught.boxes.known.cpu().numpy()
    frames = len(next(iter(stacked.values()))) if stacked else len(taught.boxes.objects) if taught.boxes else 0
    found = [{name: values[frame] for name, values in stacked.items()} | each for frame in range(frames)]
    if taught.boxes is not None:
        for arrays, objects, ignored in zip(found, taught.boxes.objects, taught.boxes.ignored, strict=True):
            for kind, boxes in (("objects", objects), ("ignored", ignored)):
                arrays |= {f"{kind}/{part}": getattr(boxes, part).cpu().numpy() for part in _BOX_PARTS}
    return found


def taught_of_frames(frames: Sequence[Arrays], device: torch.device) -> Taught:
    """Return what `arrays_of_frames` took apart, on `device`."""
    names = {name for name in frames[0] if name.partition("/")[0] not in ("pixels", "boxes", "objects", "ignored")}
    outputs = from_arrays({name: np.stack([arrays[name] for arrays in frames]) for name in names}, device)

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.stack([arrays[name] for arrays in frames])).to(device)

    def boxes_of(kind: str) -> list[Boxes]:
        each = [[torch.from_numpy(arrays[f"{kind}/{part}"]).to(device) for part in _BOX_PARTS] for arrays in frames]
        return [Boxes(*parts) for parts in each]

    pixels = boxes = None
    if "pixels/logits" in frames[0]:
        counts = tensor("pixels/counts") if "pixels/counts" in frames[0] else None
        pixels = TaughtPixels(tensor("pixels/logits").float(), counts, tensor("pixels/known")[0])
    if "boxes/known" in frames[0]:
        boxes = TaughtBoxes(boxes_of("objects"), boxes_of("ignored"), tensor("boxes/known")[0])
    return Taught(pixels, boxes, outputs if names else None)


def half(tensor: Tensor) -> NDArray[np.float16]:
    """Return a tensor in half precision, in the memory of the CPU.

    Half precision ends at 65504; a larger logit means nothing more. Contiguous, because sums in another order differ in
    the last bits, and a run could not be repeated exactly.
    """
    return tensor.float().clamp(-6e4, 6e4).half().cpu().contiguous().numpy()


def to_arrays(outputs: StudentOutputs) -> Arrays:
    """Return features and detection branches of a network by name, float16 [N, ...], in the memory of the CPU."""
    # Class logits are not among them: terms take those of `TaughtPixels`.
    maps = {f"features/{place}": getattr(outputs.features, place) for place in _FEATURES}
    tensors = {name: value for name, value in maps.items() if value is not None}
    for branch, detection in zip(_BRANCHES, (outputs.detection, outputs.detection_one_to_many), strict=True):
        if detection is not None:
            levels = zip(detection.strides, detection.class_logits, detection.distance_logits, strict=True)
            for stride, classes, distances in levels:
                tensors |= {f"{branch}/{stride}/class": classes, f"{branch}/{stride}/distance": distances}
    return {name: half(value) for name, value in tensors.items()}


def from_arrays(arrays: Arrays, device: torch.device) -> StudentOutputs:
    """Return the outputs that `to_arrays` took apart, float32 on `device`."""
    tensors = {name: torch.from_numpy(value).to(device).float() for name, value in arrays.items()}
    strides = tuple(sorted({int(name.split("/")[1]) for name in tensors if name.startswith("one_to_one/")}))

    def branch(name: str) -> DetectionOutputs | None:
        if not strides or f"{name}/{strides[0]}/class" not in tensors:
            return None
        return DetectionOutputs(
            class_logits=tuple(tensors[f"{name}/{stride}/class"] for stride in strides),
            distance_logits=tuple(tensors[f"{name}/{stride}/distance"] for stride in strides),
            strides=strides,
        )

    features = {place: tensors.get(f"features/{place}") for place in _FEATURES}
    return StudentOutputs(
        segmentation_logits=None,
        detection=branch("one_to_one"),
        detection_one_to_many=branch("one_to_many"),
        features=StudentFeatures(**features),  # type: ignore[arg-type]  # only that of the segmentation may be absent
    )
