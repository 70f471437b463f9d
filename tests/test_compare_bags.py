"""Test `compare_bags` with bags that the replay wrote, and with bags that a vehicle could have recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from broken_students import rename, write_changed_student
from small_bag import write_small_bag
from tiny_student import CONTRACT, contract_with, write_tiny_model, write_tiny_student

from ros_kd_perception import compare_replay
from ros_kd_perception.bags.reader import (
    BagError,
    BagReader,
    BagWriter,
    RawMessage,
    decode_message,
    message_class,
    typestore,
)
from ros_kd_perception.compare_bags import main
from ros_kd_perception.differences import recorded_frames
from ros_kd_perception.replay import main as replay

BLUR_PX = 31


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bags")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_tiny_student(folder / "tiny.onnx")


@pytest.fixture(scope="module")
def drive(folder: Path) -> Path:
    return write_small_bag(folder / "drive.mcap")


@pytest.fixture(scope="module")
def sound(folder: Path, drive: Path, model: Path) -> Path:
    return perceived(drive, model, folder / "sound.mcap")


@pytest.fixture(scope="module")
def blurred(folder: Path, drive: Path, model: Path) -> Path:
    return perceived(rewritten(drive, folder / "blurred_drive.mcap", blur), model, folder / "blurred.mcap")


def perceived(bag: Path, model: Path, output: Path, *more: str) -> Path:
    assert replay([str(bag), "-o", str(output), "--model", str(model), "--quiet", *more]) == 0
    return output


Change = Callable[[RawMessage, Any], Iterator[tuple[str, int, Any]]]


def rewritten(bag: Path, output: Path, change: Change) -> Path:
    """Write a bag with the messages that `change` yields for each message: topic, log time and message."""
    with BagReader(bag, without_cameras=True) as source, BagWriter(output) as writer:
        for raw in source.raw_messages([topic.name for topic in source.topics]):
            for topic, log_time_ns, message in change(raw, decode_message(raw)):
                writer.write(topic, log_time_ns, message)
    return output


def blur(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if raw.topic.endswith("/image_raw"):
        picture = np.asarray(message.data).reshape(message.height, message.width, 3)
        message.data = cv2.blur(picture, (BLUR_PX, BLUR_PX)).reshape(-1)
    yield raw.topic, raw.log_time_ns, message


def later(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    """Record results when they arrive, 80 ms after the image, boxes before masks."""
    late_ns = 80_000_000 if "segmentation" in raw.topic else 70_000_000
    yield raw.topic, raw.log_time_ns + late_ns, message


def compare(old: Path, new: Path, output: Path, *more: object) -> int:
    return main([str(argument) for argument in (old, new, "-o", output, "--quiet", *more)])


def figures(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "differences.json").read_text(encoding="utf-8"))
    return found


def test_equal_bags_have_no_difference_whenever_they_were_recorded(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vehicle = rewritten(sound, tmp_path / "vehicle.mcap", later)
    assert compare(vehicle, sound, tmp_path / "out") == 0
    assert "No difference in 16 frames" in capsys.readouterr().out
    found = figures(tmp_path / "out")
    assert found["total"]["masks"]["changed_pixels"] == found["total"]["boxes"]["lost_share"] == 0
    assert found["frames_of_one_side"] == {"old": [], "new": []}


def test_blurred_images_are_found(sound: Path, blurred: Path, drive: Path, tmp_path: Path) -> None:
    assert compare(sound, blurred, tmp_path / "out", "--images", drive, "--worst", 3, "--video") == 1
    found = figures(tmp_path / "out")
    assert found["total"]["masks"]["changed_pixels"] > 0.05
    assert [one["camera"] for one in found["worst"]] == ["left", "front"]  # one in a second of each camera
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["differences.json", "differences.mp4", "report.html", "worst_01.jpg", "worst_02.jpg"]


def test_two_bags_give_the_figures_of_the_two_models(drive: Path, model: Path, sound: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other.onnx", contract_with(version="2"))
    changed = write_changed_student(tmp_path / "changed.onnx", other, lambda model: scale_weights(model, 0.8))
    bag = perceived(drive, changed, tmp_path / "changed.mcap")
    models = ["--model", str(model), "--model", str(changed)]
    compare_replay.main([str(drive), *models, "-o", str(tmp_path / "models"), "--quiet"])
    compare(sound, bag, tmp_path / "bags")
    of_models, of_bags = figures(tmp_path / "models"), figures(tmp_path / "bags")
    assert of_models["total"]["masks"]["changed_pixels"] > 0
    assert of_models["total"] == of_bags["total"]
    assert of_models["frames"] == of_bags["frames"]


def scale_weights(model: Any, factor: float) -> None:
    import onnx

    for tensor in model.graph.initializer:
        if tensor.name == "block":
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(factor), "block")
            )


def test_pictures_without_images_show_the_results(sound: Path, blurred: Path, tmp_path: Path) -> None:
    assert compare(sound, blurred, tmp_path / "out", "--worst", 1) == 1
    found = figures(tmp_path / "out")
    assert any("no bag holds the camera images" in text.lower() for text in found["verdict"]["sentences"])
    assert cv2.imread(str(tmp_path / "out" / "worst_01.jpg")).shape == (360, 1928, 3)


def test_a_bag_with_images_beside_the_results_is_used(sound: Path, blurred: Path, drive: Path, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "both.mcap") as writer:
        for path in (drive, sound):
            with BagReader(path, without_cameras=True) as source:
                for raw in source.raw_messages([topic.name for topic in source.topics]):
                    writer.write(raw.topic, raw.log_time_ns, decode_message(raw))
    assert compare(tmp_path / "both.mcap", blurred, tmp_path / "out") == 1
    found = figures(tmp_path / "out")
    assert found["conditions"]["images of"] == str(tmp_path / "both.mcap")
    assert not any("images" in text for text in found["verdict"]["sentences"])


def test_frames_that_one_side_lacks_are_counted(sound: Path, tmp_path: Path) -> None:
    dropped = iter(range(1000))

    def drop_some(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
        if raw.topic.endswith("front/segmentation") and next(dropped) in (1, 2):
            return
        yield raw.topic, raw.log_time_ns, message

    bag = rewritten(sound, tmp_path / "dropped.mcap", drop_some)
    assert compare(sound, bag, tmp_path / "out") == 1  # 2 of 16 frames
    found = figures(tmp_path / "out")
    assert found["total"]["frames"] == 14
    assert [frame["camera"] for frame in found["frames_of_one_side"]["old"]] == ["front", "front"]
    assert {one["option"] for one in found["limits"] if not one["kept"]} == {"--max-one-sided-frames"}
    assert compare(bag, sound, tmp_path / "back", "--max-one-sided-frames", 0.2) == 0
    assert len(figures(tmp_path / "back")["frames_of_one_side"]["new"]) == 2


def test_masks_of_another_size_are_compared_at_the_larger_one(sound: Path, tmp_path: Path) -> None:
    def double(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
        if raw.topic.endswith("/segmentation"):
            large = np.asarray(message.data).reshape(message.height, message.width).repeat(2, axis=0).repeat(2, axis=1)
            message.height, message.width = large.shape
            message.step, message.data = message.width, large.reshape(-1)
        elif raw.topic.endswith("/detections"):
            for detection in message.detections:
                box = detection.bbox
                box.center.position.x, box.center.position.y = box.center.position.x * 2, box.center.position.y * 2
                box.size_x, box.size_y = box.size_x * 2, box.size_y * 2
        yield raw.topic, raw.log_time_ns, message

    bag = rewritten(sound, tmp_path / "double.mcap", double)
    for name, (old, new) in {"there": (sound, bag), "back": (bag, sound)}.items():
        assert compare(old, new, tmp_path / name) == 0
        found = figures(tmp_path / name)["total"]
        assert found["masks"]["compared_px"] == 16 * 192 * 320
        assert found["masks"]["changed_pixels"] == 0
        assert (found["boxes"]["lost_share"], found["boxes"]["mean_iou"]) == (0, pytest.approx(1))


def test_a_camera_that_one_side_lacks_is_counted_whatever_it_recorded(sound: Path, tmp_path: Path) -> None:
    def without(text: str) -> Path:
        def kept(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
            if text not in raw.topic:
                yield raw.topic, raw.log_time_ns, message

        return rewritten(sound, tmp_path / f"{text.replace('/', '_')}.mcap", kept)

    masks, boxes, nothing = without("/left/detections"), without("/left/segmentation"), without("/left/")
    for name, (old, new), alone in (
        ("gone", (masks, nothing), (8, 0)),
        ("came", (nothing, boxes), (0, 8)),
        ("other task", (masks, boxes), (8, 8)),
    ):
        assert compare(old, new, tmp_path / name) == 1
        found = figures(tmp_path / name)
        assert (found["total"]["frames_only_old"], found["total"]["frames_only_new"]) == alone, name
        assert found["cameras"]["front"]["frames"] == 8
    assert compare(sound, masks, tmp_path / "common") == 0  # masks are on both sides
    assert figures(tmp_path / "common")["cameras"]["left"]["frames"] == 8


def test_masks_of_the_ground_are_not_those_of_a_camera(drive: Path, model: Path, sound: Path, tmp_path: Path) -> None:
    def calibrated(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
        if raw.topic.endswith("/camera_info"):
            message.k = np.array([100.0, 0, 80, 0, 100, 48, 0, 0, 1])
        yield raw.topic, raw.log_time_ns, message

    parameters = {
        "drivable_classes": ["road"], "ground_points.enabled": True, "publish_confidence": True,
        "front.mounting.height_m": 1.5, "front.mounting.pitch_deg": 15.0, "left.ground_points.enabled": False,
    }  # fmt: skip
    file = tmp_path / "perception.yaml"
    file.write_text(yaml.safe_dump({"/perception": {"ros__parameters": parameters}}), encoding="utf-8")
    bag = rewritten(drive, tmp_path / "calibrated.mcap", calibrated)
    results = perceived(bag, model, tmp_path / "ground.mcap", "--params-file", str(file))
    with BagReader(results, without_cameras=True) as written:
        topics = {topic.name for topic in written.topics}
        assert {"/perception/front/ground/segmentation", "/perception/front/confidence"} <= topics
    assert compare(results, sound, tmp_path / "out") == 0
    assert figures(tmp_path / "out")["cameras"].keys() == {"front", "left"}
    with pytest.raises(BagError, match=r"expected a topic of Image .*, found: /perception"):
        BagReader(results)  # results are not cameras
    # A camera may be called ground.
    ground = rewritten(sound, tmp_path / "named.mcap", lambda raw, message: iter(
        [(raw.topic.replace("/front/", "/ground/"), raw.log_time_ns, message)]
    ))  # fmt: skip
    assert compare(ground, ground, tmp_path / "named") == 0
    assert figures(tmp_path / "named")["cameras"].keys() == {"ground", "left"}


def test_one_task_and_one_camera_are_enough(sound: Path, drive: Path, tmp_path: Path) -> None:
    boxes_only = write_tiny_model(tmp_path / "boxes.onnx", contract_with(class_map=None))
    bag = perceived(drive, boxes_only, tmp_path / "boxes.mcap", "--camera", "left=/left/image_raw")
    assert compare(sound, bag, tmp_path / "out", "--cameras", "left", "--video") == 0
    found = figures(tmp_path / "out")
    assert found["cameras"].keys() == {"left"}
    assert "masks" not in found["total"]
    assert compare(sound, bag, tmp_path / "all") == 1  # half of the frames are on one side only


def with_topics(change: Callable[[str], str]) -> Change:
    def rename_topic(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
        yield change(raw.topic), raw.log_time_ns, message

    return rename_topic


def test_a_node_is_chosen_where_there_are_several(
    sound: Path, blurred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "two.mcap") as writer:
        for node, path in (("/car1/perception", sound), ("/car2/perception", blurred)):
            with BagReader(path, without_cameras=True) as source:
                for raw in source.raw_messages([topic.name for topic in source.topics]):
                    topic = raw.topic.replace("/perception", node)
                    writer.write(topic, raw.log_time_ns, decode_message(raw))
    assert compare(tmp_path / "two.mcap", sound, tmp_path / "out") == 2
    assert "found those of /car1/perception, /car2/perception; choose one with --node-a" in capsys.readouterr().err
    assert compare(tmp_path / "two.mcap", sound, tmp_path / "out", "--node-a", "/car1/perception") == 0
    assert compare(sound, tmp_path / "two.mcap", tmp_path / "other", "--node-b", "/car2/perception") == 1
    assert compare(sound, tmp_path / "two.mcap", tmp_path / "none", "--node-b", "/car3/perception") == 2
    assert "expected results of /car3/perception in" in capsys.readouterr().err


def with_names(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if raw.topic.endswith("/detections"):
        names = {str(info.id): info.name for info in CONTRACT.detection_classes}
        for box in message.detections:
            box.results[0].hypothesis.class_id = names[box.results[0].hypothesis.class_id]
    yield raw.topic, raw.log_time_ns, message


def test_class_ids_may_be_names(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = rewritten(sound, tmp_path / "named.mcap", with_names)
    assert compare(sound, named, tmp_path / "out") == 0
    assert "No difference in 16 frames" in capsys.readouterr().out


def without_labels(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if not raw.topic.endswith("/label_info"):
        yield raw.topic, raw.log_time_ns, message


def two_label_sets(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if raw.topic.endswith("left/segmentation/label_info"):
        message.class_map = message.class_map[1:]
    yield raw.topic, raw.log_time_ns, message


def hours_later(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if hasattr(message, "header") and message.header.stamp.sec:
        message.header.stamp.sec += 3600
    yield raw.topic, raw.log_time_ns, message


def as_colours(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if raw.topic.endswith("/segmentation"):
        message.encoding = "bgr8"
    yield raw.topic, raw.log_time_ns, message


def not_finite(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
    if raw.topic.endswith("/detections"):
        message.detections[0].bbox.size_x = float("nan")
    yield raw.topic, raw.log_time_ns, message


WRONG: dict[str, tuple[Change, str]] = {
    "no names": (without_labels, "expected the class names of /perception in .*label_info topic with a message"),
    "two label sets": (
        two_label_sets,
        "expected one label set in .*left/segmentation/label_info: the model was changed",
    ),
    "no shared frame": (hours_later, "expected frames with the same camera and header stamp in .* got 16 and 16"),
    "no shared camera": (
        with_topics(lambda topic: topic.replace("front", "rear").replace("left", "roof")),
        "expected a camera that .* share, got front, left and rear, roof",
    ),
    "colours": (as_colours, "expected a mono8 class map of front, got bgr8 160x96; record or replay the bag again"),
    "not finite": (not_finite, "expected finite boxes and scores of front, got NaN or infinity"),
    "no results": (with_topics(lambda topic: "/x" + topic.replace("/", "_")), "expected results of a perception node"),
}


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_a_wrong_bag_is_one_sentence_and_leaves_nothing(
    sound: Path, tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = WRONG[wrong]
    bag = rewritten(sound, tmp_path / "wrong.mcap", change)
    assert compare(sound, bag, tmp_path / "out", "--video") == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert re.search(said, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.mcap"]


def test_bags_that_cannot_be_read(sound: Path, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(sound.read_bytes()[:-5000])
    for old, new, more, said in (
        (sound, cut, (), "to be a complete bag"),
        (sound, tmp_path / "none.mcap", (), "expected a bag at"),
        (drive, sound, (), "expected results of a perception node in"),
        (sound, sound, ("--images", sound), "expected a topic of Image or CompressedImage in"),
        (sound, sound, ("--cameras", "rear"), "expected results of rear in .*, found those of front, left; correct"),
    ):
        assert compare(old, new, tmp_path / "out", *more) == 2
        [sentence] = capsys.readouterr().err.splitlines()
        assert re.search(said, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mcap"]


def test_a_message_that_was_recorded_twice_counts_once(sound: Path, tmp_path: Path) -> None:
    def twice(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
        yield raw.topic, raw.log_time_ns, message
        if raw.topic.endswith("left/detections"):
            yield raw.topic, raw.log_time_ns + 1, message

    bag = rewritten(sound, tmp_path / "twice.mcap", twice)
    assert compare(sound, bag, tmp_path / "out") == 0
    assert any("8 messages of a frame and topic" in text for text in figures(tmp_path / "out")["verdict"]["sentences"])


def test_bags_of_another_order_wait_only_so_long(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(sound, without_cameras=True) as bag:
        end_ns = max(raw.log_time_ns for raw in bag.raw_messages([topic.name for topic in bag.topics]))

    def backwards(raw: RawMessage, message: Any) -> Iterator[tuple[str, int, Any]]:
        yield raw.topic, 2 * end_ns - raw.log_time_ns, message

    bag_path = rewritten(sound, tmp_path / "backwards.mcap", backwards)
    assert compare(sound, bag_path, tmp_path / "out") == 0
    monkeypatch.setattr(recorded_frames, "MAX_WAITING_BYTES", 5 * 96 * 160)
    assert compare(sound, bag_path, tmp_path / "other") == 2
    assert "expected both bags to hold their frames in about the same order" in capsys.readouterr().err


def test_a_label_set_of_other_names_is_compared_by_common_ones(
    sound: Path, drive: Path, model: Path, tmp_path: Path
) -> None:
    student = write_changed_student(tmp_path / "other.onnx", model, change_contract=rename({"car": "vehicle"}))
    bag = perceived(drive, student, tmp_path / "other.mcap")
    compare(sound, bag, tmp_path / "out")
    found = figures(tmp_path / "out")
    assert found["classes"]["boxes"]["only_new"] == ["vehicle"]
    assert found["total"]["masks"]["changed_pixels"] == 0


def test_a_damaged_message_is_named(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = "vision_msgs/msg/Detection2DArray"
    with BagReader(sound, without_cameras=True) as bag, BagWriter(tmp_path / "cut.mcap") as writer:
        for raw in bag.raw_messages([topic.name for topic in bag.topics]):
            message = decode_message(raw)
            if raw.topic.endswith("left/detections"):
                writer.add_topic(raw.topic, kind) if raw.topic not in writer._connections else None
                data = bytes(typestore().serialize_cdr(message, kind))
                writer.write_raw(raw.topic, raw.log_time_ns, data[:60])
            else:
                writer.write(raw.topic, raw.log_time_ns, message)
    assert message_class(kind)
    assert compare(sound, tmp_path / "cut.mcap", tmp_path / "out") == 2
    assert "expected /perception/left/detections to hold a vision_msgs/msg/Detection2DArray" in capsys.readouterr().err
