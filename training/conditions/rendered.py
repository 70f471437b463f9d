"""Conditions that the renderer makes: other light, weather and mounting of the camera, with exact labels.

The renderer knows the distance of every pixel and can move the camera, which no change of a real frame can. Each
setting shows the same streets at the same times as the clean one, so that frames are compared in pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_kd_perception.sample_drive.training_samples import SampleSetting, write_sample_sets
from ros_kd_perception.system.output_paths import make_folder
from training.conditions.condition import CHANGES_VERSION, LIGHT, VIEWPOINT, WEATHER, Condition
from training.conditions.weather import CONTRAST_LEFT
from training.data.readers.rendered import RenderedSource

SIZE_PX = (640, 360)
CLEAN = SampleSetting()
_PROCESSES = 2  # that render
FORWARD_AZIMUTH_RAD = 0.0  # streets begin in the direction of the world's x axis

# The sky and the light of a clear day, by the elevation of the sun in degrees: light of the sun and of the sky, colours
# BGR of zenith and horizon, tint of the light BGR, share of lit windows, noise. Chosen by eye.
_DAY_COURSE: dict[float, dict[str, Any]] = {
    20.0: {"light": (0.50, 0.60), "zenith": (215, 160, 110), "horizon": (225, 228, 225), "tint": (0.97, 1, 1.03)},
    7.0: {"light": (0.42, 0.45), "zenith": (185, 148, 118), "horizon": (150, 190, 232), "tint": (0.90, 1, 1.09)},
    0.0: {"light": (0.05, 0.36), "zenith": (130, 104, 92), "horizon": (125, 145, 195), "tint": (1.02, 0.98, 1.0)},
    -5.0: {"light": (0.0, 0.19), "zenith": (72, 52, 42), "horizon": (92, 78, 84), "tint": (1.10, 0.98, 0.93)},
    -10.0: {"light": (0.0, 0.11), "zenith": (30, 21, 17), "horizon": (46, 38, 38), "tint": (1.06, 0.98, 0.96)},
}


@dataclass(frozen=True)
class RenderedCondition(Condition):
    """A condition that is rendered.

    Attributes:
        setting: Returns the setting of the renderer for a value.
    """

    setting: Callable[[float], SampleSetting]


def rendered_source(folder: Path, setting: SampleSetting, count: int, seed: int) -> RenderedSource:
    """Return frames of a setting: those that are there, or new ones, which stay there.

    Args:
        folder: Folder of the frames of all settings.
        setting: Setting of the renderer.
        count: Number of frames.
        seed: Base seed of the streets.

    Raises:
        OSError: The frames cannot be written.
    """
    render_settings(folder, [setting], count, seed)
    return RenderedSource(kind="rendered", folder=_path(folder, setting, count, seed))


def render_settings(folder: Path, settings: Iterable[SampleSetting], count: int, seed: int) -> None:
    """Render the frames of settings that are not there yet.

    Worker processes start once for all of them: to start them costs more than to render a few frames.

    Args:
        folder: Folder of the frames of all settings.
        settings: Settings of the renderer.
        count: Number of frames of each setting.
        seed: Base seed of the streets.

    Raises:
        OSError: The frames cannot be written.
    """
    paths = {_path(folder, setting, count, seed): setting for setting in settings}
    missing = {path: setting for path, setting in paths.items() if not path.is_dir()}
    if missing:
        make_folder(folder)
        write_sample_sets(missing, count, SIZE_PX, seed, _PROCESSES)


def all_settings(conditions: Iterable[Condition], severities: Sequence[int]) -> list[SampleSetting]:
    """Return the settings of those conditions that are rendered, with the clean one; none without such conditions."""
    rendered = [each for each in conditions if isinstance(each, RenderedCondition)]
    changed = [each.setting(each.value(severity)) for each in rendered for severity in severities]
    return [CLEAN, *changed] if rendered else []


def _path(folder: Path, setting: SampleSetting, count: int, seed: int) -> Path:
    what = repr((CHANGES_VERSION, setting, count, seed, SIZE_PX))
    return folder / hashlib.sha256(what.encode()).hexdigest()[:16]


def _time_of_day(elevation: float) -> SampleSetting:
    found = _DAY_COURSE[elevation]
    sun, sky = found["light"]
    night = elevation < 0
    cloud = tuple(0.5 * (a + b) for a, b in zip(found["zenith"], found["horizon"], strict=True))
    return SampleSetting(
        "day",
        {
            "sun_elevation_rad": float(np.radians(max(elevation, 2.0))),
            "sun_gain": sun,
            "sky_gain": sky,
            "zenith_bgr": found["zenith"],
            "horizon_bgr": found["horizon"],
            "cloud_bgr": cloud,
            "cloud_share": 0.35,
            "tint_bgr": found["tint"],
            "exposure": 1.0,
            "lit_windows": 0.35 if night else 0.0,
            "noise_sigma": 2.0 + (4.0 if night else 0.0),
        },
    )


def _low_sun(glare: float) -> SampleSetting:
    return SampleSetting("low_sun", {"sun_azimuth_rad": FORWARD_AZIMUTH_RAD, "sun_elevation_rad": 0.16, "glare": glare})


def _fog(visibility_m: float) -> SampleSetting:
    return SampleSetting("fog", {"haze_per_m": CONTRAST_LEFT / visibility_m})


def _rain(amount: float) -> SampleSetting:
    wet = min(1.0, 0.4 + 0.3 * amount)
    return SampleSetting("rain", {"rain": amount, "wetness": wet, "haze_per_m": 0.003 + 0.008 * amount})


def _pitch(degrees: float) -> SampleSetting:
    return SampleSetting(pitch_rad=float(np.radians(degrees)))


def _roll(degrees: float) -> SampleSetting:
    return SampleSetting(roll_rad=float(np.radians(degrees)))


def _height(metres: float) -> SampleSetting:
    return SampleSetting(height_m=metres)


def _focus(factor: float) -> SampleSetting:
    return SampleSetting(focal_factor=factor)


_RENDERER = "ros_kd_perception/sample_drive: exact distances, masks and boxes"

RENDERED_CONDITIONS: tuple[RenderedCondition, ...] = (
    RenderedCondition(
        "rendered_fog",
        WEATHER,
        "rendered: fog, thicker with distance",
        "visibility in metres",
        (500.0, 220.0, 110.0, 55.0, 28.0),
        f"{_RENDERER}; Koschmieder's law",
        _fog,
    ),
    RenderedCondition(
        "rendered_rain",
        WEATHER,
        "rendered: rain on a wet road",
        "amount of streaks and drops; 1 is the most of a sample drive",
        (0.4, 0.8, 1.4, 2.2, 3.2),
        _RENDERER,
        _rain,
    ),
    RenderedCondition(
        "rendered_time_of_day",
        LIGHT,
        "rendered: from the afternoon to the night",
        "elevation of the sun in degrees",
        (20.0, 7.0, 0.0, -5.0, -10.0),
        _RENDERER,
        _time_of_day,
    ),
    RenderedCondition(
        "rendered_low_sun",
        LIGHT,
        "rendered: a low sun ahead",
        "glare; 1 is the most of a sample drive",
        (0.4, 0.9, 1.5, 2.2, 3.0),
        _RENDERER,
        _low_sun,
    ),
    RenderedCondition(
        "rendered_pitch",
        VIEWPOINT,
        "rendered: the camera looks down",
        "degrees",
        (2.0, 5.0, 9.0, 14.0, 20.0),
        _RENDERER,
        _pitch,
    ),
    RenderedCondition(
        "rendered_roll",
        VIEWPOINT,
        "rendered: the camera leans to a side",
        "degrees",
        (2.0, 5.0, 10.0, 17.0, 25.0),
        _RENDERER,
        _roll,
    ),
    RenderedCondition(
        "rendered_height",
        VIEWPOINT,
        "rendered: the camera is mounted higher, up to the roof of a lorry",
        "metres above that of a car",
        (0.3, 0.7, 1.2, 1.9, 2.8),
        _RENDERER,
        _height,
    ),
    RenderedCondition(
        "rendered_longer_focus",
        VIEWPOINT,
        "rendered: a narrower view",
        "factor on the focal length",
        (1.15, 1.35, 1.7, 2.2, 3.0),
        _RENDERER,
        _focus,
    ),
    RenderedCondition(
        "rendered_shorter_focus",
        VIEWPOINT,
        "rendered: a wider view",
        "factor on the focal length",
        (0.85, 0.7, 0.55, 0.42, 0.3),
        _RENDERER,
        _focus,
    ),
)
