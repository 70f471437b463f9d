"""A student with Cityscapes' 19 classes from training to the node, where the label set camvid11 does not exist."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT
from ros_graph import Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from small_bag import write_small_bag

from ros_kd_perception.bags.reader import BagReader, decode_message
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.replay import main as replay
from ros_kd_perception.sample_drive.training_samples import write_samples
from training.__main__ import main
from training.errors import RecipeError
from training.label_sets import loading

SMOKE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"
pytestmark = pytest.mark.training
NAMES = {"terrain", "sky", "person", "rider"}


@pytest.fixture(scope="module")
def without_camvid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let the label sets be in a folder that lacks the default one."""
    folder = tmp_path_factory.mktemp("label_sets")
    for path in loading.FOLDER.glob("*.yaml"):
        shutil.copy(path, folder)
    (folder / "camvid11.yaml").unlink()
    before, loading.FOLDER = loading.FOLDER, folder
    yield folder
    loading.FOLDER = before


@pytest.fixture(scope="module")
def student(without_camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, evaluate and export a student for two epochs."""
    with pytest.raises(RecipeError, match="no label set 'camvid11'"):
        loading.load_label_set("camvid11")
    folder = tmp_path_factory.mktemp("cityscapes")
    write_samples(folder / "samples", 8, (192, 128), 1, 1)
    changes = [
        "label_set=cityscapes19",
        f"output={folder}",
        *(
            f"{key}.folder={folder / 'samples'}"
            for key in ("data.train.0", "validation.segmentation", "validation.detection")
        ),
    ]
    assert main(["train", str(SMOKE), "--accelerator", "cpu", *(w for c in changes for w in ("--override", c))]) == 0
    checkpoint = folder / "student_s_smoke" / "checkpoints" / "last.ckpt"
    assert main(["evaluate", str(checkpoint), str(folder / "samples"), "--json", str(folder / "figures.json")]) == 0
    assert main(["export", str(checkpoint), "-o", str(folder / "student.onnx")]) == 0
    return folder / "student.onnx"


def test_the_file_has_the_classes_of_its_label_set(student: Path) -> None:
    contract = OnnxModel.open(student, device="cpu").contract
    assert contract.class_map is not None
    assert contract.detections is not None
    assert [info.name for info in contract.class_map.classes][9:12] == ["terrain", "sky", "person"]
    assert [info.name for info in contract.detections.classes] == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"
    ]  # fmt: skip


def test_a_bag_is_replayed_with_it(student: Path, tmp_path: Path) -> None:
    bag, results = write_small_bag(tmp_path / "drive.mcap", frames=3), tmp_path / "results.mcap"
    assert replay([str(bag), "-o", str(results), "--model", str(student), "--device", "cpu", "--quiet"]) == 0
    with BagReader(results, {"any": "/perception/front/segmentation"}) as reader:
        labels = [decode_message(raw) for raw in reader.raw_messages(["/perception/front/segmentation/label_info"])]
        masks = list(reader.raw_messages(["/perception/front/segmentation"]))
    assert {entry.class_name for entry in labels[0].class_map} >= NAMES
    assert len(masks) == 3


def test_the_node_names_its_classes(student: Path, start_node: object, peer: Peer) -> None:
    start_node(model=student)  # type: ignore[operator]
    peer.listen_to_results("front")
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    peer.send_until_result(publisher, lambda n: image_message(camera_picture(), 10**18 + n * 10**8), "front")
    labels = peer.latest("front", "segmentation/label_info")
    assert {entry.class_name for entry in labels.class_map} >= NAMES
