"""Test rendered conditions: the same streets in another setting, and samples that are unchanged without one."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_kd_perception.sample_drive import training_samples
from ros_kd_perception.sample_drive.render_pool import render_pool
from ros_kd_perception.sample_drive.training_samples import SampleRequest, SampleSetting, render_street
from training.conditions.condition import SEVERITIES
from training.conditions.rendered import CLEAN, RENDERED_CONDITIONS, all_settings, render_settings, rendered_source

BY_NAME = {condition.name: condition for condition in RENDERED_CONDITIONS}


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("settings")
    settings: dict[str, SampleSetting | None] = {"clean": CLEAN, "drawn": None}
    settings |= {name: condition.setting(condition.value(4)) for name, condition in BY_NAME.items()}
    found = {}
    for name, setting in settings.items():
        found[name] = folder / name
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True)
        entries = render_street(SampleRequest(folder / name, 3, 0, 2, 160, 96, setting))
        (folder / name / "boxes.json").write_text(json.dumps(entries))
    return found


def masks(folder: Path) -> np.ndarray:
    return np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks").iterdir())])


def images(folder: Path) -> np.ndarray:
    return np.stack([cv2.imread(str(path)) for path in sorted((folder / "images").iterdir())]).astype(float)


@pytest.mark.parametrize("name", [name for name, each in BY_NAME.items() if each.family != "viewpoint"])
def test_weather_and_light_leave_the_street_as_it_is(name: str, write: dict[str, Path]) -> None:
    assert np.array_equal(masks(write[name]), masks(write["clean"]))
    entries = [json.loads((write[each] / "boxes.json").read_text()) for each in (name, "clean")]
    boxes = [{stem: entry["boxes_xyxy"] for stem, entry in each.items()} for each in entries]
    assert boxes[0] == boxes[1]
    assert np.abs(images(write[name]) - images(write["clean"])).mean() > 5


@pytest.mark.parametrize("name", [name for name, each in BY_NAME.items() if each.family == "viewpoint"])
def test_another_view_has_other_masks(name: str, write: dict[str, Path]) -> None:
    assert (masks(write[name]) != masks(write["clean"])).mean() > 0.05


def test_a_night_is_darker_than_a_day(write: dict[str, Path]) -> None:
    assert images(write["rendered_time_of_day"]).mean() < 0.5 * images(write["clean"]).mean()


def test_samples_without_a_setting_are_those_of_before(write: dict[str, Path]) -> None:
    """Compare with the mean colours of the renderer from before it knew settings."""
    before = [[113.51, 108.87, 107.89], [117.54, 114.20, 116.20]]
    assert images(write["drawn"]).mean(axis=(1, 2)) == pytest.approx(np.array(before), abs=0.05)


def test_frames_of_a_setting_are_rendered_once(tmp_path: Path) -> None:
    first = rendered_source(tmp_path, CLEAN, 1, 0).folder
    stamp = (first / "boxes.json").stat().st_mtime_ns
    assert rendered_source(tmp_path, CLEAN, 1, 0).folder == first
    assert (first / "boxes.json").stat().st_mtime_ns == stamp


def test_all_settings_are_rendered_by_one_pool_and_show_what_one_by_one_shows(
    tmp_path: Path, write: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(training_samples, "render_pool", lambda *words: started.append(words) or render_pool(*words))
    monkeypatch.setattr("training.conditions.rendered.SIZE_PX", (160, 96))
    conditions = [BY_NAME["rendered_fog"], BY_NAME["rendered_roll"]]
    settings = all_settings(conditions, [4])

    render_settings(tmp_path, settings, 2, 3)
    render_settings(tmp_path, settings, 2, 3)

    assert len(started) == 1, "processes start once, and not at all for what is there"
    for name, setting in zip(("clean", "rendered_fog", "rendered_roll"), settings, strict=True):
        folder = rendered_source(tmp_path, setting, 2, 3).folder
        for part in ("images", "masks"):
            for path in (write[name] / part).iterdir():
                assert (folder / part / path.name).read_bytes() == path.read_bytes(), (name, path.name)
        assert json.loads((folder / "boxes.json").read_text()) == json.loads((write[name] / "boxes.json").read_text())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_frames_of_other_settings_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.conditions.rendered.write_sample_sets", lambda sets, *_: [*map(Path.mkdir, sets)])
    asked = [(CLEAN, 1, 0), (CLEAN, 2, 0), (CLEAN, 1, 1), (BY_NAME["rendered_fog"].setting(50.0), 1, 0)]
    assert len({rendered_source(tmp_path, *each).folder for each in asked}) == 4


def test_each_severity_is_a_setting_of_its_own() -> None:
    for condition in RENDERED_CONDITIONS:
        settings = [repr(condition.setting(condition.value(severity))) for severity in SEVERITIES]
        assert len({repr(CLEAN), *settings}) == 6
