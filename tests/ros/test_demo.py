"""The demo as a user runs it, with its own processes on its own graph, but short and small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from checkout import ROOT
from onnx import numpy_helper
from small_bag import START_NS, image_message, moving_picture, write_small_bag, write_timed_bag
from tiny_student import write_tiny_student
from without_gpu import FALLBACK, environment_without_gpu

from ros_kd_perception.bags.reader import BagReader, BagWriter, decode_message
from ros_kd_perception.demo.drive_outputs import OUTPUT_FILES

LIMIT_S = 120.0
SIZE = (180, 320)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    # Variables that another sourced ROS leaves in a shell. They must not affect the demo.
    sourced = {
        "ROS_DOMAIN_ID": "77",
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "AMENT_PREFIX_PATH": "/opt/ros/none",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ros_kd_perception.demo", *map(str, arguments)],
        cwd=ROOT,
        env={**environment_without_gpu(), **sourced},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,
    )


def _hear_interrupts() -> None:
    """Do not inherit that SIGINT is ignored: a shell script does that to what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: str | Path) -> tuple[int, str, str]:
    process = start(*arguments)
    output, errors = process.communicate(timeout=LIMIT_S)
    return process.returncode, output, errors


def processes_that_mention(text: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if text in command:
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> tuple[Path, str]:
    """Output folder and terminal text of a successful run with two cameras, on the CPU although CUDA was requested."""
    folder = tmp_path_factory.mktemp("demo")
    bag = write_small_bag(folder / "drive.mcap", ("front", "left"), frames=24, rate_hz=6, size=SIZE)
    output = folder / "out" / "demo"
    status, text, errors = run("--bag", bag, "--model", tiny_student, "--output", output, "--device", "cuda")
    assert status == 0, errors
    return output, text + errors


def test_writes_its_four_files_and_nothing_else(drive: tuple[Path, str]) -> None:
    output, text = drive
    assert sorted(path.name for path in output.iterdir()) == sorted(OUTPUT_FILES)
    assert [path.name for path in output.parent.iterdir()] == ["demo"]
    assert all(str(output / name) in text for name in OUTPUT_FILES)


def test_summary_adds_up(drive: tuple[Path, str]) -> None:
    summary = json.loads((drive[0] / "summary.json").read_text())
    parts = [summary, *summary["cameras"].values()]
    assert list(summary["cameras"]) == ["front", "left"]
    assert [part["sent"] for part in parts] == [48, 24, 24]
    for part in parts:
        assert part["sent"] == part["perceived"] + sum(part["dropped"].values())
        assert part["provider"] == "CPUExecutionProvider"
        latency = part["latency_ms"]
        assert 0 < latency["min"] <= latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert summary["perceived"] >= 0.9 * summary["sent"]


def test_a_missing_device_is_reported(drive: tuple[Path, str], tiny_student: Path) -> None:
    assert f"demo: {FALLBACK}" in drive[1]
    assert json.loads((drive[0] / "summary.json").read_text())["fallback"].startswith(FALLBACK)
    assert FALLBACK in (drive[0] / "report.html").read_text()
    status, _, errors = run("--model", tiny_student, "--output", drive[0], "--device", "cuda", "--require-gpu")
    assert status == 2
    assert "require_gpu" in errors


def test_the_recording_has_the_frames_that_the_summary_counts(drive: tuple[Path, str]) -> None:
    summary = json.loads((drive[0] / "summary.json").read_text())
    topics = {camera: f"/perception/{camera}/segmentation" for camera in ("front", "left")}
    with BagReader(drive[0] / "perception.mcap", topics) as bag:
        for camera, topic in topics.items():
            masks = [decode_message(raw) for raw in bag.raw_messages([topic])]
            boxes = [decode_message(raw) for raw in bag.raw_messages([f"/perception/{camera}/detections"])]
            assert len(masks) == len(boxes) == summary["cameras"][camera]["perceived"]
            assert {(mask.height, mask.width, mask.encoding) for mask in masks} == {(*SIZE, "mono8")}
            assert {len(array.detections) for array in boxes} == {3}  # the tiny student's three above the threshold
            tables = list(bag.raw_messages([f"{topic}/label_info", f"/perception/{camera}/detections/label_info"]))
            assert len(tables) == 2
        assert list(bag.raw_messages(["/diagnostics"]))


def test_video_shows_both_cameras_in_real_time(drive: tuple[Path, str]) -> None:
    video = cv2.VideoCapture(str(drive[0] / "overlay.mp4"))
    rate, count = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (1280, 360)
    assert count / rate == pytest.approx(47 / 12, abs=0.3)
    video.set(cv2.CAP_PROP_POS_FRAMES, count // 2)
    picture = video.read()[1]
    assert min(picture[:, :640].std(), picture[:, 640:].std()) > 20


def test_the_report_needs_no_other_file(drive: tuple[Path, str]) -> None:
    page = (drive[0] / "report.html").read_text()
    sources = re.findall(r"(?:src|href)=\"([^\"]{0,40})", page)
    within = {source[1:] for source in sources if source.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", page))
    ids = re.findall(r"\bid=\"([^\"]+)", page)
    assert len(sources) >= 10
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert page.count("url(") == page.count("url(#")
    assert within <= set(ids)
    assert len(ids) == len(set(ids)), "a plot would use the parts of another"
    assert page.count("<svg") >= 4
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)  # every placeholder of the template is filled


def test_an_earlier_demo_is_replaced_and_a_compressed_bag_is_accepted(
    drive: tuple[Path, str], tmp_path: Path, tiny_student: Path
) -> None:
    bag = write_small_bag(tmp_path / "folder", ("rear",), frames=20, rate_hz=10, size=SIZE, compressed=True)
    output = tmp_path / "demo"
    output.mkdir()
    (output / "summary.json").write_text("{}")
    status, text, errors = run(
        "--bag", bag, "--model", tiny_student, "--output", output, "--camera", "back=/rear/image_raw/compressed",
        "--duration-s", "1",
    )  # fmt: skip
    assert status == 0, errors
    assert "the first 1 s, 10 of 20 images" in text
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["cameras"]) == ["back"]
    assert summary["sent"] == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "folder"]


def test_cameras_that_start_long_after_the_recorder_and_pause_for_an_hour(tmp_path: Path, tiny_student: Path) -> None:
    images = [("front", start_s + k / 10) for start_s in (0, 3600) for k in range(20)] + [("left", 3605)]
    bag = write_timed_bag(tmp_path / "drive.mcap", images, SIZE, recorder_s=-70)
    begin = time.monotonic()
    status, text, errors = run(
        "--bag", bag, "--model", tiny_student, "--output", tmp_path / "demo", "--duration-s", "4"
    )  # fmt: skip
    assert status == 0, errors
    # 1.9 s, one second that remains of the hour's gap, and 1.1 s.
    assert "the first 4 s, 31 of 41 images" in text
    assert "left has no image in this part" in text
    assert "60.0 min without a frame of any camera after 1.9 s" in text
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["sent"] == 31
    video = cv2.VideoCapture(str(tmp_path / "demo" / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) / video.get(cv2.CAP_PROP_FPS) == pytest.approx(4, abs=0.3)
    assert time.monotonic() - begin < 60


def test_with_fewer_than_half_perceived_it_fails_and_names_the_main_reason(tmp_path: Path, tiny_student: Path) -> None:
    bag = tmp_path / "drive.mcap"
    with BagWriter(bag) as writer:
        for number in range(20):
            time_ns = START_NS + number * 100_000_000
            message = image_message("front", time_ns, moving_picture(SIZE, number))
            message.encoding = "bgr8" if number % 4 == 0 else "of our own"
            writer.write("/front/image_raw", time_ns, message)
    status, text, errors = run("--bag", bag, "--model", tiny_student, "--output", tmp_path / "demo")
    assert status == 3, errors
    assert re.search(
        r"less than 50 % were perceived; 1\d were dropped as unknown_encoding: an image encoding that cannot", text
    )
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == sorted(OUTPUT_FILES)


def test_without_a_bag_it_renders_a_drive(tmp_path: Path, tiny_student: Path) -> None:
    status, text, errors = run("--model", tiny_student, "--output", tmp_path / "demo", "--render-s", "2")
    assert status == 0, errors
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert list(summary["cameras"]) == ["front", "left", "right"]
    assert {part["sent"] for part in summary["cameras"].values()} == {11}
    assert "1280x720" in summary["drive"]["Frames"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert re.search(r"^all +33 ", text, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, tiny_student: Path, number: int) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=300, rate_hz=10, size=SIZE)
    output = tmp_path / "out" / "demo"
    process = start("--bag", bag, "--model", tiny_student, "--output", output)
    deadline = time.monotonic() + LIMIT_S
    while not list(tmp_path.glob("out/.demo-*/sent.csv")):  # the player has started
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(processes_that_mention(str(tmp_path))) == 4
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["drive.mcap"]
    assert processes_that_mention(str(tmp_path)) == []


def test_invalid_arguments_give_one_sentence(tmp_path: Path, tiny_student: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=3)
    cut, text_file = tmp_path / "cut.mcap", tmp_path / "notes.txt"
    cut.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    text_file.write_text("no model")
    before = sorted(tmp_path.iterdir())
    output = tmp_path / "out" / "demo"
    for arguments, expected in (
        (["--bag", tmp_path / "nowhere.mcap", "--model", tiny_student], "nowhere.mcap"),
        (["--bag", cut, "--model", tiny_student], "cut.mcap"),
        (["--bag", text_file, "--model", tiny_student], "notes.txt"),
        (["--bag", bag, "--model", tiny_student, "--camera", "a=/b"], "/front/image_raw"),
        (["--bag", bag, "--model", text_file], "notes.txt"),
        (["--bag", bag, "--model", tiny_student, "--duration-s", "-1"], "--duration-s"),
        (["--bag", bag, "--model", tiny_student, "--duration-s", "inf"], "--duration-s"),
    ):
        status, _, errors = run(*arguments, "--output", output)
        assert status == 2, errors
        assert errors.startswith("demo: ")
        assert errors.count("\n") == 1
        assert expected in errors
        assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_not_a_demos_is_not_replaced(tmp_path: Path, tiny_student: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=3)
    precious = tmp_path / "thesis" / "chapter.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    status, _, errors = run("--bag", bag, "--model", tiny_student, "--output", precious.parent)
    assert status == 2
    assert "chapter.txt" in errors
    assert precious.read_text() == "years of work"


def test_a_model_that_disagrees_with_its_golden_frames_is_refused_at_once(tmp_path: Path) -> None:
    def shrink_boxes(model: onnx.ModelProto) -> None:
        boxes = next(tensor for tensor in model.graph.initializer if tensor.name == "boxes_row")
        boxes.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(boxes) * np.float32(0.5), "boxes_row"))

    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=3)
    disagreeing = write_tiny_student(tmp_path / "disagreeing.onnx", change_graph=shrink_boxes)
    status, _, errors = run("--bag", bag, "--model", disagreeing, "--output", tmp_path / "out")
    assert status == 2
    assert "expected golden frame 0" in errors
    assert errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disagreeing.onnx", "drive.mcap"]


def test_the_refusal_of_the_node_is_quoted(tmp_path: Path) -> None:
    bag = write_small_bag(tmp_path / "drive.mcap", ("front",), frames=3)
    model = write_tiny_student(tmp_path / "tiny.onnx")
    status, _, errors = run(
        "--bag", bag, "--model", model, "--output", tmp_path / "out", "--camera", f"{'a' * 65}=/front/image_raw"
    )
    assert status == 1
    assert "the node refused to start" in errors
    assert "expected the names in parameter cameras to be up to 64" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive.mcap", "tiny.onnx"]
    assert processes_that_mention(str(tmp_path)) == []
