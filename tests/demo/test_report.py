"""Test the report of the demo and its parts: size of the pictures, place of the numbers, plots that are valid XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_bag import START_NS, image_message, moving_picture, write_small_bag
from tiny_student import CONTRACT, contract_with

from ros_kd_perception.bags.reader import BagError, BagReader, BagWriter, rosbags_message_types
from ros_kd_perception.demo.drive_moments import Drive, choose_highlights, choose_moments
from ros_kd_perception.demo.drive_pictures import PictureAlbum, draw_frames, write_overlay_video
from ros_kd_perception.demo.drive_summary import DrivenFrame, NodeReport, summarise
from ros_kd_perception.demo.recorded_results import read_recording
from ros_kd_perception.demo.report import render_report
from ros_kd_perception.drawing.mosaic import TILE_HEIGHT, TILE_WIDTH, Mosaic, left_to_right
from ros_kd_perception.drawing.video import VideoWriter
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.structures import Detections, Perception, Timing

SIZE = (90, 160)
CAMERAS = ("front", "left")


def perception(camera: str, stamp_ns: int, boxes: int = 2, size: tuple[int, int] = SIZE) -> Perception:
    """Make a result: left half road, right half sky; boxes of 32x18 px in a row, the last with a low score."""
    class_map = np.full(size, 3, np.uint8)
    class_map[:, size[1] // 2 :] = 0
    corners = np.array([[8 + 40 * i, 10, 40 + 40 * i, 28] for i in range(boxes)], np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.4, boxes, dtype=np.float32) if boxes > 1 else np.full(boxes, 0.9, np.float32)
    detections = Detections(corners, scores, np.arange(boxes, dtype=np.int32) % 4)
    no_timing = Timing(0.0, 0.0, 0.0)
    return Perception(camera, stamp_ns, "", class_map, detections, np.zeros((2, 3), np.float32), no_timing)


def write_results(path: Path, perceptions: list[Perception], *, without_boxes: int = 0) -> Path:
    builder = MessageBuilder(rosbags_message_types(), CONTRACT)
    with BagWriter(path) as writer:
        for index, result in enumerate(perceptions):
            base = f"/perception/{result.camera}"
            writer.write(f"{base}/segmentation", result.stamp_ns, builder.segmentation(result))
            if index >= without_boxes:
                writer.write(f"{base}/detections", result.stamp_ns, builder.detections(result))
    return path


def fit(_camera: str, size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // 2, size[1] // 2


@pytest.fixture(scope="module")
def drive_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap", CAMERAS, frames=8, rate_hz=4, size=SIZE)


@pytest.fixture(scope="module")
def drive(drive_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Drive:
    """Drive of sixteen frames: the sixth has no result, the eighth is slow, the tenth has many boxes."""
    stamps = [
        (camera, START_NS + k * 250_000_000 + i * 125_000_000) for k in range(8) for i, camera in enumerate(CAMERAS)
    ]
    seen = [perception(*key, boxes=3 if n == 9 else 1) for n, key in enumerate(stamps) if n != 5]
    path = write_results(tmp_path_factory.mktemp("results") / "results.mcap", seen)
    mosaic = Mosaic(CAMERAS)
    recording = read_recording(path, "/perception", CAMERAS, lambda camera, size: mosaic.tiles[camera].fit(*size))
    frames = [
        DrivenFrame(camera, stamp, stamp - START_NS, None if n == 5 else 200.0 if n == 7 else 20.0 + n)
        for n, (camera, stamp) in enumerate(stamps)
    ]
    summary = summarise(frames, NodeReport("CPUExecutionProvider", {"left": {"replaced": 1}}))
    facts = {"Frames": "small & <made up>"}
    return Drive("A drive", "sixteen frames", facts, summary, frames, recording.results, CONTRACT)


def test_results_are_shrunk_with_their_boxes(tmp_path: Path) -> None:
    path = write_results(tmp_path / "results.mcap", [perception("front", 5), perception("front", 6)], without_boxes=1)
    recording = read_recording(path, "/perception", ["front"], fit)
    assert list(recording.results) == [("front", 6)]  # a mask without boxes is not a complete result
    result = recording.results["front", 6]
    assert (result.mask.source_size, result.mask.picture_size) == (SIZE, (45, 80))
    np.testing.assert_allclose(result.detections.boxes_xyxy, [[8, 10, 40, 28], [48, 10, 80, 28]], atol=1e-5)
    np.testing.assert_allclose(result.detections.scores, [0.9, 0.4])
    assert result.mask.pixels_by_class[[3, 0]].tolist() == [45 * 40, 45 * 40]
    assert recording.last_diagnostics is None

    smaller = result.perception((15, 16), SIZE)
    np.testing.assert_array_equal(smaller.class_map, [[3] * 8 + [0] * 8] * 15)
    np.testing.assert_allclose(smaller.detections.boxes_xyxy[0], [0.8, 5 / 3, 4, 14 / 3], rtol=1e-5)


def test_results_of_one_task_are_complete_for_a_model_that_does_no_other(tmp_path: Path) -> None:
    results = [replace(perception("front", 5), detections=None), perception("front", 6)]
    builder = MessageBuilder(rosbags_message_types(), CONTRACT)
    with BagWriter(tmp_path / "results.mcap") as writer:
        writer.write("/perception/front/segmentation", 5, builder.segmentation(results[0]))
        writer.write("/perception/front/detections", 6, builder.detections(results[1]))

    masks, boxes = (
        read_recording(tmp_path / "results.mcap", "/perception", ["front"], fit, [task]).results
        for task in ("segmentation", "detection")
    )

    assert ([*masks], [*boxes]) == ([("front", 5)], [("front", 6)])
    assert masks["front", 5].perception((45, 80), SIZE).detections is None
    seen = boxes["front", 6].perception((45, 80), SIZE)
    assert seen.class_map is None
    np.testing.assert_allclose(seen.detections.boxes_xyxy, [[4, 5, 20, 14], [24, 5, 40, 14]], atol=1e-5)


@pytest.mark.parametrize("absent", ["class_map", "detections"])
def test_the_page_says_which_task_the_model_does_not_do(drive: Drive, absent: str) -> None:
    part, name = {"class_map": ("mask", "segmentation"), "detections": ("detections", "detection")}[absent]
    results = {key: replace(result, **{part: None}) for key, result in drive.results.items()}
    page = render_report(replace(drive, contract=contract_with(**{absent: None}), results=results), {}, b"", "")
    assert f"The model does no {name}." in page
    assert len(re.findall("<svg", page)) == 5


def test_a_recording_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.mcap"
    with BagWriter(path) as writer:
        writer.write("/perception/front/segmentation", 1, image_message("front", 1, moving_picture(SIZE, 0)))
    with pytest.raises(BagError, match="expected a mono8 class map of front, got bgr8 160x90"):
        read_recording(path, "/perception", ["front"], fit)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 9))
def test_pictures_fit_their_tiles(height: int, width: int, cameras: int) -> None:
    mosaic = Mosaic([f"camera_{index}" for index in range(cameras)])
    covered = np.zeros(mosaic.canvas_bgr.shape[:2], int)
    for tile in mosaic.tiles.values():
        fitted = tile.fit(height, width)
        assert 1 <= fitted[0] <= tile.height
        assert 1 <= fitted[1] <= tile.width
        covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert covered.max() == 1


def test_the_camera_that_looks_ahead_is_large() -> None:
    assert Mosaic(left_to_right(["front", "front_left", "front_right"])).ahead == "front"
    assert Mosaic(["front_left", "rear"]).ahead == "front_left"
    tiles = Mosaic(left_to_right(["front", "left", "right"])).tiles
    assert (tiles["front"].width, tiles["front"].height) == (2 * TILE_WIDTH, 2 * TILE_HEIGHT)
    assert (tiles["left"].left, tiles["right"].left) == (0, TILE_WIDTH)
    assert left_to_right(["front", "rear_right", "rear_left"]) == ["rear_left", "front", "rear_right"]


def test_video_and_album_show_the_overlay_of_each_frame_with_a_result(
    drive: Drive, drive_bag: Path, tmp_path: Path
) -> None:
    mosaic = Mosaic(CAMERAS)
    perceived, missing = ("front", drive.frames[4].stamp_ns), ("left", drive.frames[5].stamp_ns)
    album = PictureAlbum([perceived, missing], CONTRACT)
    with BagReader(drive_bag) as bag, VideoWriter(tmp_path / "video.mp4", 10) as video:
        frames = draw_frames(bag, 0, drive.results, CONTRACT, mosaic)
        hero = write_overlay_video(frames, {}, mosaic, video, 10, perceived, album)
    capture = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    assert abs(capture.get(cv2.CAP_PROP_FRAME_COUNT) - 19.75) <= 1  # 1.875 s of frames at 10 a second, and the last one

    for key, number in ((perceived, 4), (missing, 5)):
        picture = cv2.imdecode(np.frombuffer(album.jpegs[key], np.uint8), cv2.IMREAD_COLOR)
        camera_image = cv2.resize(moving_picture(SIZE, number), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        difference = np.abs(picture.astype(int) - camera_image.astype(int)).mean()
        assert picture.shape == (288, 512, 3)
        assert (difference > 20) == (key == perceived)
    assert cv2.imdecode(np.frombuffer(hero, np.uint8), cv2.IMREAD_COLOR).shape == mosaic.canvas_bgr.shape


def test_moments_and_highlights_show_the_right_frames(drive: Drive) -> None:
    moments = choose_moments(drive)
    assert [picture.key[0] for picture in moments] == ["left", "front"] * 4
    assert all(picture.key in drive.results for picture in moments)
    captions = {picture.caption.partition(" (")[0]: picture.key[1] for picture in choose_highlights(drive)}
    assert captions == {
        "Most boxes: 3": drive.frames[9].stamp_ns,
        "Least sure: 1 box with a score under 0.5": drive.frames[9].stamp_ns,
        "Slowest: 200 ms": drive.frames[7].stamp_ns,
        "Fastest: 20 ms": drive.frames[0].stamp_ns,
    }


def test_the_page_contains_figures_pictures_and_well_formed_plots(drive: Drive) -> None:
    jpegs = {picture.key: b"picture" for picture in choose_moments(drive)}
    page = render_report(drive, jpegs, b"hero", "caption")
    assert "93.8 %" in page
    assert "perceived: 15 of 16" in page
    assert "1 replaced" in page
    assert "a newer frame of the same camera" in page
    assert "small &amp; &lt;made up&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 9 + sum(p.key in jpegs for p in choose_highlights(drive))
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 6
    latency = ElementTree.fromstring(plots[0])
    dots = [use.get("style") for use in latency.iter("{http://www.w3.org/2000/svg}use")]
    assert [sum(f"var(--series-{number})" in dot for dot in dots) for number in (0, 1, 4)] == [8, 7, 1]
    assert latency.find(".//{http://www.w3.org/2000/svg}title").text == "no result"
    for plot in plots:
        ElementTree.fromstring(plot)
    assert not re.search(r"(src|href)=.?http|url\(.?http|<!DOCTYPE svg", page)
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names)) > 0
    shares = ElementTree.fromstring(plots[4])
    titles = [title.text for title in shares.iter("{http://www.w3.org/2000/svg}title")]
    assert titles.count("road 50 %") == titles.count("sky 50 %") == 2


def test_the_page_of_a_drive_without_drops_is_complete() -> None:
    frames = [DrivenFrame("a<b", 1, 0, 10.0)]
    summary = summarise(frames, NodeReport("unknown"))
    page = render_report(Drive("t", "s", {}, summary, frames, {}, CONTRACT), {}, b"", "")
    assert "every frame that was sent was perceived" in page
    assert "a<b" not in page
    assert "a&lt;b" in page
