"""Write the output of a finished live drive: summary.json, overlay.mp4, report.html, perception.mcap."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader
from ros_kd_perception.bags.traffic_log import read_traffic
from ros_kd_perception.demo.drive_moments import Drive, Picture, choose_highlights, choose_moments
from ros_kd_perception.demo.drive_pictures import FrameKey, PictureAlbum, draw_frames, write_overlay_video
from ros_kd_perception.demo.drive_summary import DrivenFrame, match_results, read_node_report, summarise
from ros_kd_perception.demo.live_drive import NODE_NAME, LiveFiles, LivePlan
from ros_kd_perception.demo.recorded_results import TOPIC_OF_TASK, Recording, read_recording
from ros_kd_perception.demo.report import render_report
from ros_kd_perception.drawing.mosaic import Mosaic, left_to_right
from ros_kd_perception.drawing.video import VideoWriter
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION
from ros_kd_perception.model.onnx_model import OnnxModel

OUTPUT_FILES = ("report.html", "overlay.mp4", "perception.mcap", "summary.json")
MIN_VIDEO_RATE, MAX_VIDEO_RATE = 10, 30


@dataclass(frozen=True)
class DriveNames:
    """Names that the report uses: the headline, and the source of the frames."""

    title: str
    source: str


def write_outputs(
    plan: LivePlan, files: LiveFiles, model: OnnxModel, names: DriveNames, folder: Path
) -> dict[str, Any]:
    """Write the four files of `OUTPUT_FILES` into an empty folder.

    Args:
        plan: The drive that was played.
        files: Files of the live run. The recording is moved, not copied.
        model: The model that the node ran.
        names: Names for the report.
        folder: Folder that the files are written to.

    Returns:
        The summary.

    Raises:
        BagError: No frame was perceived, or the bag or the recording cannot be read.
        VideoError: There is no room for the video.
    """
    tasks = model.contract.tasks
    kinds = [TOPIC_OF_TASK[task] for task in tasks]
    frames = match_results(read_traffic(files.sent), read_traffic(files.received), kinds)
    mosaic = Mosaic(left_to_right(plan.cameras))
    recording = read_recording(
        files.recording, NODE_NAME, plan.cameras, lambda camera, size: mosaic.tiles[camera].fit(*size), tasks
    )
    summary = summarise(frames, read_node_report(recording.last_diagnostics))
    if not summary["perceived"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["dropped"].items()) or "no frames sent"
        raise BagError(f"expected frames of {plan.bag} to be perceived, none was: {reasons}; check its image topics")
    drive = _drive(plan, model, names, summary, frames, recording)
    jpegs, hero_jpeg = _draw(plan, drive, mosaic, folder / "overlay.mp4")
    shown = {SEGMENTATION: "Tints show classes of the segmentation.", DETECTION: "Boxes show label and score."}
    hero_caption = " ".join(["All cameras at one moment.", *(shown[task] for task in tasks)])
    page = render_report(drive, jpegs, hero_jpeg, hero_caption)
    # The name of a bag may hold bytes that are not UTF-8.
    (folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    shutil.move(files.recording, folder / "perception.mcap")
    full_summary = {**summary, "drive": dict(drive.facts)}
    (folder / "summary.json").write_text(json.dumps(full_summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return full_summary


def _drive(
    plan: LivePlan,
    model: OnnxModel,
    names: DriveNames,
    summary: Mapping[str, Any],
    frames: Sequence[DrivenFrame],
    recording: Recording,
) -> Drive:
    contract = model.contract
    length_s = (frames[-1].sent_ns - frames[0].sent_ns) / 1e9
    masks = [result.mask for result in recording.results.values() if result.mask is not None]
    sizes = dict.fromkeys(f"{mask.source_size[1]}x{mask.source_size[0]}" for mask in masks)
    cameras = ", ".join([f"{len(plan.cameras)} cameras", *sizes])
    facts = {
        "Frames": f"{names.source}; {cameras}, {length_s:.1f} s in real time",
        "Topics": ", ".join(f"{camera}: {topic}" for camera, topic in plan.cameras.items()),
        "Student": f"{contract.name} {contract.version}, {contract.precision}, network input "
        f"{contract.input.width}x{contract.input.height}, sha256 {model.sha256}",
        **({"Choice of the student": "; ".join(plan.model_notes)} if plan.model_notes else {}),
        "Execution provider": f"{summary['fallback'] or summary['provider']}, {plan.intra_op_threads} thread"
        f"{'s' * (plan.intra_op_threads > 1)} a network run",
        "Machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        "Processes": "player, perception node and recorder run as separate processes on a ROS 2 graph, with raised "
        "priority if the user may raise it",
        "Measured": str(summary["measured"]),
    }
    subtitle = (
        f"{contract.name} {contract.version} on {summary['provider']}, {len(plan.cameras)} "
        f"camera{'s' * (len(plan.cameras) != 1)} for {length_s:.0f} s on a live ROS 2 graph: {summary['perceived']} of "
        f"{summary['sent']} frames perceived."
    )
    return Drive(names.title, subtitle, facts, summary, frames, recording.results, contract)


def _draw(plan: LivePlan, drive: Drive, mosaic: Mosaic, video_path: Path) -> tuple[dict[FrameKey, bytes], bytes]:
    pictures = [*choose_moments(drive), *choose_highlights(drive)]
    album = PictureAlbum([picture.key for picture in pictures], drive.contract)
    rate = round(len(drive.frames) / max(drive.seconds(drive.frames[-1]), 1.0))
    rate = min(MAX_VIDEO_RATE, max(MIN_VIDEO_RATE, rate))
    with BagReader(plan.bag, plan.cameras) as bag, VideoWriter(video_path, rate) as video:
        drawn = draw_frames(bag, plan.duration_s, drive.results, drive.contract, mosaic)
        bar = tqdm(
            drawn, total=len(drive.frames), unit="frame", desc="drawing the overlay video", leave=False, disable=None
        )
        hero_jpeg = write_overlay_video(bar, _captions(drive), mosaic, video, rate, _hero(drive, pictures), album)
    return album.jpegs, hero_jpeg


def _hero(drive: Drive, pictures: Sequence[Picture]) -> FrameKey | None:
    """Choose the frame with most boxes of the large tile, not near the ends, with results in every tile if possible."""
    large = Mosaic(left_to_right(drive.cameras)).ahead
    latest: dict[str, bool] = {}
    candidates: list[tuple[bool, int, FrameKey]] = []
    for frame in drive.frames:
        key = (frame.camera, frame.stamp_ns)
        latest[frame.camera] = key in drive.results
        if frame.camera == large and key in drive.results:
            complete = len(latest) == len(drive.cameras) and all(latest.values())
            candidates.append((complete, drive.results[key].boxes, key))
    middle = candidates[len(candidates) // 8 :]
    if not middle:
        return pictures[0].key if pictures else None
    return max(middle, key=lambda candidate: candidate[:2])[2]


def _captions(drive: Drive) -> dict[FrameKey, str]:
    captions = {}
    for frame in drive.frames:
        latency = "no result" if frame.latency_ms is None else f"{frame.latency_ms:.0f} ms"
        captions[frame.camera, frame.stamp_ns] = f"{frame.camera}  {drive.seconds(frame):.1f} s  {latency}"
    return captions
