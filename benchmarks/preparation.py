#!/usr/bin/env python3
"""Compare decoding and letterboxing in a pool with doing so in the thread that runs the network.

One camera sends 1280x720 images as bgr8, JPEG and PNG, faster than the network runs. The two ways alternate, with one
thread and without a ROS graph. The table has medians of

  waits  time that the network's thread waits from the end of one run to the start of the next
  age    time since the arrival of the image when the run starts
  idle   time from arrival to the start of a run if the network is idle; the pool hands JPEG and PNG over

Usage: python benchmarks/preparation.py [--model MODEL.onnx] [--device DEVICE] [--images N] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from device_option import add_device_option

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 4
PERIOD_S = 1 / 60
WAYS = ("in the network's thread", "in a pool")


def main() -> int:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx", help="exported student")
    add_device_option(parser, "cpu")
    parser.add_argument("--images", type=int, default=15, help="images of each way, format and round (15)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures")
    arguments = parser.parse_args()
    if arguments.images < 2 or not arguments.model.is_file():
        parser.error(f"expected a model file and two images or more, got {arguments.model} and {arguments.images}")
    from ros_kd_perception.model.onnx_model import OnnxModel

    model = OnnxModel.open(arguments.model, device=arguments.device, intra_op_threads=1)
    result = measure(model, arguments.images)
    print(f"{arguments.model.name}, 1280x720, one thread; {ROUNDS} rounds of {arguments.images} images; medians, ms")
    print(f"  network: {model.provider.what_runs}\n")
    print(f"  {'format':<8}{'':<26}{'waits':>8}{'age':>8}{'idle':>8}{'run':>8}")
    for name, ways in result.items():
        for way, figures in ways.items():
            print(f"  {name:<8}{way:<26}" + "".join(f"{figures[k]:8.2f}" for k in ("waits", "age", "idle", "run")))
    if arguments.json:
        part = arguments.json.with_name(arguments.json.name + ".part")
        part.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(arguments.json)
    return 0


def messages() -> dict[str, SimpleNamespace]:
    """Return one rendered image as each kind of message."""
    from ros_kd_perception.sample_drive import SampleDrive

    image = SampleDrive(seed=1, weather="day").render("front", 5.0).image_bgr
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="front_optical_frame")
    height, width = image.shape[:2]
    raw = SimpleNamespace(
        header=header, height=height, width=width, encoding="bgr8", step=width * 3, is_bigendian=0, data=image.tobytes()
    )
    found = {"bgr8": raw}
    for name, suffix in (("jpeg", ".jpg"), ("png", ".png")):
        found[name] = SimpleNamespace(header=header, format=name, data=cv2.imencode(suffix, image)[1].tobytes())
    return found


class OwnThread:
    """Takes and prepares messages in the thread of the caller."""

    def __init__(self, perceiver: Any) -> None:
        from ros_kd_perception.scheduling.mailbox import Mailbox

        self.mailbox: Any = Mailbox(["front"])
        self._perceiver = perceiver
        self._buffer = perceiver.prepare(_black_frame()).network_input
        self.mailbox.open()

    def take(self) -> tuple[Any, Any]:
        """Wait for a message. Return it with its prepared frame."""
        from ros_kd_perception.health.watch import picture_sample
        from ros_kd_perception.images.message import frame_from_message

        queued = self.mailbox.take()
        frame = frame_from_message("front", queued.message)
        picture_sample(frame.image_bgr)
        return queued, self._perceiver.prepare(frame, self._buffer)

    def close(self) -> None:
        """Do nothing: no thread waits."""
        self.mailbox.close()


class Pool:
    """Prepares messages with the node's FramePreparer."""

    def __init__(self, perceiver: Any) -> None:
        from ros_kd_perception.scheduling.frame_preparer import FramePreparer
        from ros_kd_perception.scheduling.mailbox import Mailbox
        from ros_kd_perception.scheduling.preparation import LocalPreparation

        self.mailbox: Any = Mailbox(["front"])
        self._preparer = FramePreparer(self.mailbox, LocalPreparation(self.mailbox, perceiver.prepare, _refuse))
        self._preparer.start()

    def take(self) -> tuple[Any, Any]:
        """Wait for a message. Return it with its prepared frame."""
        ready = self._preparer.take()
        assert ready is not None
        return ready.queued, ready.prepared

    def close(self) -> None:
        """Stop the threads."""
        self._preparer.close()
        self._preparer.join(10)


def measure(model: Any, images: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measure each way and format in turns, so that all have the same conditions."""
    from ros_kd_perception.perceiver import Perceiver

    perceiver = Perceiver(model)
    perceiver.warm_up()
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    kinds = messages()
    for _ in range(ROUNDS):
        for name, message in kinds.items():
            for way, make in zip(WAYS, (OwnThread, Pool), strict=True):
                source = make(perceiver)
                try:
                    measure_busy(source, message, perceiver, images, found[name, way])
                    measure_idle(source, message, images, found[name, way])
                finally:
                    source.close()
    return {
        name: {way: {k: round(float(np.median(v)), 3) for k, v in found[name, way].items()} for way in WAYS}
        for name in kinds
    }


def measure_busy(source: Any, message: Any, perceiver: Any, images: int, figures: dict[str, list[float]]) -> None:
    """Run the network on image after image while a camera sends more than it can run."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(PERIOD_S):
            source.mailbox.put("front", message)

    camera = threading.Thread(target=send)
    camera.start()
    for index in range(images + 2):  # the pool learns the length of a run from the first two
        began = time.perf_counter()
        queued, prepared = source.take()
        taken, age_ms = time.perf_counter(), (time.monotonic_ns() - queued.arrival_ns) / 1e6
        perceiver.perceive_prepared([prepared])
        if index >= 2:
            figures["waits"].append((taken - began) * 1e3)
            figures["age"].append(age_ms)
            figures["run"].append((time.perf_counter() - taken) * 1e3)
        source.mailbox.published("front")
    stop.set()
    camera.join()


def measure_idle(source: Any, message: Any, images: int, figures: dict[str, list[float]]) -> None:
    """Prepare one image at a time; measure from its arrival until it is ready."""
    if source.mailbox.waits() or source.mailbox.counts()["front"].in_progress:
        source.take()
        source.mailbox.published("front")
    for _ in range(images):
        arrived = threading.Timer(0.01, source.mailbox.put, ("front", message))
        arrived.start()
        queued, _ = source.take()
        figures["idle"].append((time.monotonic_ns() - queued.arrival_ns) / 1e6)
        source.mailbox.published("front")
        arrived.join()


def _black_frame() -> Any:
    from ros_kd_perception.structures import Frame

    return Frame("front", 1, "", np.zeros((720, 1280, 3), np.uint8))


def _refuse(camera: str, reason: str, sentence: str) -> None:
    raise SystemExit(f"expected sound images, got {reason}: {sentence}")


if __name__ == "__main__":
    sys.exit(main())
