"""The options of `play_bag` and its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from ros_kd_perception.playback_timeline import LONGEST_GAP_S, LONGEST_PART_S
from ros_kd_perception.system.command_arguments import path_argument


@dataclass(frozen=True)
class PlayOptions:
    """How a bag is played.

    Attributes:
        rate: Speed; 1 is the speed of the recording.
        loop: Start again at the end, with the same stamps, until interrupted.
        start_offset_s: Part to leave out, seconds of the recording's clock after the first image.
        duration_s: Part to play from there, seconds at the speed of the recording; 0 plays everything.
        reliability: Reliability that the publishers offer, `reliable` or `best_effort`.
        depth: Number of messages that each publisher keeps.
        wait_for_subscribers_s: How long to wait until every camera topic has a subscriber; 0 does not wait.
        clock: Publish /clock.
        keep_gaps: Play gaps without images in full length.
    """

    rate: float = 1.0
    loop: bool = False
    start_offset_s: float = 0.0
    duration_s: float = 0.0
    reliability: str = "reliable"
    depth: int = 5
    wait_for_subscribers_s: float = 0.0
    clock: bool = True
    keep_gaps: bool = False

    def __post_init__(self) -> None:
        if not 0.01 <= self.rate <= 100:
            raise ValueError(f"expected a --rate from 0.01 to 100, got {self.rate:g}")
        for option, length_s in (
            ("--start-offset", self.start_offset_s),
            ("--duration", self.duration_s),
            ("--wait-for-subscribers", self.wait_for_subscribers_s),
        ):
            if not 0 <= length_s <= LONGEST_PART_S:
                raise ValueError(f"expected a {option} of 0 to {LONGEST_PART_S:g} seconds, got {length_s:g}")
        if not 1 <= self.depth <= 1000:
            raise ValueError(f"expected a --depth from 1 to 1000, got {self.depth}")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line, without its ROS arguments."""
    parser = argparse.ArgumentParser(prog="play_bag", description="Play the camera topics of a bag in real time.")
    parser.add_argument("bag", type=path_argument, help=".mcap or .db3 file, or rosbag2 folder")
    parser.add_argument("--camera", action="append", default=[], metavar="NAME=TOPIC", help="play only these cameras")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, 1 is that of the recording")
    parser.add_argument("--loop", action="store_true", help="start over at the end, until interrupted")
    parser.add_argument(
        "--start-offset", type=float, default=0.0, metavar="S", help="seconds to leave out, from the first image on"
    )
    parser.add_argument("--duration", type=float, default=0.0, metavar="S", help="seconds to play; 0 is all")
    parser.add_argument(
        "--keep-gaps", action="store_true", help=f"do not jump gaps of more than {LONGEST_GAP_S:g} s without images"
    )
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="reliable", help="QoS offered")
    parser.add_argument("--depth", type=int, default=5, help="messages that each publisher keeps")
    parser.add_argument(
        "--wait-for-subscribers", type=float, default=0.0, metavar="S",
        help="wait up to so many seconds until every camera topic has a subscriber",
    )  # fmt: skip
    parser.add_argument(
        "--list-cameras", action="store_true", help="print topic and transport of each camera as JSON, play nothing"
    )
    parser.add_argument("--no-clock", action="store_true", help="do not publish /clock")
    parser.add_argument(
        "--traffic-log", type=path_argument, metavar="CSV", help="write down when each image was handed over"
    )
    return parser.parse_args(arguments)
