"""Write rendered frames as a folder of training samples: images, masks and boxes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ros_kd_perception.sample_drive.camera import CameraModel, random_camera
from ros_kd_perception.sample_drive.drive import RenderedView, SampleDrive, check_seed
from ros_kd_perception.sample_drive.render_pool import check_processes, render_pool
from ros_kd_perception.sample_drive.street.weather import WEATHERS, Weather
from ros_kd_perception.system.output_paths import check_writable, make_folder

FRAMES_PER_SEED = 4
_WEATHER_SHARES = (0.5, 0.13, 0.1, 0.12, 0.15)
_DURATION_S = 6.0


@dataclass(frozen=True)
class SampleSetting:
    """One weather and one change of the mounting for all samples. Streets, times and all else follow from the seed.

    Samples of two settings with the same base seed show the same streets, so that only the setting differs.

    Attributes:
        weather: One of WEATHERS.
        changes: Fields of the `Weather` that the seed has drawn, with other values.
        pitch_rad: Added to the pitch of each camera, positive nose down.
        roll_rad: Added to the roll of each camera, positive right side down.
        height_m: Added to the height of each camera.
        focal_factor: Multiplies the focal length of each camera.
    """

    weather: str = "day"
    changes: Mapping[str, Any] = field(default_factory=dict)
    pitch_rad: float = 0.0
    roll_rad: float = 0.0
    height_m: float = 0.0
    focal_factor: float = 1.0

    def of_weather(self, drawn: Weather) -> Weather:
        """Return the weather of the samples."""
        return replace(drawn, **self.changes)

    def of_camera(self, drawn: CameraModel) -> CameraModel:
        """Return a camera of the samples."""
        return replace(
            drawn,
            pitch_rad=drawn.pitch_rad + self.pitch_rad,
            roll_rad=drawn.roll_rad + self.roll_rad,
            height_m=drawn.height_m + self.height_m,
            focal_px=drawn.focal_px * self.focal_factor,
        )


@dataclass(frozen=True)
class SampleRequest:
    """The samples of one street, numbered from `first` on."""

    folder: Path
    base_seed: int
    first: int
    count: int
    width_px: int
    height_px: int
    setting: SampleSetting | None = None


def write_samples(
    folder: Path,
    count: int,
    size_px: tuple[int, int],
    base_seed: int = 0,
    processes: int = 2,
    setting: SampleSetting | None = None,
) -> None:
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
        setting: Weather and mounting of all samples; None to draw both for each street and sample.

    Raises:
        FileExistsError: The folder exists.
        ValueError: A number is out of range, or the folder would be created in the root.
    """
    write_sample_sets({folder: setting}, count, size_px, base_seed, processes)


def write_sample_sets(
    settings: Mapping[Path, SampleSetting | None],
    count: int,
    size_px: tuple[int, int],
    base_seed: int = 0,
    processes: int = 2,
) -> None:
    """Render several sets of samples, with worker processes that start once.

    A set gets its name when it is complete, so that after an interrupt only the others are left to do.

    Args:
        settings: Setting of each set, by its folder; see `write_samples`.
        count: Number of samples of each set, at least 1.
        size_px: Width and height.
        base_seed: Different base seeds give different streets; all sets show the same ones.
        processes: Number of worker processes, at least 1.

    Raises:
        FileExistsError: A folder exists.
        ValueError: A number is out of range, or a folder would be created in the root.
    """
    if count < 1:
        raise ValueError(f"expected at least one sample, got {count}")
    check_processes(processes)
    check_seed(base_seed)
    for folder in settings:
        if folder.exists():
            raise FileExistsError(
                f"expected a free name for the samples, {folder} exists; name a new folder, or remove it first"
            )
        check_writable(folder)
    sets = [_SampleSet(folder) for folder in settings]
    requests = [
        SampleRequest(each.part, base_seed, first, min(FRAMES_PER_SEED, count - first), *size_px, settings[each.folder])
        for each in sets
        for first in range(0, count, FRAMES_PER_SEED)
    ]
    of_part = {each.part: each for each in sets}
    progress = tqdm(total=count * len(sets), unit="sample", desc="rendering samples", disable=None)
    try:
        for each in sets:
            each.begin()
        with render_pool(processes) as pool, progress:
            for part, made in pool.imap_unordered(_render_into, requests):
                of_part[part].add(made, count)
                progress.update(len(made))
    finally:
        for each in sets:
            shutil.rmtree(each.part, ignore_errors=True)


class _SampleSet:
    """The folder of a set while its streets are rendered, in any order.

    Attributes:
        folder: Its path when it is complete.
        part: Its path until then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.part = folder, folder.with_name(f".{folder.name}.{os.getpid()}.part")
        self._boxes: dict[str, Any] = {}

    def begin(self) -> None:
        """Make the folders."""
        for name in ("images", "masks"):
            make_folder(self.part / name)

    def add(self, boxes: Mapping[str, Any], count: int) -> None:
        """Add the entries of a street. With all `count` samples, write boxes.json and give the folder its name."""
        self._boxes.update(boxes)
        if len(self._boxes) == count:
            text = json.dumps(self._boxes, sort_keys=True, allow_nan=False) + "\n"
            _write_bytes(self.part / "boxes.json", text.encode())
            self.part.rename(self.folder)


def _render_into(request: SampleRequest) -> tuple[Path, dict[str, Any]]:
    return request.folder, render_street(request)


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
    setting = request.setting
    if setting is not None:
        weather, cameras = setting.weather, [setting.of_camera(camera) for camera in cameras]
    drive = SampleDrive(seed, weather, _DURATION_S, cameras, None if setting is None else setting.of_weather)
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
    jpeg = cv2.imencode(".jpg", view.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    _write_bytes(folder / "images" / f"{stem}.jpg", jpeg.tobytes())
    _write_bytes(folder / "masks" / f"{stem}.png", cv2.imencode(".png", view.class_map)[1].tobytes())


def _write_bytes(path: Path, content: bytes) -> None:
    """Write a file; unlike that of Python, an error about a full disk names it."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
