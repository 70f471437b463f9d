"""From a bag without labels to the node: teachers label its frames and teach a student, which the bag is played to.

The files of docs/from_bag_to_vehicle.md are used, with smaller sizes and other teachers: YOLOX where the shared folder
has it, else a detector that always sees the same two objects, and a SegFormer with random weights and five classes.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from checkout import ROOT
from foreign_networks import save_two_objects
from ros_graph import Peer, stamp_ns
from small_bag import START_NS, image_message, write_small_bag
from tiny_transformers import save_tiny

from ros_kd_perception.bags.reader import BagReader, BagWriter, decode_message
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.replay import main as replay
from training.__main__ import main
from training.data.image_files import read_image
from training.label_sets.loading import load_label_set
from training.teachers.ensemble import Ensemble
from training.teachers.registry import TeacherList

pytestmark = [pytest.mark.training, pytest.mark.slow]
SHARED = ROOT.parent / "shared"
YOLOX, STREET = SHARED / "teachers" / "yolox_nano_416_coco.onnx", SHARED / "frames" / "kitti" / "images"
RECIPE = ROOT / "training" / "recipes" / "student_n_from_bag.yaml"
COMPARISON = ROOT / "training" / "comparisons" / "student_n_from_bag.yaml"
TEACHERS = ROOT / "training" / "teachers" / "from_bag.yaml"
STUDENT = load_label_set("cityscapes19")
CLASSES = [info.name for info in STUDENT.segmentation_classes]
BOX_CLASSES = [info.name for info in STUDENT.detection_classes]
FRAMES, SIZE = 6, (96, 320)
RESULTS = ("segmentation", "detections", "segmentation/label_info", "detections/label_info")


@dataclass(frozen=True)
class Mission:
    """What the steps before the node leave behind.

    Attributes:
        bag: The bag without labels.
        teachers: Settings of the teachers, as the files name them.
        folder: Holds `train/` and `val/`, the extracted frames.
        said: What extract-frames and train printed.
        student: The exported student.
        report: The report of the comparison.
    """

    bag: Path
    teachers: list[dict[str, Any]]
    folder: Path
    said: dict[str, str]
    student: Path
    report: dict[str, Any]


def write_bag(path: Path) -> Path:
    """Write frames of a street where there are some, else pictures that differ."""
    if not (YOLOX.is_file() and STREET.is_dir()):
        return write_small_bag(path, cameras=("front",), frames=FRAMES, size=SIZE)
    with BagWriter(path) as writer:
        for number, file in enumerate(sorted(STREET.iterdir())[:FRAMES]):
            picture = cv2.resize(cv2.imread(str(file)), SIZE[::-1], interpolation=cv2.INTER_AREA)
            time_ns = START_NS + number * 100_000_000
            writer.write("/front/image_raw", time_ns, image_message("front", time_ns, picture))
    return path


def write_teachers(folder: Path) -> list[dict[str, Any]]:
    """Return a detector and a SegFormer whose tree is the student's vegetation, in the place of those of the page."""
    detector, segmenter = yaml.safe_load(TEACHERS.read_text(encoding="utf-8"))["teachers"]
    assert (detector["kind"], segmenter["kind"]) == ("onnx", "checkpoint")
    save_tiny("segformer", folder / "segformer")
    described = folder / "two_objects.yaml"
    described.write_text("detection: {kind: yolov8, classes: [road sign, car, truck, person]}\n")
    if YOLOX.is_file():
        detector |= {"path": str(YOLOX), "describe": str(ROOT / detector["describe"]), "box_sure": 0.3}
    else:
        path = save_two_objects(folder / "two_objects.onnx")
        table = {"detection": {"road sign": "ignore"}}
        detector |= {"path": str(path), "describe": str(described), "map": table, "views": {}}
    table = {"segmentation": {"tree": "vegetation"}}
    segformer = {"kind": "transformers", "model": str(folder / "segformer"), "map": table, "pixel_confidence_min": 0.3}
    return [detector, segformer]


def overrides(mission: Path, teachers: list[dict[str, Any]]) -> list[str]:
    """Return the changes of the recipe: other folders and teachers, less work."""
    return [
        *(f"{key}.folder={mission / 'val'}" for key in ("validation.segmentation", "validation.detection")),
        f"data.train.0.folder={mission / 'train'}",
        "data.train.0.confidence_min=0.0",
        f"distillation.teachers={json.dumps(teachers)}",
        f"output={mission}",
        "initial_weights=" + str(ROOT / "models" / "weights" / "student_n_rendered_short.safetensors"),
        "epochs=2",
        "batch_size=2",
        "data.samples_per_epoch=6",
        "data.crop_height=64",
        "data.crop_width=96",
        "data.workers=0",
        "validation.every_epochs=2",
        "validation.input_height=96",
        "validation.input_width=320",
    ]


def compare(folder: Path, changes: list[str]) -> dict[str, Any]:
    """Run the comparison of the page and return its report."""
    content = yaml.safe_load(COMPARISON.read_text(encoding="utf-8"))
    content |= {"overrides": [*changes, "epochs=1", "validation={}"], "output": str(folder / "compare")}
    content |= {"input_height": 96, "input_width": 320}
    content["scores"][0]["frames"]["folder"] = str(folder / "val")
    for entry in content["entries"]:
        entry["recipe"] = str(ROOT / entry["recipe"])
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main(["compare", str(path), "--accelerator", "cpu"]) == 0
    report: dict[str, Any] = json.loads((folder / "compare" / content["name"] / "report.json").read_text())
    return report


def printed_by(*command: str) -> str:
    """Run a command of the training and return what it prints."""
    with redirect_stdout(io.StringIO()) as printed:
        assert main(list(command)) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def mission(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mission]:
    """Extract, train, compare and export."""
    folder = tmp_path_factory.mktemp("mission")
    bag, teachers, said = write_bag(folder / "drive.mcap"), write_teachers(folder), {}
    listed = folder / "teachers.yaml"
    content = yaml.safe_load(TEACHERS.read_text(encoding="utf-8")) | {"teachers": teachers}
    listed.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for name, part in (("train", "--to-s"), ("val", "--from-s")):
            command = ["extract-frames", str(bag), "-o", str(folder / name), "--teachers", str(listed), part, "0.35"]
            said[command[0]] = printed_by(*command)
        changes = overrides(folder, teachers)
        options = [word for change in changes for word in ("--override", change)]
        said["train"] = printed_by("train", str(RECIPE), "--accelerator", "cpu", *options)
        report = compare(folder, changes)
        checkpoint, student = folder / "student_n_from_bag" / "checkpoints" / "last.ckpt", folder / "student.onnx"
        assert main(["export", str(checkpoint), "-o", str(student)]) == 0
        yield Mission(bag, teachers, folder, said, student, report)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: two take longer for layers this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(mission: Mission) -> Ensemble:
    """Open the teachers of the mission as the recipe names them."""
    listed = TeacherList.checked({"teachers": mission.teachers})
    return Ensemble.open(listed.teachers, listed.fusion, STUDENT)


def test_the_labels_are_what_the_teachers_say(mission: Mission) -> None:
    ensemble = opened(mission)
    boxes, masks, entries = 0, set(), {}
    for part in ("train", "val"):
        entries[part] = json.loads((mission.folder / part / "boxes.json").read_text(encoding="utf-8"))
        for name, entry in entries[part].items():
            image = read_image(mission.folder / part / "images" / f"{name}.jpg")
            taught = ensemble(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None])
            assert taught.boxes is not None
            np.testing.assert_allclose(
                [box for box, ignored in zip(entry["boxes_xyxy"], entry["ignored"], strict=True) if not ignored],
                taught.boxes.objects[0].xyxy.numpy(),
                atol=1e-3,
            )
            boxes += entry["ignored"].count(False)
            mask = cv2.imread(str(mission.folder / part / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            masks |= set(np.unique(mask).tolist())
    assert [len(found) for found in entries.values()] == [4, 2]
    assert boxes >= FRAMES
    known = {CLASSES.index(name) for name in ("road", "car", "person", "vegetation", "sky")} | {255}
    assert len(masks - {255}) >= 2
    assert masks <= known
    assert load_label_set(mission.folder / "train" / "label_set.yaml").tasks == ("segmentation", "detection")


def test_classes_that_nothing_labels_are_named_at_the_start(mission: Mission) -> None:
    assert "no teacher labels masks of sidewalk, building, wall, fence" in mission.said["extract-frames"]
    assert "no source and no teacher labels masks of sidewalk, building, wall" in mission.said["train"]
    assert "boxes of rider" in mission.said["train"]


def test_the_comparison_has_figures_of_both_entries(mission: Mission) -> None:
    assert mission.report["entries"].keys() == {"labels_alone", "with_teachers"}
    for scores in mission.report["entries"].values():
        (figures,) = scores["end of the drive"].values()
        assert 0 <= figures["miou"] <= 1


def test_the_file_names_its_classes_and_teachers(mission: Mission) -> None:
    contract = OnnxModel.open(mission.student, device="cpu").contract
    assert contract.class_map is not None
    assert contract.detections is not None
    assert [info.name for info in contract.class_map.classes] == CLASSES
    assert [info.name for info in contract.detections.classes] == BOX_CLASSES
    digests = opened(mission).sha256
    assert contract.provenance["label_set"] == "cityscapes19"
    assert contract.provenance["teachers"] == digests
    assert len(set(digests.split("+"))) == 2


def results_of(path: Path) -> dict[tuple[str, int], Any]:
    """Return masks and boxes of a replay by topic and stamp."""
    topics = [f"/perception/front/{kind}" for kind in RESULTS[:2]]
    with BagReader(path, without_cameras=True) as reader:
        messages = [(raw.topic, decode_message(raw)) for raw in reader.raw_messages(topics)]
    return {
        (topic, message.header.stamp.sec * 10**9 + message.header.stamp.nanosec): message for topic, message in messages
    }


def box_values(message: Any) -> list[tuple[object, ...]]:
    values = []
    for found in message.detections:
        box, guess = found.bbox, found.results[0].hypothesis
        values.append(
            (box.center.position.x, box.center.position.y, box.size_x, box.size_y, guess.class_id, guess.score)
        )
    return values


def test_the_node_gives_for_the_played_bag_what_the_replay_writes(
    mission: Mission, start_node: Any, peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    replayed, options = tmp_path / "replayed.mcap", ["--device", "cpu", "--threads", "1", "--score-threshold", "0.02"]
    assert replay([str(mission.bag), "-o", str(replayed), "--model", str(mission.student), "--quiet", *options]) == 0
    start_node(model=mission.student, device="cpu", score_threshold=0.02, max_age_ms=30_000)
    peer.until_active()
    peer.listen_to_results("front")
    player = [sys.executable, "-m", "ros_kd_perception.ros.play_bag", str(mission.bag), "--wait-for-subscribers", "20"]
    with subprocess.Popen([*player, "--rate", "0.5"], env=environment, stdout=subprocess.PIPE) as process:
        peer.until(lambda: process.poll() is not None, "the player ends")
    assert process.returncode == 0
    peer.until(lambda: all(peer.results("front", kind) for kind in RESULTS), "all results come")

    for kind, names in zip(RESULTS[2:], (CLASSES, BOX_CLASSES), strict=True):
        table = peer.results("front", kind)[-1].class_map
        assert {entry.class_id: entry.class_name for entry in table}.items() >= dict(enumerate(names)).items()
    from_replay = results_of(replayed)
    assert len(from_replay) == 2 * FRAMES
    for message in peer.results("front"):
        assert np.array_equal(message.data, from_replay["/perception/front/segmentation", stamp_ns(message)].data)
    for message in peer.results("front", "detections"):
        expected = from_replay["/perception/front/detections", stamp_ns(message)]
        assert box_values(message) == box_values(expected)
    assert any(message.detections for message in peer.results("front", "detections"))
