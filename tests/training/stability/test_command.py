"""Test `python -m training stability` on the shipped student, on a rendered drive and on real files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT
from small_bag import write_small_bag

from ros_kd_perception.sample_drive import SampleDrive, default_cameras
from training.__main__ import main
from training.errors import DataError
from training.stability.image_flow import image_flow
from training.stability.real_frames import RealFrames

STUDENT = ROOT / "models" / "student.onnx"
DRIVE = ("--drives", "1", "--seconds", "0.5", "--rate", "5", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of a rendered drive as files, without labels, and at the end one of another street."""
    images = tmp_path_factory.mktemp("frames") / "images"
    images.mkdir()
    drive, other = (SampleDrive(seed, "day", 2.0, default_cameras(320, 180)) for seed in (7001, 7005))
    for number, time_s in enumerate((1.0, 1.05, 1.1)):
        cv2.imwrite(str(images / f"{number}.png"), drive.render("front", time_s).image_bgr)
    cv2.imwrite(str(images / "3.png"), other.render("front", 0.0).image_bgr)
    return images.parent


@pytest.fixture(scope="module")
def measured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("measured")
    words = ["stability", str(STUDENT), *DRIVE, "--frames", str(folder), "-o", str(output)]
    assert main([*words, "--at-most", "flicker=0.9"]) == 0
    return output


def test_figures_of_drives_and_of_real_frames(measured: Path, folder: Path) -> None:
    content = json.loads((measured / "stability.json").read_text())
    drives = content["sources"]["rendered drives"]
    assert (drives["frames"], drives["pairs"], drives["rate_hz"]) == (3, 2, 5.0)
    assert 0 < drives["truth"]["flicker"] < 0.01
    real = content["sources"][str(folder)]
    assert (real["frames"], real["pairs"]) == (4, 2)  # the last frame does not follow the one before
    assert "estimated from the images" in real["motion"]
    network = content["networks"]["student.onnx"]
    for source in network.values():
        assert 0 < source["values"]["flicker_beyond_edges"] < source["values"]["flicker"] < 0.5
        assert len(source["course"]) == 2
    values = network["rendered drives"]["values"]
    assert values["flicker"] > values["flicker_of_labels_in_cells"] > drives["truth"]["flicker"]
    assert values["flicker_beyond_edges"] > values["flicker_of_labels_in_cells_beyond_edges"]
    assert 0 <= values["lost_objects"] <= 1
    assert "lost_objects" not in network[str(folder)]["values"]


def test_everything_is_written(measured: Path) -> None:
    said = (measured / "stability.txt").read_text()
    assert "| pixels that flip, % |" in said
    assert "motion exact, from the renderer" in said
    assert cv2.imread(str(measured / "course.png")) is not None
    pictures = sorted((measured / "worst").iterdir())
    assert len(pictures) == 2
    assert all(cv2.imread(str(path)) is not None for path in pictures)


def test_a_limit_that_is_broken_is_exit_status_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["stability", str(STUDENT), "--frames", str(folder), "-o", str(tmp_path), "--limit", "2", "--threads", "1"]
    assert main([*words, "--at-most", "flicker=0"]) == 1
    assert "LIMIT BROKEN: student.onnx on" in capsys.readouterr().err
    assert main([*words, "--at-most", "never_found=0.1"]) == 2
    assert "student.onnx has no figure never_found on these frames; it has boxes" in capsys.readouterr().err


def test_frames_that_do_not_follow_each_other_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 256, (90, 160, 3), np.uint8))
    words = ["stability", str(STUDENT), "--frames", str(tmp_path), "-o", str(tmp_path / "out"), "--threads", "1"]
    assert main(words) == 2
    assert "found no two neighbours that show the same scene" in capsys.readouterr().err


def test_one_frame_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((90, 160, 3), np.uint8))
    with pytest.raises(DataError, match="at least two frames"):
        RealFrames(tmp_path).check()


def textured(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (260, 700, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3.0))


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (6, -3), (-9, 4)])
def test_the_estimated_motion_of_a_shift_is_the_shift(dx: int, dy: int) -> None:
    whole = textured()
    earlier, later = whole[20:200, 20:660], whole[20 + dy : 200 + dy, 20 + dx : 660 + dx]
    flow = image_flow(np.ascontiguousarray(earlier), np.ascontiguousarray(later))
    assert flow is not None
    assert flow.visible.mean() > 0.8
    columns, rows = np.meshgrid(np.arange(640), np.arange(180))
    error = np.linalg.norm(flow.places - np.stack([columns + dx, rows + dy], axis=-1), axis=-1)
    assert np.percentile(error[flow.visible], 95) < 0.5


def test_motion_is_given_at_the_size_of_the_frame() -> None:
    whole = cv2.resize(textured(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    flow = image_flow(np.ascontiguousarray(whole[40:400, 40:1320]), np.ascontiguousarray(whole[40:400, 48:1328]))
    assert flow is not None
    assert flow.visible.shape == (360, 1280)
    shift = flow.places[..., 0] - np.arange(1280)
    assert np.median(shift[flow.visible]) == pytest.approx(8.0, abs=0.3)


def test_frames_of_different_sizes_do_not_follow_each_other() -> None:
    assert image_flow(textured()[:100], textured()[:90]) is None
    assert image_flow(textured(1)[:180, :320], textured(2)[:180, :320]) is None


def test_a_bag_gives_the_frames_of_its_topic(tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "small.mcap", frames=3)
    with pytest.raises(DataError, match="--topic with one of /front/image_raw, /left/image_raw"):
        RealFrames(bag).check()
    source = RealFrames(bag, "/left/image_raw", limit=2)
    source.check()
    frames = list(source)
    assert len(source) == len(frames) == 2
    assert frames[0].flow is None
    assert frames[1].image_bgr.shape == (96, 160, 3)
    assert [frame.name for frame in frames] == ["left 0", "left 1"]
    with pytest.raises(DataError, match="nowhere"):
        RealFrames(bag, "/nowhere/image_raw").check()


def test_two_networks_get_intervals_and_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(STUDENT), str(STUDENT.with_name("student_int8.onnx"))]
    drive = ["--drives", "1", "--seconds", "6", "--rate", "1", "--threads", "1"]
    assert main(["stability", *models, *drive, "-o", str(tmp_path)]) == 0

    content = json.loads((tmp_path / "stability.json").read_text())["networks"]
    first, second = (content[name]["rendered drives"] for name in ("student.onnx", "student_int8.onnx"))
    low, high = first["intervals"]["flicker"]
    assert low < first["values"]["flicker"] < high
    assert first["differences"] == {}
    apart = second["differences"]["flicker"]
    assert apart["value"] == pytest.approx(second["values"]["flicker"] - first["values"]["flicker"])
    assert apart["low"] <= apart["value"] <= apart["high"]
    said = capsys.readouterr().out
    assert "student_int8.onnx against student.onnx: " in said
    assert apart["verdict"] in said
