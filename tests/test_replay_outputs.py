"""What a replay writes beside the results: the images of the input, unchanged, and a recording for Rerun."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rerun.chunk import RrdReader
from small_bag import START_NS, camera_info, image_message, moving_picture, write_small_bag, write_timed_bag
from telemetry_watch import TelemetryWatch
from tiny_student import CONTRACT, contract_with, write_tiny_model, write_tiny_student
from uncounted import without_counting

from ros_kd_perception.bags import mcap_storage
from ros_kd_perception.bags.reader import BagReader, BagWriter, RawMessage, decode_message
from ros_kd_perception.drawing import rerun_file, video
from ros_kd_perception.images.message import frame_from_message
from ros_kd_perception.replay import main
from ros_kd_perception.structures import Detections, Frame, Perception, Timing


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx")


def replay(bag: Path, output: Path, model: Path, *more: object) -> int:
    return main([str(bag), "-o", str(output), "--model", str(model), "--quiet", *map(str, more)])


def messages_of(path: Path) -> list[RawMessage]:
    with BagReader(path, without_cameras=True) as bag:
        return list(bag.raw_messages([topic.name for topic in bag.topics]))


def of_the_cameras(path: Path) -> list[tuple[str, str, int, bytes]]:
    """Return topic, type, time and bytes of each message of a camera, in the order of the bag."""
    return [
        (m.topic, m.message_type, m.log_time_ns, bytes(m.data))
        for m in messages_of(path)
        if not m.topic.startswith("/perception/")
    ]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("output", ["out.mcap", "out"])
def test_one_bag_holds_images_and_results(model: Path, tmp_path: Path, compressed: bool, output: str) -> None:
    bag = write_small_bag(tmp_path / "in.mcap", frames=4, compressed=compressed)
    assert replay(bag, tmp_path / output, model, "--with-images") == 0
    assert of_the_cameras(tmp_path / output) == of_the_cameras(bag)
    assert replay(bag, tmp_path / "without.mcap", model) == 0
    results = [m for m in messages_of(tmp_path / output) if m.topic.startswith("/perception/")]
    assert [(m.topic, m.log_time_ns, bytes(m.data)) for m in results] == [
        (m.topic, m.log_time_ns, bytes(m.data)) for m in messages_of(tmp_path / "without.mcap")
    ]
    with BagReader(tmp_path / output) as again:
        assert list(again.cameras) == ["front", "left"]  # a viewer or a second replay finds the cameras


def test_each_camera_info_is_written_once_and_in_its_place(model: Path, tmp_path: Path) -> None:
    bag = tmp_path / "in.mcap"
    with BagWriter(bag) as writer:
        for number in range(5):
            time_ns = START_NS + number * 10**8
            writer.write(
                "/front/image_raw", time_ns, image_message("front", time_ns, moving_picture((96, 160), number))
            )
            if number > 1:  # the first one comes after two images; two of them are equal
                writer.write("/front/camera_info", time_ns + 1, camera_info("front", (96, 160)))
    assert replay(bag, tmp_path / "out.mcap", model, "--with-images") == 0
    assert of_the_cameras(tmp_path / "out.mcap") == of_the_cameras(bag)


def test_a_damaged_camera_info_costs_only_itself(model: Path, tmp_path: Path) -> None:
    bag = tmp_path / "in.mcap"
    with BagWriter(bag) as writer:
        writer.add_topic("/front/camera_info", "sensor_msgs/msg/CameraInfo")
        writer.write_raw("/front/camera_info", START_NS, b"\0\1\0\0cut off")
        for number in range(3):
            time_ns = START_NS + number * 10**8 + 1
            picture = moving_picture((96, 160), number)
            writer.write("/front/image_raw", time_ns, image_message("front", time_ns, picture))
            writer.write("/front/camera_info", time_ns + 1, camera_info("front", (96, 160)))
    assert replay(bag, tmp_path / "out.mcap", model, "--with-images") == 0
    assert of_the_cameras(tmp_path / "out.mcap") == of_the_cameras(bag)[1:]


def test_what_cameras_share_is_written_once(model: Path, tmp_path: Path) -> None:
    bag = tmp_path / "in.mcap"
    with BagWriter(bag) as writer:
        for number in range(4):
            time_ns = START_NS + number * 10**8
            writer.write("/front/camera_info", time_ns, camera_info("front", (96, 160)))
            for topic in ("/front/image_raw", "/front/image_rect"):
                writer.write(topic, time_ns + 1, image_message("front", time_ns, moving_picture((96, 160), number)))
    cameras = ("--camera", "near=/front/image_raw", "--camera", "far=/front/image_raw")
    for more in ((), ("--limit", "7")):
        output = tmp_path / f"out{len(more)}.mcap"
        chosen = (*cameras, "--camera", "rect=/front/image_rect")
        assert replay(bag, output, model, "--with-images", *chosen, *more) == 0
        assert of_the_cameras(output) == of_the_cameras(bag)[: len(of_the_cameras(output))]
        found = Counter(m.topic for m in messages_of(output))
        assert [found[f"/perception/{camera}/segmentation"] for camera in ("near", "far", "rect")] == (
            [3, 2, 2] if more else [4, 4, 4]
        )


def test_images_that_were_not_perceived_are_left_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = tmp_path / "in.mcap"
    with BagWriter(bag) as writer:
        for number, stamp in enumerate((1, 2, 2, 3)):  # a repeated frame is dropped
            time_ns = START_NS + number * 10**8
            picture = moving_picture((96, 160), stamp)
            writer.write("/front/image_raw", time_ns, image_message("front", START_NS + stamp * 10**8, picture))
        broken = image_message("front", START_NS + 10**9, moving_picture((96, 160), 9))
        broken.encoding = "none"
        writer.write("/front/image_raw", START_NS + 10**9, broken)
    decoded: list[str] = []

    def counted(camera: str, message: Any) -> Frame:
        decoded.append(camera)
        return frame_from_message(camera, message)

    monkeypatch.setattr("ros_kd_perception.bags.reader.frame_from_message", counted)
    assert replay(bag, tmp_path / "out.mcap", model, "--with-images") == 0
    before = of_the_cameras(bag)
    assert of_the_cameras(tmp_path / "out.mcap") == [before[0], before[1], before[3]]
    assert len(decoded) == 5  # each image once


def test_a_full_disk_leaves_nothing_and_says_one_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_small_bag(tmp_path / "in.mcap", frames=4)
    write, images = mcap_storage.McapStorage.write, []

    def until_full(self: Any, connection: Any, timestamp: int, data: Any) -> None:
        images.extend([connection.topic] * connection.topic.endswith("image_raw"))
        if len(images) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, connection, timestamp, data)

    (tmp_path / "made").mkdir()
    monkeypatch.setattr(mcap_storage.McapStorage, "write", until_full)
    outputs = ("--with-images", "--rerun", tmp_path / "made" / "out.rrd")
    assert replay(bag, tmp_path / "made" / "out.mcap", model, *outputs) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "No space left on device; make room and try again" in line
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("stops", ["a full disk", "an interrupt"])
@pytest.mark.parametrize("last", ["bag", "video", "recording"])
def test_no_output_has_its_name_before_all_are_complete(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, stops: str
) -> None:
    bag, made = write_small_bag(tmp_path / "in.mcap", frames=2), tmp_path / "made"
    made.mkdir()
    (made / "out.mp4").write_bytes(b"of yesterday")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt if stops == "an interrupt" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    part, method = {
        "bag": (mcap_storage.McapBagWriter, "close"),
        "video": (video._H264Sink, "close"),
        "recording": (rerun_file._PipeToFile, "check"),
    }[last]
    calls: list[int] = []

    def stopped(own: Any, *arguments: Any) -> Any:
        calls.append(0)
        later = len(calls) - (4 if last == "recording" else 0)  # it is checked after each of its four frames
        return stop() if later == 1 or (later > 1 and stops == "a full disk") else original(own, *arguments)

    original = getattr(part, method)
    monkeypatch.setattr(part, method, stopped)
    outputs = ("--overlay", made / "out.mp4", "--rerun", made / "out.rrd", "--force")
    assert replay(bag, made / "out.mcap", model, *outputs) == (130 if stops == "an interrupt" else 2)
    assert [path.name for path in made.iterdir()] == ["out.mp4"]
    assert (made / "out.mp4").read_bytes() == b"of yesterday"


def test_a_bag_without_camera_info_says_what_it_costs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_timed_bag(tmp_path / "in.mcap", [("front", 0), ("left", 0.1), ("front", 0.2)])
    parameters = {
        "drivable_classes": ["road"], "scan.enabled": True, "left.scan.enabled": False,
        "ground_points.enabled": True, "left.ground_points.enabled": False, "front.mounting.height_m": 1.5,
        "front.ground_detections.enabled": True, "publish_camera_info": True,
    }  # fmt: skip
    file = tmp_path / "perception.yaml"
    file.write_text(yaml.safe_dump({"/perception": {"ros__parameters": parameters}}), encoding="utf-8")
    assert replay(bag, tmp_path / "out.mcap", model, "--params-file", file) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": expected")[0] for line in told] == [
        "front: no scan and no points on the ground",
        "front: no positions on the ground",
        "front: no camera_info",
        "left: no camera_info",
    ]
    assert all(line.endswith("camera_info beside the images, the bag has none; record it, too") for line in told)
    # One CameraInfo at the end of the bag is enough, because the first one counts from the start.
    bag = write_timed_bag(tmp_path / "late.mcap", [("front", 0), ("left", 0.1)], camera_info_s=1)
    assert replay(bag, tmp_path / "late_out.mcap", model, "--params-file", file) == 0
    assert "the bag has none" not in capsys.readouterr().err


def test_tracking_needs_a_model_with_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_small_bag(tmp_path / "in.mcap", frames=1)
    masks = write_tiny_model(tmp_path / "masks.onnx", contract_with(detections=None))
    assert replay(bag, tmp_path / "out.mcap", masks, "--track") == 2
    assert "expected a model that does detection for --track, got tiny" in capsys.readouterr().err
    assert not (tmp_path / "out.mcap").exists()
    # The file may be one of a vehicle that runs another model otherwise.
    file = tmp_path / "perception.yaml"
    file.write_text("/perception: {ros__parameters: {track_objects: true}}")
    assert replay(bag, tmp_path / "out.mcap", masks, "--params-file", file) == 0
    told = capsys.readouterr().err
    assert "track_objects has no effect: expected a model that does detection, got tiny, which does segmen" in told


def test_a_model_of_boxes_alone_has_no_outputs_beside_the_mask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_small_bag(tmp_path / "in.mcap", frames=1)
    boxes = write_tiny_model(tmp_path / "boxes.onnx", contract_with(class_map=None))
    file = tmp_path / "perception.yaml"
    file.write_text("/perception: {ros__parameters: {publish_confidence: true, publish_camera_info: false}}")
    assert replay(bag, tmp_path / "out.mcap", boxes, "--params-file", file) == 0
    told = capsys.readouterr().err
    assert "publish_confidence has no effect: expected a model that does segmentation, got tiny" in told
    assert "publish_camera_info" not in told


# Recordings for Rerun


def chunks_of(path: Path) -> list[Any]:
    return list(RrdReader(path).stream())


def column(path: Path, entity: str, ending: str) -> list[Any]:
    """Return the values of a component of an entity, in the order of the stamps."""
    rows = []
    for chunk in chunks_of(path):
        if chunk.entity_path == entity and not chunk.is_static:
            batch = chunk.to_record_batch()
            [name] = [name for name in batch.schema.names if name.endswith(ending)]
            stamps = batch.column("stamp").cast("int64").to_pylist()
            rows += zip(stamps, batch.column(name).to_pylist(), strict=True)
    return [value for _, value in sorted(rows, key=lambda row: row[0])]


def stamps(path: Path, entity: str) -> list[int]:
    found = [c.to_record_batch() for c in chunks_of(path) if c.entity_path == entity and not c.is_static]
    return sorted(stamp for batch in found for stamp in batch.column("stamp").cast("int64").to_pylist())


def test_the_recording_has_every_frame_with_its_mask_and_boxes(model: Path, tmp_path: Path) -> None:
    bag, path = write_small_bag(tmp_path / "in.mcap", frames=20), tmp_path / "out.rrd"
    assert replay(bag, tmp_path / "out.mcap", model, "--rerun", path, "--track") == 0
    images = [row for row in of_the_cameras(bag) if row[0].endswith("image_raw")]
    assert list(tmp_path.glob(".*")) == []
    for camera in ("front", "left"):
        times = [time_ns for topic, _, time_ns, _ in images if topic == f"/{camera}/image_raw"]
        for entity in ("image", "mask", "boxes"):
            assert stamps(path, f"/{camera}/{entity}") == times
    with BagReader(tmp_path / "out.mcap", without_cameras=True) as results:
        names = {str(info.id): info.name for info in CONTRACT.detections.classes}
        expected = [
            [
                f"{names[box.results[0].hypothesis.class_id]} {box.results[0].hypothesis.score:.2f}"
                + (f" #{box.id}" if box.id else "")
                for box in decode_message(message).detections
            ]
            for message in results.raw_messages(["/perception/front/detections"])
        ]
        masks = [decode_message(m).data.tobytes() for m in results.raw_messages(["/perception/front/segmentation"])]
    labels = [found or [] for found in column(path, "/front/boxes", ":labels")]
    assert labels == expected
    assert sum(map(len, labels)) > 20
    assert any("#" in label for found in labels for label in found)
    assert [bytes(blob[0]) for blob in column(path, "/front/mask", ":buffer")] == masks
    jpeg = np.frombuffer(bytes(column(path, "/front/image", ":blob")[0][0]), np.uint8)
    picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert np.abs(picture.astype(int) - moving_picture((96, 160), 0)).mean() < 6


def test_the_recording_names_and_colours_the_classes(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.rrd"
    assert replay(write_small_bag(tmp_path / "in.mcap", frames=1), tmp_path / "out.mcap", model, "--rerun", path) == 0
    tables = {
        chunk.entity_path: chunk.to_record_batch().column("AnnotationContext:context").to_pylist()[0][0]
        for chunk in chunks_of(path)
        if chunk.is_static and chunk.entity_path.startswith("/front/")
    }
    assert tables.keys() == {"/front/mask", "/front/boxes"}
    for entity, classes in (("mask", CONTRACT.class_map.classes), ("boxes", CONTRACT.detections.classes)):
        infos = [row["class_description"]["info"] for row in tables[f"/front/{entity}"]]
        found = {info["id"]: (info["label"], tuple(info["color"].to_bytes(4, "big"))) for info in infos}
        if entity == "mask":
            assert found.pop(CONTRACT.class_map.unlabeled_id) == ("unlabeled", (0, 0, 0, 0))
        assert found == {info.id: (info.name, (*info.color_rgb, 255)) for info in classes}


@pytest.mark.parametrize(("absent", "entities"), [("class_map", {"image", "boxes"}), ("detections", {"image", "mask"})])
def test_a_model_of_one_task_has_a_recording_of_it(tmp_path: Path, absent: str, entities: set[str]) -> None:
    one_task = write_tiny_model(tmp_path / "one.onnx", contract_with(**{absent: None}))
    bag = write_timed_bag(tmp_path / "in.mcap", [("front", 0.0), ("front", 0.1)])
    assert replay(bag, tmp_path / "out.mcap", one_task, "--rerun", tmp_path / "out.rrd") == 0
    rows: Counter[str] = Counter()
    for chunk in chunks_of(tmp_path / "out.rrd"):
        if chunk.entity_path.startswith("/front/") and not chunk.is_static:
            rows[chunk.entity_path.removeprefix("/front/")] += chunk.num_rows
    assert rows == dict.fromkeys(entities, 2)


def perceived(number: int) -> tuple[Frame, Perception]:
    frame = Frame("front", START_NS + number, "optical", moving_picture((96, 160), number))
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    class_map = np.full((96, 160), number % 9, np.uint8)
    return frame, Perception("front", frame.stamp_ns, "optical", class_map, nothing, None, Timing(1, 1, 1))


LIMITED = """
import resource, signal, sys
sys.dont_write_bytecode = True  # a compiled module would be cut without an error
sys.path[:0] = sys.argv[2:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from test_replay_outputs import perceived
from tiny_student import CONTRACT
from ros_kd_perception.drawing.rerun_file import RerunError, RerunFile

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    with RerunFile("out.rrd", ["front"], CONTRACT) as recording:
        for number in range(40):
            recording.add(*perceived(number))
except RerunError as error:
    print(error)
"""


def test_a_full_disk_ends_a_recording_with_one_sentence_wherever_it_ends(tmp_path: Path) -> None:
    def write_within(limit_bytes: int) -> tuple[str, int]:
        command = [sys.executable, "-c", LIMITED, str(limit_bytes), str(Path(__file__).parent), *sys.path]
        outcome = subprocess.run(
            command, cwd=tmp_path, env=without_counting(os.environ), capture_output=True, text=True, check=True
        )
        assert outcome.stderr == ""
        files = list(tmp_path.iterdir())
        size = sum(file.stat().st_size for file in files)
        for file in files:
            assert file.name == "out.rrd"
            file.unlink()
        return outcome.stdout, size

    said, whole_bytes = write_within(1 << 30)
    assert said == ""
    assert whole_bytes > 20_000
    for limit_bytes in (100, 5_000, whole_bytes // 2):
        said, left_bytes = write_within(limit_bytes)
        assert left_bytes == 0
        [line] = said.splitlines()
        assert line.startswith("expected to write out.rrd, got: ")
        assert line.endswith("make room and try again")


def test_unusable_outputs_are_refused_in_one_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = write_small_bag(tmp_path / "in.mcap", frames=2), tmp_path / "new" / "out.mcap"
    (tmp_path / "taken.rrd").write_bytes(b"old")

    def refused(*more: object) -> str:
        assert replay(bag, out, model, *more) == 2
        assert not out.parent.exists()
        printed = capsys.readouterr()
        assert printed.out == ""
        [line] = printed.err.splitlines()
        assert line.startswith("replay_bag: expected")
        return line

    assert "to exist, it does not; create it first" in refused("--rerun", tmp_path / "none" / "out.rrd")
    assert "--overlay to name an .mp4 file, got" in refused("--overlay", tmp_path / "out.avi")
    assert "to a .rrd file, got" in refused("--rerun", tmp_path / "out.txt")
    assert "taken.rrd exists; choose another name" in refused("--rerun", tmp_path / "taken.rrd")
    monkeypatch.setenv("RERUN", "off")
    assert "RERUN=off in the environment; remove this variable" in refused("--rerun", tmp_path / "out.rrd")
    monkeypatch.delenv("RERUN")
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert "install the [rerun] extra of ros_kd_perception" in refused("--rerun", tmp_path / "out.rrd")
    assert (tmp_path / "taken.rrd").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"in.mcap", "taken.rrd"}


def test_force_replaces_a_recording_when_the_new_one_is_complete(model: Path, tmp_path: Path) -> None:
    bag, path = write_small_bag(tmp_path / "in.mcap", frames=2), tmp_path / "out.rrd"
    path.write_bytes(b"old")
    assert replay(bag, tmp_path / "out.mcap", model, "--rerun", path, "--force") == 0
    assert len(stamps(path, "/front/image")) == 2
    assert path.stat().st_mode & 0o777 == (tmp_path / "out.mcap").stat().st_mode & 0o777


def test_a_picture_that_cannot_be_a_jpeg_ends_the_recording_and_says_so(tmp_path: Path) -> None:
    class_map = np.zeros((1, 70_000), np.uint8)
    frame = Frame("front", START_NS, "optical", np.zeros((1, 70_000, 3), np.uint8))
    wide = Perception("front", START_NS, "optical", class_map, None, None, Timing(1, 1, 1))

    def record() -> None:
        with rerun_file.RerunFile(tmp_path / "out.rrd", ["front"], CONTRACT) as recording:
            recording.add(*perceived(1))
            recording.add(frame, wide)

    with pytest.raises(rerun_file.RerunError, match="replay without this recording"):
        record()
    assert list(tmp_path.iterdir()) == []


def test_without_frames_there_is_no_recording(tmp_path: Path) -> None:
    with rerun_file.RerunFile(tmp_path / "out.rrd", ["front"], CONTRACT):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_recording_sends_nothing(model: Path, tmp_path: Path) -> None:
    bag, watch = write_small_bag(tmp_path / "in.mcap", frames=2), TelemetryWatch(tmp_path / "watch")
    command = [sys.executable, "-m", "ros_kd_perception.replay", bag, "-o", tmp_path / "out.mcap", "--model", model]
    subprocess.run([*command, "--quiet", "--rerun", tmp_path / "out.rrd"], env=watch.environment, check=True)
    assert len(stamps(tmp_path / "out.rrd", "/front/image")) == 2
    assert watch.lookups() == []
    assert not [path for path in (tmp_path / "watch" / "home").rglob("*") if "rerun" in path.name]
