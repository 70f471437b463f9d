"""What both commands of a comparison share: options of the output, the video, exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ros_kd_perception.differences.classes import ComparedClasses
from ros_kd_perception.differences.difference_video import DifferenceVideo
from ros_kd_perception.differences.limits import add_limit_options
from ros_kd_perception.differences.output import VIDEO_FILE, OutputFolder
from ros_kd_perception.differences.verdict import EXIT_INTERRUPTED, EXIT_UNUSABLE, Verdict, printed
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.interruption import one_interrupt
from ros_kd_perception.system.standard_output import escape_unknown_characters

MAX_WORST = 50


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the output and the limits."""
    parser.add_argument(
        "-o",
        "--output",
        type=path_argument,
        required=True,
        metavar="FOLDER",
        help="folder to write: differences.json, report.html, worst_*.jpg",
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=6,
        metavar="N",
        help=f"pictures of the N worst moments, 0 to {MAX_WORST}; default: 6",
    )
    parser.add_argument("--video", action="store_true", help="also write differences.mp4, both sides and what differs")
    parser.add_argument(
        "--video-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="the video shows the first S seconds; 0: all; default: 120",
    )
    parser.add_argument("--force", action="store_true", help="replace the folder of an earlier comparison")
    add_limit_options(parser)


def check_output_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command if an option of `add_output_options` is out of range."""
    if not 0 <= options.worst <= MAX_WORST:
        parser.error(f"expected --worst from 0 to {MAX_WORST}, got {options.worst}")
    if not 0 <= options.video_seconds < float("inf"):
        parser.error(f"expected --video-seconds of 0 or more, got {options.video_seconds}")


def open_video(
    options: argparse.Namespace,
    folder: OutputFolder,
    cameras: Collection[str],
    frames_per_second: Callable[[], float],
    classes: ComparedClasses,
) -> AbstractContextManager[DifferenceVideo | None]:
    """Start the video in the folder if `--video` asks for it.

    Raises:
        VideoError: The file cannot be written.
    """
    if not options.video:
        return nullcontext()
    path = folder.partial / VIDEO_FILE
    return DifferenceVideo(path, cameras, frames_per_second(), classes, options.video_seconds)


def run_comparison(name: str, folder: Path, compare: Callable[[], Verdict]) -> int:
    """Run a comparison and print its verdict.

    Args:
        name: Name of the command.
        folder: The folder that it writes.
        compare: Compares. A ValueError or an OSError of it is one sentence about an input that cannot be used.

    Returns:
        Exit status: 0 within the limits, 1 beyond, 2 for a wrong input, 130 if interrupted.
    """
    escape_unknown_characters()
    try:
        with one_interrupt():
            verdict = compare()
    except KeyboardInterrupt:
        print(f"{name}: interrupted, nothing written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, OSError) as error:  # the errors of bags, models and outputs are ValueErrors
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    print(printed(verdict, folder))
    return verdict.exit_status
