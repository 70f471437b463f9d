"""What a replay writes beside the results: their options, and the messages and pictures of the perceived frames."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from ros_kd_perception.bags.reader import BagReader, BagWriter, RawMessage
from ros_kd_perception.drawing.overlay_video import OverlayVideo
from ros_kd_perception.drawing.rerun_file import RerunFile, rerun_sdk
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.replay_network import frames_per_second
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.output_paths import check_folder, check_free


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the outputs of a replay."""
    parser.add_argument(
        "-o",
        "--output",
        type=path_argument,
        required=True,
        metavar="OUT",
        help="bag to write: a .mcap file, or a folder",
    )
    parser.add_argument(
        "--with-images",
        action="store_true",
        help="also write the perceived images and CameraInfo, unchanged, so that a viewer needs only this bag",
    )
    parser.add_argument(
        "--overlay", type=path_argument, metavar="MP4", help="write a video of the frames with their results"
    )
    parser.add_argument(
        "--rerun",
        type=path_argument,
        metavar="RRD",
        help="write a recording for the Rerun viewer: images, masks and boxes; needs the [rerun] extra",
    )
    parser.add_argument("--force", action="store_true", help="replace existing output files")


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse outputs that cannot be written, before anything is read.

    Args:
        options: Those of `add_output_options`, and the input `bag`.

    Raises:
        MissingPackage: The SDK of Rerun is not installed.
        ValueError: An output is the input, its name is taken, or its folder does not exist. One sentence.
    """
    bag, output = options.bag.resolve(), options.output.resolve()
    if bag == output:
        raise ValueError(
            f"expected an output that differs from the input, got {options.output} for both; choose another name"
        )
    if bag in output.parents:
        raise ValueError(
            f"expected an output outside of the input, got {options.output}, which is in the folder {options.bag}; "
            "name a file elsewhere, or name the bag in that folder"
        )
    check_free(options.output, replace=options.force and options.output.suffix == ".mcap")
    check_folder(options.output.parent if options.output.suffix else options.output)
    if options.overlay and options.overlay.suffix != ".mp4":
        raise ValueError(f"expected --overlay to name an .mp4 file, got {options.overlay}; end its name in .mp4")
    for pictures in filter(None, (options.overlay, options.rerun)):
        check_free(pictures, replace=options.force)
        if not pictures.resolve().parent.is_dir():
            raise ValueError(f"expected the folder of {pictures} to exist, it does not; create it first")
    if options.rerun:
        rerun_sdk()


def open_pictures(
    options: argparse.Namespace, bag: BagReader, contract: ModelContract, stack: ExitStack
) -> tuple[OverlayVideo | None, RerunFile | None]:
    """Start the outputs for people that are wanted. The stack completes them, or discards them after an error.

    Raises:
        RerunError, VideoError: One cannot be written. One sentence.
    """
    video = recording = None
    if options.overlay:
        rate = frames_per_second(bag)
        video = stack.enter_context(OverlayVideo(options.overlay, bag.cameras, rate, overwrite=options.force))
    if options.rerun:
        recording = stack.enter_context(RerunFile(options.rerun, bag.cameras, contract, overwrite=options.force))
    return video, recording


class SourceMessages:
    """Writes messages of the input, unchanged, at the times of their recording.

    Cameras that share a topic have the same messages, which are written once.

    Args:
        writer: Takes the messages.
    """

    def __init__(self, writer: BagWriter) -> None:
        self._writer = writer
        self._images: dict[str, RawMessage] = {}  # the last one of each topic
        self._calibrated: dict[str, str] = {}  # topic -> the camera whose CameraInfo is written
        self._topics: set[str] = set()

    def write_image(self, message: RawMessage) -> None:
        """Write the image of a frame that was perceived."""
        if self._images.get(message.topic) is not message:
            self._images[message.topic] = message
            self._write(message)

    def write_camera_info(self, camera: str, message: RawMessage) -> None:
        """Write a CameraInfo in its place. The reader gives the first one of each camera before that, too."""
        owner = self._calibrated.get(message.topic)
        if owner == camera:
            self._write(message)
        elif owner is None:
            self._calibrated[message.topic] = camera

    def _write(self, message: RawMessage) -> None:
        if message.topic not in self._topics:
            self._topics.add(message.topic)
            self._writer.add_topic(message.topic, message.message_type)
        self._writer.write_raw(message.topic, message.log_time_ns, message.data)
