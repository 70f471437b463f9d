"""The demo command: `python -m ros_kd_perception.demo`, or `make demo`.

It renders a drive, or takes a bag, and plays it in real time to the perception node on a real ROS 2 graph. It records
the results and writes a report, a video, the recording and a summary. The output folder appears only when it is
complete. A demo that fails or is interrupted leaves neither files nor processes behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ros_kd_perception import render_drive
from ros_kd_perception.bags.reader import BagError, BagReader
from ros_kd_perception.candidates.trial import try_model
from ros_kd_perception.demo.drive_outputs import OUTPUT_FILES, DriveNames, write_outputs
from ros_kd_perception.demo.drive_summary import REASONS
from ros_kd_perception.demo.live_drive import LiveFiles, LivePlan, run_live_drive
from ros_kd_perception.demo.logged_process import ChildFailed
from ros_kd_perception.demo.played_images import look_at_images
from ros_kd_perception.demo.shared_memory import segment_bytes
from ros_kd_perception.drawing.video import VideoError
from ros_kd_perception.model.model_choice import choose_model
from ros_kd_perception.model.onnx_model import DEVICES, ModelError, OnnxModel
from ros_kd_perception.parameters.camera_names import parse_camera_topics
from ros_kd_perception.playback_timeline import LONGEST_PART_S, jump_sentences
from ros_kd_perception.sample_drive import WEATHERS
from ros_kd_perception.sample_drive.camera import default_cameras
from ros_kd_perception.system.interruption import delayed_interrupt
from ros_kd_perception.system.output_paths import check_folder, make_folder, remove_if_empty
from ros_kd_perception.system.shipped_files import AUTO_MODEL
from ros_kd_perception.system.standard_output import escape_unknown_characters

DEFAULT_PLAY_S = 60.0
DEFAULT_RENDER_S = 20.0
RENDERED_RATE_HZ = 5.5
"""Rate of each of three cameras: 16.5 frames a second in all. Two cores can run the node at this rate together with the
player, the recorder and the rest of the machine."""
RENDERED_IMAGE_BYTES = max(3 * camera.width_px * camera.height_px for camera in default_cameras())

GOOD_SHARE, LEAST_SHARE = 0.9, 0.5
"""Shares of perceived frames. Below the first the demo explains why, below the second it fails."""

EXIT_FEW_PERCEIVED = 3
DESCRIPTIONS = {
    "report.html": "start here: pictures, plots, figures",
    "overlay.mp4": "the drive with the student's output drawn over it",
    "perception.mcap": "the node's messages, for Foxglove or ros2 bag",
    "summary.json": "the figures",
}


_STARTED_S = time.monotonic()


class DemoRefused(ValueError):
    """An option cannot be used, or must not be; the text is one sentence."""


def run_demo(parsed: argparse.Namespace) -> dict[str, Any]:
    """Run the whole demo and return its summary.

    Raises:
        BagError, CandidateRefused, ModelError, DemoRefused: An input cannot be used. Nothing was written.
        NoSharedMemory: There is too little shared memory for images of this size. Nothing was written.
        ChildFailed: The node, the player or the recorder failed. Nothing was written.
    """
    output = Path(parsed.output)
    if not 0 <= parsed.duration_s <= LONGEST_PART_S:
        raise DemoRefused(
            f"expected a --duration-s of 0 (all) to {LONGEST_PART_S:g} seconds, got {parsed.duration_s:g}"
        )
    _check_replaceable(output)
    choice = choose_model(parsed.model, parsed.device)
    trial = try_model(choice.path, {"device": parsed.device, "require_gpu": parsed.require_gpu})
    notes = [note for note in (choice.reason, trial.speed) if note]
    for note in notes:
        _say(note)
    model = OnnxModel.open(choice.path, device="cpu", verify_golden=False, sha256=trial.sha256)
    plan = _plan(parsed, Path(parsed.bag), Path(choice.path), notes) if parsed.bag else None
    with _work_folder(output) as work:
        if plan is None:
            segment_bytes(RENDERED_IMAGE_BYTES)  # refuses too little shared memory before the drive is rendered
            drive = work / "drive.mcap"
            _say(f"rendering a drive of {parsed.render_s:g} s, three cameras")
            _render(drive, parsed)
            plan = _plan(parsed, drive, Path(choice.path), notes)
            names = DriveNames("A rendered drive, perceived live", f"rendered drive, seed {parsed.seed}")
        else:
            names = DriveNames(f"{plan.bag.name}, perceived live", f"bag {plan.bag.resolve()}")
        _say(f"playing {plan.images} frames of {', '.join(plan.cameras)} to the perception node")
        run_live_drive(plan, LiveFiles(work))
        _say("drawing the results")
        results = work / "results"
        results.mkdir()
        summary = write_outputs(plan, LiveFiles(work), model, names, results)
        _replace(results, output, work / "replaced")
    return summary


def _render(drive: Path, parsed: argparse.Namespace) -> None:
    command = ["--output", str(drive), "--duration-s", f"{parsed.render_s:g}", "--rate-hz", f"{RENDERED_RATE_HZ:g}"]
    status = render_drive.main([*command, "--seed", str(parsed.seed), "--weather", parsed.weather])
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise DemoRefused("the drive could not be rendered")


def _plan(parsed: argparse.Namespace, bag_path: Path, model_path: Path, model_notes: Sequence[str]) -> LivePlan:
    with BagReader(bag_path, parse_camera_topics(parsed.camera)) as bag:
        for note in bag.notes:
            _say(note)
        bag.check_has_images()
        played = look_at_images(bag, parsed.duration_s)
        total = bag.count(bag.cameras.values())
        is_part = bool(parsed.duration_s) and played.count < total
        if is_part:
            _say(
                f"playing the first {parsed.duration_s:g} s, {played.count} of {total} images; --duration-s 0 plays all"
            )
        for camera in played.absent:
            _say(f"{camera} has no image in this part")
        for sentence in jump_sentences(played.jumps):
            _say(sentence)
        return LivePlan(
            bag=bag_path,
            cameras=dict(bag.cameras),
            message_types=dict(bag.camera_topics),
            images=played.count,
            duration_s=parsed.duration_s if is_part else 0.0,
            model=model_path,
            device=parsed.device,
            require_gpu=parsed.require_gpu,
            intra_op_threads=threads_for_the_network(),
            segment_bytes=segment_bytes(played.largest_message_bytes),
            model_notes=model_notes,
        )


def threads_for_the_network() -> int:
    """Return the number of threads for the network: half of the cores.

    The other half is for the player, the recorder and the rest of the machine. The threads of one run wait for each
    other, so one thread that is not scheduled delays all. On two cores with three other busy jobs, one thread perceived
    7.5 to 11 frames/s and two threads 3 to 4.
    """
    return max(1, len(os.sched_getaffinity(0)) // 2)


def _check_replaceable(output: Path) -> None:
    """Refuse to replace a folder that contains anything but the output of a demo."""
    if not output.exists():
        return
    foreign = (
        sorted(file.name for file in output.iterdir() if file.name not in OUTPUT_FILES) if output.is_dir() else ["it"]
    )
    if foreign:
        raise DemoRefused(
            f"expected {output} to be a new folder or one of an earlier demo, but {foreign[0]} is not a demo's; "
            "choose another with --output"
        )


@contextmanager
def _work_folder(output: Path) -> Iterator[Path]:
    """Provide a folder beside the output, on the same disk so that results can be renamed. Always remove it again."""
    check_folder(output)
    parent = output.absolute().parent
    with ExitStack() as leftovers:
        try:
            with delayed_interrupt():  # or a folder is there that nothing knows of
                # The new parents contain the output if the demo succeeded.
                leftovers.callback(remove_if_empty, make_folder(parent))
                work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=parent))
                leftovers.callback(shutil.rmtree, work, ignore_errors=True)
        except OSError as error:
            raise DemoRefused(
                f"expected to write to {output.parent}, got: {error.strerror}; choose another --output"
            ) from None
        yield work


def _replace(results: Path, output: Path, aside: Path) -> None:
    try:
        if output.exists():
            output.rename(aside)
        results.rename(output)
    except BaseException:  # for example Ctrl-C between the two renames
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise


def _say(text: str) -> None:
    print(f"demo [{time.monotonic() - _STARTED_S:3.0f} s]: {text}", flush=True)


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return the summary as lines of text: one for each camera and one for all."""
    columns = ("camera", "sent", "perceived", "dropped", "frames/s", "p50 ms", "p95 ms", "p99 ms")
    rows = [columns]
    for name, part in [*summary["cameras"].items(), ("all", summary)]:
        latency = part["latency_ms"]
        figures = (part["frames_per_second"], latency["p50"], latency["p95"], latency["p99"])
        dropped = ", ".join(f"{count} {reason}" for reason, count in part["dropped"].items()) or "0"
        perceived = f"{part['perceived']} ({100 * part['perceived_share']:.1f} %)"
        rows.append(
            (name, str(part["sent"]), perceived, dropped, *("-" if f is None else f"{f:.1f}" for f in figures))
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo", description="Run a drive through the perception node, live, and write a report."
    )
    parser.add_argument("--output", default="out/demo", metavar="FOLDER", help="replaces the output of an earlier demo")
    parser.add_argument("--bag", metavar="BAG", help="play this bag (.mcap, .db3 or rosbag2 folder); render nothing")
    parser.add_argument("--camera", action="append", default=[], metavar="NAME=TOPIC", help="play only these cameras")
    parser.add_argument(
        "--duration-s", type=float, default=DEFAULT_PLAY_S, metavar="S", help="longest part of a bag to play; 0: all"
    )
    parser.add_argument(
        "--model",
        default=AUTO_MODEL,
        metavar="ONNX",
        help="student; auto (the default): the shipped one, fastest here",
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="execution provider of the network")
    parser.add_argument("--require-gpu", action="store_true", help="refuse to run any part of the network on the CPU")
    parser.add_argument(
        "--render-s", type=float, default=DEFAULT_RENDER_S, metavar="S", help="length of a rendered drive"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of a rendered drive")
    parser.add_argument("--weather", choices=WEATHERS, default="day", help="weather of a rendered drive")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        Exit status: 0; 1 if a step failed; 2 if a bag, model or option cannot be used or there is too little shared
        memory; 3 if fewer than half of the frames were perceived (the results are written); 130 for Ctrl-C.
    """
    parsed = parse_arguments(arguments)
    escape_unknown_characters()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up like Ctrl-C
    try:
        summary = run_demo(parsed)
    except KeyboardInterrupt:
        print("\ndemo: interrupted, nothing was written", file=sys.stderr)
        return 130
    except (BagError, ModelError, DemoRefused, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (ChildFailed, VideoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(
        f"\n{summary_table(summary)}\n\nprovider: {summary['provider']}; {time.monotonic() - _STARTED_S:.0f} s in all\n"
    )
    if summary["fallback"]:
        print(f"demo: {summary['fallback']}", file=sys.stderr)
    for name, text in DESCRIPTIONS.items():
        print(f"  {Path(parsed.output) / name}  {text}")
    if summary["perceived_share"] < GOOD_SHARE:
        print(f"\n{_why_so_few(summary)}")
    return EXIT_FEW_PERCEIVED if summary["perceived_share"] < LEAST_SHARE else 0


def _why_so_few(summary: Mapping[str, Any]) -> str:
    """Explain why most of the missing frames were lost."""
    limit = LEAST_SHARE if summary["perceived_share"] < LEAST_SHARE else GOOD_SHARE
    reason, count = max(summary["dropped"].items(), key=lambda item: item[1])
    slow = reason in ("replaced", "too_old")
    why = "this machine was too busy or is too slow for it" if slow else REASONS.get(reason, "see docs/vehicle.md")
    were = "was" if count == 1 else "were"
    return f"less than {100 * limit:.0f} % were perceived; {count} {were} dropped as {reason}: {why}"
