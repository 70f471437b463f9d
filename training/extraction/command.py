"""`python -m training extract-frames BAG -o FOLDER`: take frames out of a bag for training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import folder_to_write, number, some_text, whole_number
from training.errors import DataError

if TYPE_CHECKING:
    from training.data.bag_frames import FrameAnnotator

MAX_RANGE_S = 1e9
MAX_STAMP_NS = 1 << 63


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("bag", type=path_argument, help="a ROS 2 bag, a file or a folder")
    parser.add_argument(
        "-o", "--output", type=folder_to_write, required=True, metavar="FOLDER", help="a new folder, or the same again"
    )
    parser.add_argument(
        "--topics", nargs="+", default=[], type=some_text, metavar="TOPIC", help="image topics; all cameras without it"
    )
    _add_time_range(parser)
    parser.add_argument("--stride", type=whole_number(1), default=1, metavar="N", help="look at every n-th frame")
    parser.add_argument(
        "--change-min",
        type=number(0, 1),
        default=0.01,
        metavar="SHARE",
        help="leave out a frame that differs less from the last one kept of its camera (default 0.01); 0 keeps all",
    )
    parser.add_argument(
        "--max-frames", type=whole_number(0), default=0, metavar="N", help="stop after this many frames; 0 = all"
    )
    parser.add_argument(
        "--teachers", type=path_argument, metavar="FILE.yaml", help="label the frames by the teachers in this file"
    )
    parser.add_argument(
        "--device", default="cpu", type=some_text, help="of teachers that run in PyTorch: cpu, cuda ..."
    )


def _add_time_range(parser: argparse.ArgumentParser) -> None:
    begin, end = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    seconds, stamp_ns = number(0, MAX_RANGE_S), whole_number(0, MAX_STAMP_NS)
    begin.add_argument("--from-s", type=seconds, metavar="S", help="begin this many seconds after the first image")
    begin.add_argument("--from-stamp-ns", type=stamp_ns, metavar="NS", help="begin with this header stamp")
    end.add_argument("--to-s", type=seconds, metavar="S", help="end this many seconds after the first image")
    end.add_argument("--to-stamp-ns", type=stamp_ns, metavar="NS", help="end before this header stamp")


def run(arguments: argparse.Namespace) -> int:
    """Extract the frames. Return 0, or 130 after an interrupt, from which the same command goes on."""
    from ros_kd_perception.system.interruption import one_interrupt

    _check_range("s", arguments.from_s, arguments.to_s)
    _check_range("stamp-ns", arguments.from_stamp_ns, arguments.to_stamp_ns)

    from training.data.bag_frames import extract_frames, summary
    from training.data.frame_choice import FrameChoice

    annotator = _annotator(arguments.teachers, arguments.device)
    choice = FrameChoice(
        topics=tuple(arguments.topics),
        stride=arguments.stride,
        change_min=arguments.change_min,
        from_s=arguments.from_s or 0.0,
        to_s=arguments.to_s,
        from_stamp_ns=arguments.from_stamp_ns,
        to_stamp_ns=arguments.to_stamp_ns,
        max_frames=arguments.max_frames,
    )
    try:
        with one_interrupt():
            frames = extract_frames(arguments.bag, choice, arguments.output, annotator)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on in {arguments.output}")
        return 130
    print(f"{arguments.bag}: {summary(frames, arguments.output)}")
    return 0


def _check_range(option: str, begin: float | None, end: float | None) -> None:
    """Refuse a range of time that no frame can be in."""
    if end is not None and end <= (begin or 0):
        named = [f"{time:g}" if isinstance(time, float) else str(time) for time in (begin or 0, end)]
        raise DataError(
            f"expected --to-{option} to be more than --from-{option}, got {' to '.join(named)} {option}; end later, or "
            "begin earlier"
        )


def _annotator(teachers: Path | None, device: str) -> FrameAnnotator:
    """Return what writes the files beside the images: annotations.json alone, or labels of teachers, too."""
    if teachers is None:
        from training.extraction.annotations import CocoAnnotations

        return CocoAnnotations()
    from training.extraction.pseudo_labels import PseudoLabelFiles
    from training.teachers.teachers_file import open_labeler

    labeler = open_labeler(teachers, device)
    if labeler.gaps:
        print(
            f"{teachers}: no teacher labels {labeler.gaps}; the frames say nothing about them, so add a teacher that "
            "knows them, or name a label set without them"
        )
    return PseudoLabelFiles(labeler)
