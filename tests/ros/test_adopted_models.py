"""A foreign network, adopted, in the replay and in the node: boxes without duplicates, in the classes of its file."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from foreign_networks import save_two_objects
from ros_graph import Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from small_bag import write_small_bag

from ros_kd_perception.bags.reader import BagReader, decode_message
from ros_kd_perception.replay import main as replay
from training.__main__ import main

pytestmark = pytest.mark.training
DESCRIPTION = "detection: {kind: yolov8, classes: [road, car, sky, person]}\n"
T0 = 1_700_000_000_000_000_000
TOPIC = "/perception/front/detections"


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adopted")
    network, output = save_two_objects(folder / "net.onnx"), folder / "model.onnx"
    (folder / "net.yaml").write_text(DESCRIPTION)
    assert main(["adopt", str(network), "--describe", str(folder / "net.yaml"), "-o", str(output)]) == 0
    return output


def seen(message: Any) -> list[tuple[str, float]]:
    """Return number and score of the objects of a message."""
    found = [detection.results[0].hypothesis for detection in message.detections]
    return [(one.class_id, round(one.score, 4)) for one in found]


def test_a_bag_is_replayed_with_it(adopted: Path, tmp_path: Path) -> None:
    bag, results = write_small_bag(tmp_path / "drive.mcap", frames=3), tmp_path / "results.mcap"

    assert replay([str(bag), "-o", str(results), "--model", str(adopted), "--device", "cpu", "--quiet"]) == 0

    with BagReader(results, without_cameras=True) as reader:
        messages = [decode_message(raw) for raw in reader.raw_messages([TOPIC])]
    assert [seen(message) for message in messages] == [[("1", 0.9), ("3", 0.7)]] * 3


def test_the_node_runs_it(adopted: Path, start_node: object, peer: Peer) -> None:
    start_node(model=adopted)  # type: ignore[operator]
    peer.listen_to_results("front")
    publisher, numbers = peer.matched_publisher(Image, "/front/image_raw"), itertools.count(1)

    def came() -> bool:
        publisher.publish(image_message(camera_picture(), T0 + next(numbers)))
        peer.spin_for(0.05)
        return bool(peer.results("front", "detections"))

    peer.until(came, "boxes are published")
    assert seen(peer.results("front", "detections")[-1]) == [("1", 0.9), ("3", 0.7)]
