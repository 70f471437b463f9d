"""Render a sample drive into a bag, or training samples into a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ros_kd_perception.sample_drive.camera import camera_named, default_cameras
from ros_kd_perception.sample_drive.street.weather import WEATHERS
from ros_kd_perception.sample_drive.training_samples import write_samples
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.interruption import one_interrupt
from ros_kd_perception.system.output_paths import check_free

# Defaults of the options that apply to one of the two outputs. The parser leaves None for those that are not given.
_OF_BAGS: dict[str, Any] = {
    "weather": "day", "duration_s": 20.0, "rate_hz": 5.0, "cameras": None, "compressed": False, "force": False
}  # fmt: skip
_OF_SAMPLES: dict[str, Any] = {"count": 100}


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and 64 <= int(width) <= 4096 and 64 <= int(height) <= 4096):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT of 64..4096 px, such as 1280x720, got {text!r}")
    return int(width), int(height)


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    made = argparse.ArgumentParser(prog="render_drive", description=__doc__)
    made.add_argument("-o", "--output", type=path_argument, help="bag to write: a .mcap file or a folder")
    made.add_argument(
        "--samples", type=path_argument, metavar="DIR", help="write training samples into this new folder instead"
    )
    made.add_argument("--count", type=int, help="number of training samples; default: 100")
    made.add_argument("--seed", type=int, default=0, help="seed of the street; base seed of training samples")
    made.add_argument("--weather", choices=WEATHERS, help="weather of a bag, default: day; samples have all of them")
    made.add_argument("--duration-s", type=float, help="length of a bag; default: 20")
    made.add_argument("--rate-hz", type=float, help="frames per second of each camera of a bag; default: 5")
    made.add_argument("--size", type=_size, help="WIDTHxHEIGHT in pixels; 1280x720, 640x360 for samples")
    made.add_argument(
        "--cameras", nargs="+", choices=("front", "left", "right"), help="cameras to render; default: all"
    )
    made.add_argument("--compressed", action="store_true", default=None, help="JPEG CompressedImage instead of Image")
    made.add_argument("--force", action="store_true", default=None, help="replace an existing .mcap file")
    made.add_argument("--processes", type=int, default=2, help="number of worker processes; does not change the result")
    return made


def _write(options: argparse.Namespace) -> None:
    if options.samples is not None:
        write_samples(options.samples, options.count, options.size or (640, 360), options.seed, options.processes)
    else:
        _write_bag(options)


def _write_bag(options: argparse.Namespace) -> None:
    # Training samples do not need the extra rosbags.
    from ros_kd_perception.sample_drive.drive_bag import DrivePlan, write_drive

    cameras = default_cameras(*(options.size or (1280, 720)))
    if options.cameras:
        cameras = tuple(camera_named(cameras, name) for name in dict.fromkeys(options.cameras))
    plan = DrivePlan(options.seed, options.weather, options.duration_s, options.rate_hz, cameras)
    check_free(options.output, replace=options.force and options.output.suffix == ".mcap")
    write_drive(options.output, plan, options.compressed, options.processes, options.force)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parser().parse_args(arguments)
    if (options.output is None) == (options.samples is None):
        print(
            "render_drive: expected either -o with a bag or --samples with a folder; name one of them", file=sys.stderr
        )
        return 2
    foreign, output = (_OF_SAMPLES, "-o") if options.samples is None else (_OF_BAGS, "--samples")
    if given := [name for name in foreign if getattr(options, name) is not None]:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        print(f"render_drive: expected no {named} together with {output}, which it does not change", file=sys.stderr)
        return 2
    for name, default in {**_OF_BAGS, **_OF_SAMPLES}.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    try:
        with one_interrupt():
            _write(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"render_drive: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("render_drive: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
