"""Test the replay of bags in the real runtime: it writes a complete bag with all results, or no bag."""

import gzip
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from tiny_student import (
    BOXES_XYXY,
    CONTRACT,
    HEIGHT,
    LABELS,
    SCORES,
    WIDTH,
    contract_with,
    expected_class_map,
    write_tiny_model,
    write_tiny_student,
)
from uncounted import without_counting

from ros_kd_perception import model_signature
from ros_kd_perception.bags.reader import BagReader, BagWriter, decode_message, message_class, typestore
from ros_kd_perception.drawing.overlay_video import OverlayVideo
from ros_kd_perception.drawing.video import VideoError, VideoWriter
from ros_kd_perception.model import execution_provider
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.model.signature_key import PrivateKey
from ros_kd_perception.replay import main
from ros_kd_perception.replay_summary import ReplaySummary
from ros_kd_perception.structures import Detections, Frame, Perception, Timing

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
RESULTS = ("detections", "segmentation")
LABEL_TOPICS = ("detections/label_info", "segmentation/label_info")
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def header(stamp_ns: int, frame_id: str) -> Any:
    stamp = message_class("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


def picture(index: int) -> np.ndarray:
    """Return a picture of flat 4x4 blocks, twice the size of the network input, so that halving is exact."""
    blocks = np.random.default_rng(index).integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def raw_message(index: int, stamp_ns: int, **changes: Any) -> Any:
    pixels = picture(index)
    fields = {
        "header": header(stamp_ns, "front_optical"), "height": pixels.shape[0], "width": pixels.shape[1],
        "encoding": "bgr8", "is_bigendian": 0, "step": pixels.shape[1] * 3, "data": pixels.reshape(-1),
    }  # fmt: skip
    return message_class(IMAGE)(**(fields | changes))


def png_message(index: int, stamp_ns: int) -> Any:
    data = np.frombuffer(cv2.imencode(".png", picture(index))[1].tobytes(), np.uint8)
    return message_class(COMPRESSED)(header=header(stamp_ns, "left_optical"), format="png", data=data)


def write_drive(path: Path, frames: int = 6) -> Path:
    """Write a bag of two cameras, one raw and one PNG; recording times and stamps differ by a millisecond."""
    with BagWriter(path) as bag:
        for index in range(frames):
            log_time_ns = START_NS + index * PERIOD_NS
            bag.write("/front/image_raw", log_time_ns, raw_message(index, log_time_ns - 1_000_000))
            bag.write("/left/image_raw/compressed", log_time_ns + 7, png_message(100 + index, log_time_ns - 1_000_000))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("drive") / "drive.mcap")


def replay(bag: Path, output: Path, model: Path, *more: object) -> int:
    return main([str(bag), "-o", str(output), "--model", str(model), "--quiet", *map(str, more)])


def results_of(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return log time and message of each topic, read without this package's choice of cameras."""
    with BagReader(path, {"any": "/perception/front/segmentation"}) as bag:
        found: dict[str, list[tuple[int, Any]]] = {topic.name: [] for topic in bag.topics}
        for message in bag.raw_messages(found):
            found[message.topic].append((message.log_time_ns, decode_message(message)))
    return found


def test_every_frame_gets_its_results_under_the_nodes_topics(drive: Path, model: Path, tmp_path: Path) -> None:
    assert replay(drive, tmp_path / "out.mcap", model) == 0
    found = results_of(tmp_path / "out.mcap")
    assert set(found) == {
        f"/perception/{camera}/{topic}" for camera in ("front", "left") for topic in (*RESULTS, *LABEL_TOPICS)
    }
    for camera, first_picture, offset_ns in (("front", 0, 0), ("left", 100, 7)):
        masks, arrays = found[f"/perception/{camera}/segmentation"], found[f"/perception/{camera}/detections"]
        assert [log_time_ns for log_time_ns, _ in masks] == [START_NS + i * PERIOD_NS + offset_ns for i in range(6)]
        for index, ((_, mask), (_, array)) in enumerate(zip(masks, arrays, strict=True)):
            stamp_ns = START_NS + index * PERIOD_NS - 1_000_000
            for message in (mask, array):
                stamp = message.header.stamp
                assert (stamp.sec * 10**9 + stamp.nanosec, message.header.frame_id) == (stamp_ns, f"{camera}_optical")
            halved = picture(first_picture + index)[::2, ::2]
            expected = expected_class_map(halved).repeat(8, axis=0).repeat(8, axis=1)
            np.testing.assert_array_equal(mask.data.reshape(mask.height, mask.width), expected)
            assert (mask.encoding, mask.step) == ("mono8", mask.width)
            seen = CONTRACT.detections.score_threshold <= SCORES
            assert [d.results[0].hypothesis.class_id for d in array.detections] == [
                str(label) for label in LABELS[seen]
            ]
            centers = [(d.bbox.center.position.x, d.bbox.center.position.y) for d in array.detections]
            np.testing.assert_allclose(centers, BOXES_XYXY[seen][:, :2] + BOXES_XYXY[seen][:, 2:])


@pytest.mark.parametrize(
    ("absent", "topics"),
    [
        ("class_map", ("detections", "detections/label_info")),
        ("detections", ("free_space", "segmentation", "segmentation/label_info")),
    ],
)
def test_a_model_of_one_task_writes_only_its_topics_and_draws_what_there_is(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], absent: str, topics: tuple[str, ...]
) -> None:
    one_task = write_tiny_model(tmp_path / "one.onnx", contract_with(**{absent: None}))
    (tmp_path / "node.yaml").write_text("/**: {ros__parameters: {cameras: [front, left]}}", encoding="utf-8")
    more = ("--params-file", tmp_path / "node.yaml", "--overlay", tmp_path / "out.mp4", "--limit", 4)

    assert replay(drive, tmp_path / "out.mcap", one_task, *more) == 0

    with BagReader(tmp_path / "out.mcap", without_cameras=True) as bag:
        written = {topic.name for topic in bag.topics}
    assert written == {f"/perception/{camera}/{topic}" for camera in ("front", "left") for topic in topics}
    assert (tmp_path / "out.mp4").stat().st_size > 0
    said = "no free space: expected a model that does segmentation" in capsys.readouterr().err
    assert said == (absent == "class_map")


def test_labels_come_first_latched_and_name_the_ids(drive: Path, model: Path, tmp_path: Path) -> None:
    assert replay(drive, tmp_path / "out.mcap", model, "--score-threshold", 0.75) == 0
    found = results_of(tmp_path / "out.mcap")
    [(log_time_ns, labels)] = found["/perception/left/detections/label_info"]
    assert log_time_ns == START_NS
    assert {c.class_id: c.class_name for c in labels.class_map} == {c.id: c.name for c in CONTRACT.detections.classes}
    assert labels.threshold == pytest.approx(0.75)
    assert all(len(array.detections) == 2 for _, array in found["/perception/left/detections"])


def test_the_same_bag_and_model_give_the_same_bytes(drive: Path, model: Path, tmp_path: Path) -> None:
    assert replay(drive, tmp_path / "a.mcap", model) == 0
    assert replay(drive, tmp_path / "b.mcap", model, "--overlay", tmp_path / "b.mp4") == 0
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()


def test_one_camera_a_limit_and_a_folder_as_output(drive: Path, model: Path, tmp_path: Path) -> None:
    options = ("--camera", "ahead=/left/image_raw/compressed", "--limit", 3)
    assert replay(drive, tmp_path / "out", model, *options) == 0
    assert (tmp_path / "out" / "metadata.yaml").is_file()
    with BagReader(tmp_path / "out", {"any": "/perception/ahead/segmentation"}) as bag:
        counts = dict.fromkeys(RESULTS, 3) | dict.fromkeys(LABEL_TOPICS, 1)
        assert {topic.name.removeprefix("/perception/ahead/"): topic.count for topic in bag.topics} == counts


def test_bad_frames_are_counted_by_reason_and_reported_once(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = [START_NS + index * PERIOD_NS for index in range(9)]
    cut = bytes(typestore().serialize_cdr(raw_message(0, stamps[0]), IMAGE))[:500]
    with BagWriter(tmp_path / "drive.mcap") as bag:
        bag.write("/front/image_raw", stamps[0], raw_message(0, stamps[0]))
        bag.write("/front/image_raw", stamps[1], raw_message(1, stamps[1], encoding="nonsense"))
        bag.write("/front/image_raw", stamps[2], raw_message(2, stamps[2], encoding="nonsense"))
        bag.write("/front/image_raw", stamps[3], raw_message(3, 0))
        bag.write("/front/image_raw", stamps[4], raw_message(4, stamps[0] - 1))
        bag.write("/front/image_raw", stamps[5], raw_message(5, stamps[5], step=3))
        bag.write_raw("/front/image_raw", stamps[6], cut)
        bag.write("/front/image_raw", stamps[7], raw_message(7, stamps[7], width=60000, height=60000))
        bag.write("/front/image_raw", stamps[8], raw_message(8, stamps[8]))
    assert replay(tmp_path / "drive.mcap", tmp_path / "out.mcap", model) == 0
    printed = capsys.readouterr()
    assert printed.err.count("unknown_encoding") == 1
    for count in ("unknown_encoding 2", "zero_stamp 1", "stamp_backwards 1", "bad_step 1", "bad_data 1", "too_large 1"):
        assert count in printed.out
    times = [log_time_ns for log_time_ns, _ in results_of(tmp_path / "out.mcap")["/perception/front/segmentation"]]
    assert times == [stamps[0], stamps[8]]


def test_camera_without_results_has_no_times() -> None:
    summary = ReplaySummary(["front", "left"], "CPUExecutionProvider")
    summary.count_perceived("front", 12.0)
    summary.count_dropped("left", "bad_data")
    front, left = summary.table().splitlines()[1:3]
    assert front.split() == ["front", "1", "1", "0", "12.0", "12.0", "12.0", "none"]
    assert left.split() == ["left", "1", "0", "1", "-", "-", "-", "bad_data", "1"]


def test_a_repeated_frame_is_dropped_as_in_the_node(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / "twice.mcap"
    with BagWriter(bag) as writer:
        for index in range(4):
            stamp_ns = 10**9 + index * 10**8
            for again in range(2):
                writer.write("/front/image_raw", stamp_ns + again, raw_message(index, stamp_ns))
    assert replay(bag, tmp_path / "out.mcap", model) == 0
    assert "duplicate" in (printed := capsys.readouterr()).err
    assert re.search(r"front +8 +4 +4 .* duplicate 4", printed.out)


def test_a_failed_run_loses_only_its_frame(
    drive: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, calls = OnnxModel.run, iter(range(1000))

    def fail_sometimes(self: OnnxModel, images: np.ndarray) -> Any:
        # Two runs verify the golden frames, three warm up, then there is one run for each frame.
        if next(calls) == 8:
            raise RuntimeError("out of memory\nand more")
        return run(self, images)

    monkeypatch.setattr(OnnxModel, "run", fail_sometimes)
    assert replay(drive, tmp_path / "out.mcap", model, "--threads", 1) == 0
    printed = capsys.readouterr()
    assert "failed 1" in printed.out
    assert "RuntimeError: out of memory" in printed.err
    assert len(results_of(tmp_path / "out.mcap")["/perception/left/segmentation"]) == 5


def test_the_number_of_threads_does_not_change_the_bag(drive: Path, model: Path, tmp_path: Path) -> None:
    for threads in (1, 2, 11):
        assert replay(drive, tmp_path / f"{threads}.mcap", model, "--threads", threads) == 0
    one, *others = [(tmp_path / f"{threads}.mcap").read_bytes() for threads in (1, 2, 11)]
    assert others == [one, one]


def test_a_network_too_large_for_several_frames_runs_one_at_a_time(
    drive: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, in_use = OnnxModel.run, threading.Lock()

    def without_room(self: OnnxModel, images: np.ndarray) -> Any:
        if not in_use.acquire(blocking=False):
            raise RuntimeError("Available memory of 0 is smaller than requested bytes")
        try:
            time.sleep(0.02)  # two runs at the same time must meet
            return run(self, images)
        finally:
            in_use.release()

    monkeypatch.setattr(OnnxModel, "run", without_room)
    assert replay(drive, tmp_path / "out.mcap", model, "--threads", 2) == 0
    assert "failed" not in capsys.readouterr().out


# --- all or nothing ---


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    """Run the command, expect status 2 and no new file in the folder; return the one line on standard error."""
    before = sorted(folder.rglob("*"))
    assert main([*map(str, arguments), "--quiet"]) == 2
    assert sorted(folder.rglob("*")) == before
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert "expected" in lines[-1]
    assert lines[-1].startswith("replay_bag: ")
    return lines[-1]


def test_invalid_arguments_are_refused_in_one_sentence(
    drive: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out.mcap"
    (tmp_path / "cut.mcap").write_bytes(drive.read_bytes()[:5000])
    (tmp_path / "not.onnx").write_bytes(b"hello")
    with BagWriter(tmp_path / "clock.mcap") as bag:
        bag.write("/clock", 1, message_class("rosgraph_msgs/msg/Clock")(header(5, "").stamp))
    use = ("-o", out, "--model", model)
    assert "found nothing" in refused(capsys, tmp_path, tmp_path / "none.mcap", *use)
    assert "cut off" in refused(capsys, tmp_path, tmp_path / "cut.mcap", *use)
    assert "Image or CompressedImage" in refused(capsys, tmp_path, tmp_path / "clock.mcap", *use)
    assert "found none" in refused(capsys, tmp_path, drive, "-o", out, "--model", tmp_path / "none.onnx")
    assert "ONNX model" in refused(capsys, tmp_path, drive, "-o", out, "--model", tmp_path / "not.onnx")
    assert "/front/image_raw" in refused(capsys, tmp_path, drive, *use, "--camera", "a=/nothing")
    assert "NAME=TOPIC" in refused(capsys, tmp_path, drive, *use, "--camera", "nothing")
    assert ".mp4" in refused(capsys, tmp_path, drive, *use, "--overlay", tmp_path / "out.avi")
    assert "folder" in refused(capsys, tmp_path, drive, *use, "--overlay", tmp_path / "none" / "out.mp4")
    assert "without suffix" in refused(capsys, tmp_path, drive, "-o", tmp_path / "out.db3", "--model", model)


def test_the_input_and_existing_outputs_are_safe(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_drive(tmp_path / "drive.mcap", frames=2)
    before = bag.read_bytes()
    assert "differs from the input" in refused(capsys, tmp_path, bag, "-o", bag, "--model", model, "--force")
    assert replay(bag, tmp_path / "out.mcap", model, "--overlay", tmp_path / "out.mp4") == 0
    capsys.readouterr()
    taken = refused(capsys, tmp_path, bag, "-o", tmp_path / "out.mcap", "--model", model)
    assert "out.mcap exists; choose another name, or replace it with --force" in taken
    other = ("-o", tmp_path / "other.mcap", "--model", model, "--overlay", tmp_path / "out.mp4")
    assert "out.mp4 exists; choose another name, or replace it with --force" in refused(capsys, tmp_path, bag, *other)
    (tmp_path / "folder").mkdir()
    folder = refused(capsys, tmp_path, bag, "-o", tmp_path / "folder", "--model", model, "--force")
    assert "folder exists; choose another name, or remove it" in folder
    (tmp_path / "out.mcap").write_bytes(b"old")
    assert replay(bag, tmp_path / "out.mcap", model, "--overlay", tmp_path / "out.mp4", "--force") == 0
    assert (tmp_path / "out.mcap").read_bytes() != b"old"
    assert bag.read_bytes() == before


def test_regions_of_interest_and_thresholds_of_a_parameter_file_apply(drive: Path, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "vehicle.yaml"
    file.write_text("/**: {ros__parameters: {front.region_of_interest: [8, 16, 96, 64], left.score_threshold: 0.85}}\n")
    assert replay(drive, tmp_path / "out.mcap", model, "--params-file", file, "--limit", 2) == 0
    found = results_of(tmp_path / "out.mcap")
    masks = {}
    for camera in ("front", "left"):
        (_, message), *_ = found[f"/perception/{camera}/segmentation"]
        masks[camera] = message.data.reshape(message.height, message.width)
    seen = expected_class_map(picture(0)[16:80, 8:104]).repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(masks["front"][16:80, 8:104], seen)
    assert np.count_nonzero(masks["front"] < 255) == 64 * 96
    assert (masks["left"] < 255).all()
    assert [len(found[f"/perception/{c}/detections"][0][1].detections) for c in ("front", "left")] == [4, 1]
    thresholds = [found[f"/perception/{c}/detections/label_info"][0][1].threshold for c in ("front", "left")]
    assert thresholds == pytest.approx([0.3, 0.85])


def test_node_selects_one_of_two_vehicles_in_a_parameter_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, file = write_drive(tmp_path / "drive.mcap", frames=2), tmp_path / "fleet.yaml"
    settings = "ros__parameters: {free_space.max_gap_px: 1, front.free_space.ignore_bottom: 3}"
    file.write_text(f"/car1/perception: {{{settings}}}\n/car2/perception: {{{settings}}}\n")
    use = ("-o", tmp_path / "out.mcap", "--model", model, "--params-file", file)
    assert "choose one with --node /car1/perception" in refused(capsys, tmp_path, bag, *use)
    assert "for the node /car3/perception" in refused(capsys, tmp_path, bag, *use, "--node", "/car3/perception")
    assert replay(bag, tmp_path / "out.mcap", model, "--params-file", file, "--node", "/car2/perception") == 0
    assert "did you mean front.free_space.ignore_bottom_px?" in capsys.readouterr().err


def test_a_bag_of_only_bad_frames_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "drive.mcap") as bag:
        for index in range(3):
            bag.write("/front/image_raw", START_NS + index, raw_message(index, START_NS, encoding="nonsense"))
    sentence = refused(capsys, tmp_path, tmp_path / "drive.mcap", "-o", tmp_path / "out.mcap", "--model", model)
    assert "unknown_encoding 3" in sentence


def test_times_before_1970_are_refused_if_they_would_be_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = typestore().serialize_cdr(raw_message(0, START_NS), "sensor_msgs/msg/Image")
    with closing(sqlite3.connect(tmp_path / "drive.db3", isolation_level=None)) as database:
        database.executescript(Sqlite3Writer.SQLITE_SCHEMA)
        database.execute("INSERT INTO topics VALUES (1, '/front/image_raw', 'sensor_msgs/msg/Image', 'cdr', '', '')")
        database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, -5, ?)", (bytes(message),))
    sentence = refused(capsys, tmp_path, tmp_path / "drive.db3", "-o", tmp_path / "out.mcap", "--model", model)
    assert "got -5 ns" in sentence


def test_a_bag_with_a_damaged_end_leaves_no_output(drive: Path, model: Path, tmp_path: Path) -> None:
    content = bytearray(write_drive(tmp_path / "drive.mcap", frames=40).read_bytes())
    content[content.rindex(b"zstd", 0, len(content) * 3 // 4) + 24] ^= 0xFF  # inside a chunk in the middle
    (tmp_path / "drive.mcap").write_bytes(content)
    assert replay(tmp_path / "drive.mcap", tmp_path / "out.mcap", model, "--overlay", tmp_path / "out.mp4") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["drive.mcap"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_partial_file(model: Path, tmp_path: Path, how: signal.Signals) -> None:
    bag, temporary = tmp_path / "endless.mcap.gz", tmp_path / "temporary"
    temporary.mkdir()
    with BagWriter(tmp_path / "endless.mcap", compress=False) as out:
        for index in range(3000):
            stamp_ns = START_NS + index * PERIOD_NS
            out.write("/front/image_raw", stamp_ns, raw_message(index % 7, stamp_ns))
    bag.write_bytes(gzip.compress((tmp_path / "endless.mcap").read_bytes(), 1))
    (tmp_path / "endless.mcap").unlink()
    command = [
        sys.executable, "-c", "import sys; from ros_kd_perception.replay import main; sys.exit(main())",
        bag, "-o", tmp_path / "new" / "out.mcap", "--model", model, "--overlay", tmp_path / "out.mp4", "--threads", "1",
    ]  # fmt: skip
    # The progress bar appears when frames are being perceived.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TQDM_MININTERVAL": "0", "TMPDIR": str(temporary)},
    ) as process:
        assert process.stderr is not None
        printed = b""
        while not re.search(rb"[1-9]\d*/3000", printed):
            chunk = os.read(process.stderr.fileno(), 4096)
            assert chunk, printed.decode()
            printed += chunk
        assert [p.suffix for p in (tmp_path / "new").iterdir()] == [".partial"]
        assert list(temporary.glob("bag-*/*/bag"))
        process.send_signal(how)
        out_text, error_text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out_text == b""
    assert error_text.splitlines()[-1] == b"replay_bag: interrupted, nothing written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["endless.mcap.gz", "temporary"]
    assert list(temporary.glob("bag-*")) == []


# --- where the network runs ---


@pytest.fixture
def runtime_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime as the [cpu] extra installs it, whichever build is installed."""
    monkeypatch.setattr(execution_provider.onnxruntime, "get_available_providers", lambda: [execution_provider.CPU])


def test_a_model_must_be_signed_where_that_is_asked_for(
    drive: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed, key = shutil.copyfile(model, tmp_path / "signed.onnx"), tmp_path / "fleet.key"
    asked_for = ("--require-signature", f"{key}.pub", "--limit", "1")
    model_signature.make_keys(key)
    assert replay(drive, tmp_path / "out.mcap", signed, *asked_for) == 2
    assert capsys.readouterr().err.startswith(f"replay_bag: expected a signature of {signed} in {signed}.sig, found")
    model_signature.sign(signed, PrivateKey.read(key))
    assert replay(drive, tmp_path / "out.mcap", signed, *asked_for) == 0
    signed.write_bytes(signed.read_bytes()[:-1])
    assert replay(drive, tmp_path / "other.mcap", signed, *asked_for) == 2
    assert "to be of its bytes" in capsys.readouterr().err


@pytest.mark.usefixtures("runtime_without_gpu")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_missing_device_is_reported(
    device: str, drive: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(drive, tmp_path / "out.mcap", model, "--device", device) == 0
    printed = capsys.readouterr()
    sentence = "ExecutionProvider was asked for, CPUExecutionProvider runs: "
    assert sentence in printed.err
    assert sentence in printed.out.splitlines()[-2]
    assert replay(drive, tmp_path / "gpu.mcap", model, "--device", device, "--require-gpu") == 2
    assert "require_gpu" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["out.mcap"]


@pytest.mark.usefixtures("runtime_without_gpu")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_summary_names_the_provider_that_ran(
    device: str, drive: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(drive, tmp_path / "out.mcap", model, "--device", device) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[-2] == "provider: CPUExecutionProvider"


# --- the video ---


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (answer := video.read())[0]:
        frames.append(answer[1])
    return frames


def test_the_overlay_video_runs_at_the_speed_of_the_drive(drive: Path, model: Path, tmp_path: Path) -> None:
    assert replay(drive, tmp_path / "out.mcap", model, "--overlay", tmp_path / "out.mp4") == 0
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FPS) == 10
    assert len(frames_of(tmp_path / "out.mp4")) == 7  # the bag's six ticks, and the time after the last one
    assert (tmp_path / "out.mp4").stat().st_mode & 0o044 == 0o044


def test_a_gap_in_a_recording_is_shown_for_one_second(tmp_path: Path) -> None:
    image = np.zeros((36, 64, 3), np.uint8)
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    seen = Perception("a", 1, "", image[:, :, 0], none, np.zeros((1, 1), np.float32), Timing(1, 1, 1))
    with OverlayVideo(tmp_path / "out.mp4", ["a"], 10) as video:
        for time_s in (0, 0.1, 3600, 3600.1):
            video.add(round(time_s * 1e9), Frame("a", 1, "", image), seen, CONTRACT)
    assert len(frames_of(tmp_path / "out.mp4")) == 1 + 11 + 1 + 1 - 1


@pytest.mark.parametrize("codec", ["libx264", None])
def test_a_video_shows_its_pictures_in_order(
    tmp_path: Path, codec: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if codec is None:  # like a machine without PyAV
        monkeypatch.setitem(sys.modules, "av", None)
    values = (20, 120, 220)
    for name in ("a.mp4", "b.mp4"):
        with VideoWriter(tmp_path / name, 5) as video:
            assert video.is_h264 == (codec is not None)
            for value in values:
                video.write(np.full((49, 81, 3), value, np.uint8)[:, ::-1])
    shown = frames_of(tmp_path / "a.mp4")
    assert [frame.shape for frame in shown] == [(48, 80, 3)] * 3
    for frame, value in zip(shown, values, strict=True):
        assert abs(float(frame.mean()) - value) < 4
    assert (b"avc1" in (tmp_path / "a.mp4").read_bytes()) == (codec is not None)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("codec", ["libx264", None])
def test_a_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path, codec: str | None) -> None:
    # A limit on the size of files, because a full disk is hard to come by. It stays in the child process.
    code = f"""
import resource, sys
sys.dont_write_bytecode = True  # a compiled module would be cut without an error
import numpy as np
{"" if codec else "sys.modules['av'] = None"}
from ros_kd_perception.drawing.video import VideoError, VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    with VideoWriter("out.mp4", 10) as video:
        for number in range(30):
            video.write(np.random.default_rng(number).integers(0, 255, (120, 160, 3), np.uint8))
except VideoError as error:
    sys.exit(f"expected: {{error}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=without_counting(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("expected: expected to write out.mp4, got: ")
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_fails_or_stays_empty_leaves_nothing(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "empty.mp4", 5):
        pass

    def change_the_size() -> None:
        with VideoWriter(tmp_path / "odd.mp4", 5) as video:
            video.write(np.zeros((48, 80, 3), np.uint8))
            video.write(np.zeros((40, 80, 3), np.uint8))

    with pytest.raises(VideoError, match=r"of \(48, 80\)"):
        change_the_size()
    for wrong in ((tmp_path / "a.avi", 5), (tmp_path / "a.mp4", 0), (tmp_path / "none" / "a.mp4", 5)):
        with pytest.raises(VideoError, match="expected"):
            VideoWriter(*wrong)
    assert list(tmp_path.iterdir()) == []
