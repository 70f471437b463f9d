"""Test that frames come out of real bags with their stamps, and that interrupted extractions end like whole ones."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT
from small_bag import START_NS, image_message, moving_picture, write_small_bag, write_timed_bag

from ros_kd_perception.bags.reader import BagReader, BagWriter
from ros_kd_perception.structures import UInt8Array
from training.__main__ import main
from training.data.bag_frames import extract_frames
from training.data.frame_choice import FrameChoice, FrameChooser
from training.data.frame_log import LOG_FILE, FrameList, FrameLog, FrameRecord
from training.data.readers.unlabeled import UnlabeledSource
from training.errors import DataError

ALL = FrameChoice(change_min=0.0)
FRONT_AND_LEFT = ["front", "left"] * 8


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(frames: FrameList) -> list[str]:
    return [record.name for record in frames.frames]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames each of the cameras front and left at 10 Hz, staggered by 50 ms."""
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap")


def test_cameras_that_share_a_topic_have_all_of_its_frames(bag: Path) -> None:
    with BagReader(bag, {"wide": "/front/image_raw", "near": "/front/image_raw"}) as reader:
        found = [(chosen.camera, chosen.number) for chosen in FrameChooser(reader, ALL)]
    assert found == [(camera, number) for number in range(8) for camera in ("wide", "near")]


def test_a_topic_that_is_named_twice_is_one_camera(bag: Path, tmp_path: Path) -> None:
    topics = ["/front/image_raw", "/front/image_raw"]
    assert main(["extract-frames", str(bag), "-o", str(tmp_path / "f"), "--change-min", "0", "--topics", *topics]) == 0
    content = json.loads((tmp_path / "f" / "frames.json").read_text(encoding="utf-8"))
    assert [entry["camera"] for entry in content["frames"]] == ["front"] * 8


def test_each_frame_has_its_camera_topic_stamp_size_and_digest(bag: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    assert main(["extract-frames", str(bag), "-o", str(folder), "--change-min", "0"]) == 0
    content = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
    assert content["bag"] == "drive.mcap"
    assert [entry["camera"] for entry in content["frames"]] == FRONT_AND_LEFT
    for index, entry in enumerate(content["frames"]):
        number, camera = divmod(index, 2)
        file = folder / entry["file"]
        assert entry["topic"] == f"/{entry['camera']}/image_raw"
        assert entry["frame_id"] == f"{entry['camera']}_optical"
        assert entry["stamp_ns"] == START_NS + number * 100_000_000 + camera * 50_000_000
        assert (entry["width"], entry["height"]) == (160, 96)
        assert entry["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert cv2.imread(str(file)).shape == (96, 160, 3)
    assert sorted(path.name for path in folder.iterdir()) == ["annotations.json", "frames.json", "images"]


def test_the_folder_is_one_that_the_readers_take(bag: Path, tmp_path: Path) -> None:
    extract_frames(bag, ALL, tmp_path / "frames")
    assert len(UnlabeledSource(folder=tmp_path / "frames").image_files()) == 16


def test_the_folder_is_inspected_as_images_without_labels(bag: Path, tmp_path: Path) -> None:
    folder, report = tmp_path / "frames", tmp_path / "report"
    assert main(["extract-frames", str(bag), "-o", str(folder), "--change-min", "0"]) == 0
    assert main(["inspect-data", str(folder), "--out", str(report), "--json", str(report / "figures.json")]) == 0
    (source,) = json.loads((report / "figures.json").read_text())["sources"]
    assert (source["kind"], source["frames"]) == ("unlabeled", 16)


def test_annotations_list_the_images_as_coco_does(bag: Path, tmp_path: Path) -> None:
    main(["extract-frames", str(bag), "-o", str(tmp_path / "frames"), "--max-frames", "3"])
    content = json.loads((tmp_path / "frames" / "annotations.json").read_text(encoding="utf-8"))
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert content["images"][1]["file_name"] == "images/left_0000000.jpg"
    assert content["images"][1]["stamp_ns"] == START_NS + 50_000_000
    assert content["annotations"] == content["categories"] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--from-s", "0.25", "--to-s", "0.45"], ["left_0000000", "front_0000000", "left_0000001", "front_0000001"]),
        (["--from-s", "0.7"], ["front_0000000", "left_0000000"]),
        (["--to-s", "0.05"], ["front_0000000"]),
        (
            ["--from-stamp-ns", str(START_NS + 100_000_000), "--to-stamp-ns", str(START_NS + 200_000_000)],
            ["front_0000000", "left_0000000"],
        ),
        (["--topics", "/left/image_raw", "--stride", "4"], ["left_0000000", "left_0000004"]),
        (["--max-frames", "1"], ["front_0000000"]),
    ],
    ids=lambda value: " ".join(value[::2]) if str(value[0]).startswith("-") else "",
)
def test_options_choose_frames(words: list[str], expected: list[str], bag: Path, tmp_path: Path) -> None:
    assert main(["extract-frames", str(bag), "-o", str(tmp_path / "frames"), "--change-min", "0", *words]) == 0
    frames = FrameList.read(tmp_path / "frames")
    assert frames
    assert names(frames) == expected


def test_raw_and_compressed_images_of_one_camera_have_different_names(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "both.mcap") as writer:
        for topic in ("/front/image_raw", "/front/image_color"):
            writer.write(topic, START_NS, image_message("front", START_NS, moving_picture((96, 160), 0)))
    choice = FrameChoice(topics=("/front/image_raw", "/front/image_color"), change_min=0.0)
    assert names(extract_frames(tmp_path / "both.mcap", choice, tmp_path / "frames")) == [
        "front_0000000", "front_2_0000000",
    ]  # fmt: skip


class Stopping:
    """An annotator that is interrupted after some frames, and counts those that it sees."""

    key = ""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, 0

    def annotate(self, folder: Path, record: FrameRecord, image_bgr: UInt8Array) -> dict[str, Any]:
        if self.seen == self.after:
            raise KeyboardInterrupt
        assert image_bgr.shape == (record.height, record.width, 3)
        self.seen += 1
        return {"place": record.number}

    def finish(self, folder: Path, frames: Sequence[FrameRecord]) -> None:
        (folder / "places.json").write_text(json.dumps([record.notes["place"] for record in frames]))


def waiting_bag(path: Path) -> Path:
    """A bag in which the camera waits, with noise, moves on, and has a frame that cannot be decoded."""
    rng = np.random.default_rng(3)
    with BagWriter(path) as writer:
        for index, scene in enumerate([0, 0, 0, 1, 1, 2, 2, 0, 0, 3, 3, 3]):
            picture = moving_picture((96, 160), scene)
            noisy = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
            message = image_message("front", START_NS + index, noisy)
            if index == 6:
                message.encoding = "lies8"
            writer.write("/front/image_raw", START_NS + index, message)
    return path


@pytest.mark.parametrize("after", range(6))
def test_an_interrupted_extraction_goes_on_and_ends_with_the_same_files(after: int, tmp_path: Path) -> None:
    path = waiting_bag(tmp_path / "waiting.mcap")
    whole = extract_frames(path, FrameChoice(), tmp_path / "whole", Stopping(99))
    assert (len(whole.frames), whole.bad, whole.similar) == (5, 1, 6)
    if after < 5:
        with pytest.raises(KeyboardInterrupt):
            extract_frames(path, FrameChoice(), tmp_path / "parts", Stopping(after))
        assert not (tmp_path / "parts" / "frames.json").exists()
    rest = Stopping(99)
    assert extract_frames(path, FrameChoice(), tmp_path / "parts", rest) == whole
    assert rest.seen == 5 - after if after < 5 else 5
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_limit_on_frames_counts_those_of_the_interrupted_run(tmp_path: Path) -> None:
    path, choice = waiting_bag(tmp_path / "waiting.mcap"), FrameChoice(max_frames=3)
    whole = extract_frames(path, choice, tmp_path / "whole", Stopping(99))
    with pytest.raises(KeyboardInterrupt):
        extract_frames(path, choice, tmp_path / "parts", Stopping(2))
    assert extract_frames(path, choice, tmp_path / "parts", Stopping(99)) == whole
    assert len(whole.frames) == 3
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_process_that_is_stopped_goes_on_and_ends_with_the_same_files(number: signal.Signals, tmp_path: Path) -> None:
    path = write_small_bag(tmp_path / "drive.mcap", frames=40, size=(360, 640))
    words = ["extract-frames", str(path), "--change-min", "0", "-o"]
    command = [sys.executable, "-m", "training", *words]
    stopped = tmp_path / "stopped"
    with subprocess.Popen([*command, str(stopped)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (stopped / "images" / "left_0000001.jpg").exists():
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate()[0]
    if number == signal.SIGINT:
        assert (process.returncode, said) == (130, f"interrupted; the same command goes on in {stopped}\n")
    assert (stopped / LOG_FILE).exists()
    for target in (stopped, tmp_path / "whole"):
        assert main([*words, str(target)]) == 0
    assert contents(stopped) == contents(tmp_path / "whole")
    assert len(list((stopped / "images").iterdir())) == 80


@pytest.mark.parametrize("damage", ["half an image", "no image", "half a line", "no JSON"])
def test_what_a_lost_power_supply_left_is_written_again(damage: str, tmp_path: Path) -> None:
    path = waiting_bag(tmp_path / "waiting.mcap")
    extract_frames(path, FrameChoice(), tmp_path / "whole", Stopping(99))
    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        extract_frames(path, FrameChoice(), folder, Stopping(3))
    image, log = folder / "images" / "front_0000003.jpg", folder / LOG_FILE
    if damage == "half an image":
        image.write_bytes(image.read_bytes()[:100])
    elif damage == "no image":
        image.unlink()
    elif damage == "half a line":
        log.write_bytes(log.read_bytes()[:-20])
    else:
        log.write_bytes(log.read_bytes() + b"\0\0\0\n")
    (folder / "images" / ".front_0000005.jpg.77.tmp").write_bytes(b"half")
    extract_frames(path, FrameChoice(), folder, Stopping(99))
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_finished_folder_stays_as_it_is(bag: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    first = extract_frames(bag, ALL, folder, Stopping(99))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = extract_frames(bag, ALL, folder, Stopping(0))
    assert names(again) == names(first)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_folder_of_another_choice_is_refused(bag: Path, tmp_path: Path) -> None:
    extract_frames(bag, ALL, tmp_path / "done")
    with pytest.raises(DataError, match="it holds those of others"):
        extract_frames(bag, FrameChoice(stride=2), tmp_path / "done")
    with pytest.raises(KeyboardInterrupt):
        extract_frames(bag, ALL, tmp_path / "begun", Stopping(1))
    with pytest.raises(DataError, match="it is of others"):
        extract_frames(bag, FrameChoice(stride=2), tmp_path / "begun", Stopping(1))


def test_a_folder_with_other_files_is_refused(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match=r"expected a new or empty folder.*mine\.txt"):
        extract_frames(bag, ALL, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]


def test_two_processes_do_not_write_into_one_folder(bag: Path, tmp_path: Path) -> None:
    key = ALL.digest(bag)
    with FrameLog(tmp_path / "frames", key), pytest.raises(DataError, match="another process is extracting"):
        extract_frames(bag, ALL, tmp_path / "frames")
    assert len(extract_frames(bag, ALL, tmp_path / "frames").frames) == 16


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--topics", "/rear/image_raw"], "expected the topic /rear/image_raw"),
        (["--from-s", "99"], "expected frames that can be decoded"),
        (["--from-s", "99"], "the chosen range of time has no frame at all; begin earlier"),
        (["--from-s", "3", "--to-s", "1"], "expected --to-s to be more than --from-s, got 3 to 1 s"),
        (["--from-s", "1", "--from-stamp-ns", "1"], "not allowed with argument"),
        (["--stride", "0"], "expected a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_choices_are_refused_and_leave_nothing(
    words: list[str], sentence: str, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["extract-frames", str(bag), "-o", str(tmp_path / "frames"), *words])
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "frames").exists()


def test_a_bag_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mcap").write_text("no bag")
    for path in (tmp_path / "text.mcap", tmp_path / "nowhere.mcap"):
        assert main(["extract-frames", str(path), "-o", str(tmp_path / "frames")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "frames").exists()


def test_a_damaged_list_of_frames_is_refused(bag: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    extract_frames(bag, ALL, folder)
    (folder / "frames.json").write_text("{")
    with pytest.raises(DataError, match="delete the folder and extract again"):
        extract_frames(bag, ALL, folder)


def test_a_time_range_counts_from_the_first_image(tmp_path: Path) -> None:
    path = write_timed_bag(tmp_path / "timed.mcap", [("front", 0.0), ("front", 0.5), ("front", 2.0)])
    frames = extract_frames(path, FrameChoice(change_min=0.0, from_s=0.4), tmp_path / "frames")
    assert [record.stamp_ns - START_NS for record in frames.frames] == [500_000_000, 2_000_000_000]
