"""Write rendered frames as a folder of training samples: images, masks and boxes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ros_kd_perception.sample_drive.camera import random_camera
from ros_kd_perception.sample_drive.drive import RenderedView, SampleDrive
from ros_kd_perception.sample_drive.render_pool import render_pool
from ros_kd_perception.sample_drive.street.weather import WEATHERS
from ros_kd_perception.system.output_paths import check_folder, make_folder

FRAMES_PER_SEED = 4
_WEATHER_SHARES = (0.5, 0.13, 0.1, 0.12, 0.15)
_DURATION_S = 6.0


@dataclass(frozen=True)
class SampleRequest:
    """The samples of one street, numbered from `first` on."""

    folder: Path
    base_seed: int
    first: int
    count: int
    width_px: int
    height_px: int


def write_samples(folder: Path, count: int, size_px: tuple[int, int], base_seed: int = 0, processes: int = 2) -> None:
    """Render `count` samples into a new folder.

    The folder has `images/NNNNNN.jpg`, `masks/NNNNNN.png` (class ids, 255 is void) and `boxes.json` ({stem:
    {boxes_xyxy, labels, seed, weather}}). Four samples in a row share a street; each has its own camera, time and
    street side. Sample N depends on the base seed and N only. The folder gets its name when it is complete.

    Args:
        folder: Path of the folder; it must not exist.
        count: Number of samples, at least 1.
        size_px: Width and height.
        base_seed: Different base seeds give different streets.
        processes: Number of worker processes, at least 1.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The count or the number of processes is below 1, or the folder would be created in the root.
    """
    if count < 1 or processes < 1:
        raise ValueError(f"expected at least one sample and one process, got {count} and {processes}")
    if folder.exists():
        raise FileExistsError(f"{folder} exists: name a new folder or remove it first")
    check_folder(folder)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    for name in ("images", "masks"):
        make_folder(part / name)
    requests = [
        SampleRequest(part, base_seed, first, min(FRAMES_PER_SEED, count - first), *size_px)
        for first in range(0, count, FRAMES_PER_SEED)
    ]
    try:
        boxes = _run(requests, count, processes)
        (part / "boxes.json").write_text(json.dumps(boxes, sort_keys=True, allow_nan=False) + "\n")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run(requests: list[SampleRequest], count: int, processes: int) -> dict[str, Any]:
    boxes: dict[str, Any] = {}
    progress = tqdm(total=count, unit="sample", desc="rendering samples", disable=None)
    with render_pool(processes) as pool, progress:
        for made in pool.imap_unordered(render_street, requests):
            boxes.update(made)
            progress.update(len(made))
    return boxes


def render_street(request: SampleRequest) -> dict[str, Any]:
    """Render and write the samples of one street; return their entries of boxes.json."""
    street = request.first // FRAMES_PER_SEED
    # Two base seeds never share a street: each has its own million of streets.
    seed = request.base_seed * 1_000_000 + street
    rng = np.random.default_rng([seed, 0xCA3E])
    weather = str(rng.choice(WEATHERS, p=_WEATHER_SHARES))
    cameras = [
        replace(random_camera(rng, request.width_px, request.height_px), name=f"sample_{index}")
        for index in range(FRAMES_PER_SEED)
    ]
    times_s = rng.uniform(0.0, _DURATION_S, FRAMES_PER_SEED)
    drive = SampleDrive(seed, weather, _DURATION_S, cameras)
    entries = {}
    for index in range(request.count):
        view = drive.render(cameras[index].name, float(times_s[index]))
        stem = f"{request.first + index:06d}"
        _write(request.folder, stem, view)
        entries[stem] = {
            "boxes_xyxy": view.boxes_xyxy.tolist(),
            "labels": view.labels.tolist(),
            "seed": seed,
            "weather": weather,
        }
    return entries


def _write(folder: Path, stem: str, view: RenderedView) -> None:
    image, mask = folder / "images" / f"{stem}.jpg", folder / "masks" / f"{stem}.png"
    done = cv2.imwrite(str(image), view.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not (done and cv2.imwrite(str(mask), view.class_map)):
        raise OSError(f"cannot write {image} and {mask}: is the disk full?")
