"""Test `compare_replay` with real bags and networks: equal models differ nowhere, and every fault is found."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from broken_students import blur_input, perturb_weights, rename, swap_names, write_changed_student
from onnx import numpy_helper
from small_bag import START_NS, image_message, write_small_bag
from tiny_student import BOXES_XYXY, contract_with, diverge_on_black, write_tiny_model, write_tiny_student

from ros_kd_perception.bags.reader import BagWriter, message_class
from ros_kd_perception.compare_replay import main
from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.render_drive import main as render_drive
from ros_kd_perception.system.shipped_files import SHIPPED_STUDENT, shipped_file

WIDE = ("--min-class-iou", 0, "--max-changed-pixels", 1, "--max-changed-pixels-of-a-frame", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_student(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bag(tmp_path_factory.mktemp("bag") / "drive.mcap")


def compare(bag: Path, old: Path, new: Path, folder: Path, *more: object) -> int:
    arguments = [bag, "--model", old, "--model", new, "-o", folder, "--quiet", "--threads", 2, *more]
    return main([str(argument) for argument in arguments])


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "differences.json").read_text(encoding="utf-8"))
    return found


def broken(folder: Path) -> set[str]:
    """Return the options of the limits that are not kept."""
    return {one["option"] for one in figures(folder)["limits"] if not one["kept"]}


def shift_boxes(model: onnx.ModelProto) -> None:
    """Move all boxes by three pixels, which is little enough to match them."""
    for tensor in model.graph.initializer:
        if tensor.name == "boxes_row":
            tensor.CopyFrom(numpy_helper.from_array(BOXES_XYXY[None] + np.float32(3), tensor.name))


def test_equal_models_have_no_difference(
    bag: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())

    assert compare(bag, model, copy, tmp_path / "out", "--video") == 0

    assert "No difference in 16 frames" in capsys.readouterr().out
    found = figures(tmp_path / "out")
    assert found["verdict"]["within_limits"]
    assert found["total"]["masks"]["changed_pixels"] == 0
    assert found["total"]["masks"]["changed_pixels_of_frames"]["max"] == 0
    boxes = found["total"]["boxes"]
    assert (boxes["lost_share"], boxes["new_share"], boxes["mean_iou"], boxes["mean_score_distance"]) == (0, 0, 1, 0)
    assert found["total"]["frames"] == len(found["frames"]) == 16
    assert {row["camera"] for row in found["frames"]} == {"front", "left"}
    assert all(row["changed_pixels"] == row["lost"] == row["new"] == 0 for row in found["frames"])
    assert all(set(row["class_iou"].values()) <= {1.0} for row in found["frames"])
    assert found["worst"] == []
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["differences.json", "differences.mp4", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.onnx", "out"]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("other weights", {"--max-changed-pixels", "--max-changed-pixels-of-a-frame", "--min-class-iou"}),
        ("swapped classes", {"--min-class-iou", "--max-lost-boxes", "--max-new-boxes"}),
        ("blurred input", {"--max-changed-pixels", "--max-changed-pixels-of-a-frame", "--min-class-iou"}),
        ("shifted boxes", {"--min-box-iou"}),
    ],
)
def test_a_broken_student_is_found(
    bag: Path, model: Path, tmp_path: Path, fault: str, found: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "other weights": {"change_graph": perturb_weights(0.3)},
        "swapped classes": {"change_contract": swap_names("car", "pedestrian")},
        "blurred input": {"change_graph": blur_input},
        "shifted boxes": {"change_graph": shift_boxes},
    }
    student = write_changed_student(tmp_path / "broken.onnx", model, **changes[fault])

    assert compare(bag, model, student, tmp_path / "out") == 1

    assert found <= broken(tmp_path / "out")
    assert re.search(r"Beyond \d of 9 limits\n", capsys.readouterr().out)
    assert figures(tmp_path / "out")["worst"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive of three small frames: the shipped student takes most of a second to open and warm up."""
    path = tmp_path_factory.mktemp("rendered") / "drive.mcap"
    options = ["--size", "320x180", "--duration-s", "1", "--rate-hz", "3", "--cameras", "front", "--processes", "1"]
    assert render_drive(["-o", str(path), *options]) == 0
    return path


@pytest.mark.parametrize("fault", ["none", "other weights", "swapped classes", "blurred input"])
def test_a_broken_copy_of_the_shipped_student_is_found(rendered: Path, tmp_path: Path, fault: str) -> None:
    shipped = shipped_file(SHIPPED_STUDENT)
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "other weights": {"change_graph": perturb_weights(0.05)},
        "swapped classes": {"change_contract": swap_names("road", "pavement")},
        "blurred input": {"change_graph": blur_input},
    }
    student = write_changed_student(tmp_path / "student.onnx", shipped, **changes[fault])

    assert compare(rendered, shipped, student, tmp_path / "out") == (fault != "none")

    assert (figures(tmp_path / "out")["verdict"]["headline"] == "No difference in 3 frames") == (fault == "none")


def test_limits_decide_the_exit_status(bag: Path, model: Path, tmp_path: Path) -> None:
    student = write_changed_student(tmp_path / "broken.onnx", model, perturb_weights(0.3))
    assert compare(bag, model, student, tmp_path / "out", *WIDE) == 0
    changed = figures(tmp_path / "out")["total"]["masks"]["changed_pixels"]
    assert compare(bag, model, student, tmp_path / "more", *WIDE, "--max-changed-pixels", changed * 0.99) == 1
    assert compare(bag, model, student, tmp_path / "less", *WIDE, "--max-changed-pixels", changed * 1.01) == 0


def test_pictures_show_both_sides_and_what_differs(bag: Path, model: Path, tmp_path: Path) -> None:
    student = write_changed_student(tmp_path / "broken.onnx", model, perturb_weights(0.3))
    assert compare(bag, model, student, tmp_path / "out", "--worst", 2, "--video", "--video-seconds", 0.5) == 1
    found = figures(tmp_path / "out")
    assert [one["picture"] for one in found["worst"]] == ["worst_01.jpg", "worst_02.jpg"]
    for one in found["worst"]:
        picture = cv2.imread(str(tmp_path / "out" / one["picture"]))
        assert picture.shape == (360, 1928, 3)
        assert one["changed_pixels"] > 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r"https?://|<script|<link|src=\"(?!data:)", page)
    video = cv2.VideoCapture(str(tmp_path / "out" / "differences.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (1928, 724)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 6  # those of 0 to 0.5 s at 10 Hz
    assert any("the first 0.5 s" in sentence for sentence in found["verdict"]["sentences"])


def test_models_of_other_label_sets_are_compared_by_common_names(bag: Path, model: Path, tmp_path: Path) -> None:
    names = {"car": "vehicle", "tree": "plant"}
    student = write_changed_student(tmp_path / "other.onnx", model, change_contract=rename(names))
    compare(bag, model, student, tmp_path / "out")
    found = figures(tmp_path / "out")
    masks, boxes = found["classes"]["masks"], found["classes"]["boxes"]
    assert (set(masks["only_old"]), set(masks["only_new"])) == ({"car", "tree"}, {"vehicle", "plant"})
    assert (boxes["only_old"], boxes["only_new"]) == (["car"], ["vehicle"])
    assert found["total"]["masks"]["changed_pixels"] == 0
    assert 0 < found["total"]["masks"]["left_out_pixels"] < 1
    assert (found["total"]["boxes"]["lost_share"], found["total"]["boxes"]["left_out"]) == (0, 32)
    told = " ".join(found["verdict"]["sentences"])
    assert "The label sets of the masks differ: compared are the 9 classes" in told
    assert "No difference" not in found["verdict"]["headline"]


@pytest.mark.parametrize(("absent", "there"), [("class_map", "boxes"), ("detections", "masks")])
def test_a_model_of_one_task_is_compared_by_it(bag: Path, model: Path, tmp_path: Path, absent: str, there: str) -> None:
    one_task = write_tiny_model(tmp_path / "one.onnx", contract_with(**{absent: None}))
    assert compare(bag, model, one_task, tmp_path / "out", "--video") == 0
    found = figures(tmp_path / "out")
    assert {"masks", "boxes"} & found["total"].keys() == {there}
    assert any("are not compared" in sentence for sentence in found["verdict"]["sentences"])


def test_models_of_other_inputs_see_the_same_frames(bag: Path, model: Path, tmp_path: Path) -> None:
    larger = write_tiny_model(tmp_path / "larger.onnx", contract_with(input=InputSpec(96, 160)))
    assert compare(bag, model, larger, tmp_path / "out", *WIDE, "--min-box-iou", 0, "--max-lost-boxes", 1,
                   "--max-new-boxes", 1) == 0  # fmt: skip
    found = figures(tmp_path / "out")
    assert found["total"]["masks"]["compared_px"] == 16 * 96 * 160
    assert 0 < found["total"]["masks"]["changed_pixels"] < 1


def test_frames_are_prepared_once_for_equal_inputs(
    bag: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, prepared = Perceiver.prepare, []

    def counting(*arguments: Any, **options: Any) -> Any:
        prepared.append(arguments)
        return prepare(*arguments, **options)

    monkeypatch.setattr(Perceiver, "prepare", counting)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    assert compare(bag, model, copy, tmp_path / "out") == 0
    assert len(prepared) == 16


def black_frame_bag(path: Path) -> Path:
    with BagWriter(path) as writer:
        for index, value in enumerate((90, 0, 90)):
            stamp_ns = START_NS + index * 100_000_000
            picture = np.full((96, 160, 3), value + index, np.uint8) if value else np.zeros((96, 160, 3), np.uint8)
            writer.write("/front/image_raw", stamp_ns, image_message("front", stamp_ns, picture))
    return path


def test_a_model_that_fails_on_a_frame_stops_the_comparison_unless_it_is_counted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square = contract_with(input=InputSpec(96, 160))  # no padding, so a black frame is black for the network
    sound = write_tiny_model(tmp_path / "sound.onnx", square)
    failing = write_tiny_model(tmp_path / "failing.onnx", square, diverge_on_black)
    frames = black_frame_bag(tmp_path / "black.mcap")

    assert compare(frames, sound, failing, tmp_path / "out") == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert "expected both models to perceive each frame, " in sentence
    assert "failing.onnx failed on front at stamp 1700000000100000000 ns: DivergedOutput" in sentence
    assert "--count-failures" in sentence
    assert not (tmp_path / "out").exists()

    assert compare(frames, sound, failing, tmp_path / "out", "--count-failures") == 1
    found = figures(tmp_path / "out")
    assert found["frames_of_one_side"]["old"] == [{"camera": "front", "stamp_ns": START_NS + 100_000_000}]
    assert broken(tmp_path / "out") == {"--max-one-sided-frames"}
    assert (found["total"]["frames"], found["total"]["frames_only_old"]) == (2, 1)


def test_a_frame_that_both_cannot_use_is_counted(model: Path, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive.mcap") as writer:
        for index in range(3):
            stamp_ns = START_NS + index * 100_000_000
            message = image_message("front", stamp_ns, np.full((96, 160, 3), 50 + index, np.uint8))
            if index == 1:
                message = replace(message, encoding="nonsense")
            writer.write("/front/image_raw", stamp_ns, message)
    assert compare(tmp_path / "drive.mcap", model, model, tmp_path / "out") == 0
    assert figures(tmp_path / "out")["frames_without_results"] == {"unknown_encoding": 1}


def note_bag(path: Path) -> Path:
    with BagWriter(path) as writer:
        writer.write("/note", START_NS, message_class("std_msgs/msg/String")(data="no camera"))
    return path


def damaged_bag(path: Path) -> Path:
    content = bytearray(write_small_bag(path.with_name("whole.mcap"), frames=40).read_bytes())
    content[content.rindex(b"zstd", 0, len(content) * 3 // 4) + 24] ^= 0xFF
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bag without cameras", "expected a topic of Image or CompressedImage in .*, found: /note"),
        ("damaged bag", r"damaged\.mcap to be an undamaged bag, got: .*; repair it with"),
        ("no bag", "expected a bag at .*, found nothing"),
        ("not a model", "model"),
        ("other classes", "expected two sides with a class of the same name .* compare sides of one label set"),
        ("taken name", "expected a free name for the output, .* exists; choose another name"),
        ("all frames dropped", "expected frames in .* that both models can perceive, got none; .* unknown_encoding 1"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_leaves_nothing(
    bag: Path, model: Path, tmp_path: Path, wrong: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new, folder = model, tmp_path / "results" / "out"
    (tmp_path / "results").mkdir()
    if wrong == "bag without cameras":
        bag = note_bag(tmp_path / "note.mcap")
    elif wrong == "damaged bag":
        bag = damaged_bag(tmp_path / "damaged.mcap")
    elif wrong == "no bag":
        bag = tmp_path / "none.mcap"
    elif wrong == "not a model":
        new = tmp_path / "text.onnx"
        new.write_text("not a network")
    elif wrong == "other classes":
        names = {info.name: f"other {info.name}" for info in contract_with().segmentation_classes}
        new = write_changed_student(tmp_path / "other.onnx", model, change_contract=rename(names))
    elif wrong == "taken name":
        folder = tmp_path / "results"
        (folder / "mine.txt").write_text("mine")
    elif wrong == "all frames dropped":
        bag = tmp_path / "strange.mcap"
        with BagWriter(bag) as writer:
            message = image_message("front", START_NS, np.zeros((96, 160, 3), np.uint8))
            writer.write("/front/image_raw", START_NS, replace(message, encoding="nonsense"))
    assert compare(bag, model, new, folder, "--video") == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert re.search(said, sentence)
    assert [path.name for path in (tmp_path / "results").iterdir()] == (["mine.txt"] if wrong == "taken name" else [])


@pytest.mark.parametrize("part", ["differences.json", "report.html", "worst_01.jpg", "differences.mp4"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    bag: Path, model: Path, tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    # A limit on the size of files would end the whole process, so writing fails as on a full disk.
    student = write_changed_student(tmp_path / "broken.onnx", model, perturb_weights(0.3))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if part == "differences.mp4":
        monkeypatch.setattr("ros_kd_perception.drawing.video._H264Sink.write", lambda *_: (_ for _ in ()).throw(full))
    for name in ("open", "write_bytes"):
        real = getattr(Path, name)

        def failing(self: Path, *arguments: Any, real: Any = real, **options: Any) -> Any:
            if self.name == part:
                raise full
            return real(self, *arguments, **options)

        monkeypatch.setattr(Path, name, failing)
    (tmp_path / "results").mkdir()
    assert compare(bag, model, student, tmp_path / "results" / "out", "--video") == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert re.search(r"expected to write .*No space left on device; make room and try again", sentence)
    assert list((tmp_path / "results").iterdir()) == []


def test_an_earlier_comparison_is_replaced_only_on_demand(
    bag: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(bag, model, model, tmp_path / "out", "--limit", 2) == 0
    assert compare(bag, model, model, tmp_path / "out") == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert figures(tmp_path / "out")["total"]["frames"] == 2
    assert compare(bag, model, model, tmp_path / "out", "--force") == 0
    assert figures(tmp_path / "out")["total"]["frames"] == 16
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "one.onnx"), "expected --model twice"),
        (("--model", "a", "--model", "b", "--worst", "51"), "expected --worst from 0 to 50"),
        (("--model", "a", "--model", "b", "--max-lost-boxes", "5"), "expected a share from 0 to 1"),
        (("--model", "a", "--model", "b", "--video-seconds", "nan"), "expected --video-seconds of 0 or more"),
    ],
)
def test_wrong_options(options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["drive.mcap", "-o", "out", *options])
    assert said in capsys.readouterr().err


def test_it_runs_as_a_module(bag: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ros_kd_perception.compare_replay", bag, "--limit", "3", "-o", tmp_path / "out"]
    outcome = subprocess.run(
        [*map(str, command), "--model", str(model), "--model", str(model)], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("No difference in 3 frames\n")
    assert "compare: 100%" in outcome.stderr
