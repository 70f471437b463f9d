"""Write `report.html`: one self-contained page about a drive, with pictures and plots."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from ros_kd_perception.demo.drive_moments import Drive, Picture, choose_highlights, choose_moments, frame_key
from ros_kd_perception.demo.drive_pictures import FrameKey
from ros_kd_perception.demo.drive_summary import REASONS
from ros_kd_perception.drawing import plots
from ros_kd_perception.drawing.plots import Series
from ros_kd_perception.model.contract import ClassInfo
from ros_kd_perception.structures import Detections

RATE_WINDOW_S = 2.0
_SERIES_COLORS = 8


def render_report(drive: Drive, jpegs: Mapping[FrameKey, bytes], hero_jpeg: bytes, hero_caption: str) -> str:
    """Fill in the page.

    Args:
        drive: Content of the report.
        jpegs: Pictures chosen by `choose_moments` and `choose_highlights`. Missing ones are left out.
        hero_jpeg: Large picture at the top.
        hero_caption: Text below it.

    Returns:
        HTML without references to other files or hosts.
    """
    template = Template(resources.files(__package__).joinpath("report_template.html").read_text(encoding="utf-8"))
    classes = drive.contract.segmentation_classes
    return template.substitute(
        title=escape(drive.title),
        subtitle=escape(drive.subtitle),
        hero=_data_url(hero_jpeg),
        hero_caption=escape(hero_caption),
        columns=str(min(4, max(1, len(drive.cameras)))),
        tiles=_tiles(drive.summary),
        table=_table(drive.summary),
        moments=_figures(choose_moments(drive), jpegs),
        highlights=_figures(choose_highlights(drive), jpegs),
        class_legend=_legend((info.name, _hex(info)) for info in classes),
        camera_legend=_legend((camera, _series_color(index)) for index, camera in enumerate(drive.cameras)),
        drop_legend=_legend([("no result", "var(--bad)")]) if drive.summary["dropped"] else "",
        box_legend=_legend(
            (info.name, _series_color(index)) for index, info in enumerate(drive.contract.detection_classes)
        ),
        latency_plot=_latency_plot(drive),
        histogram=_histogram(drive),
        rate_plot=_rate_plot(drive),
        drops_plot=_drops_plot(drive.summary),
        shares_plot=_shares_plot(drive),
        boxes_plot=_boxes_plot(drive),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in drive.facts.items()),
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    latency = summary["latency_ms"]
    share = summary["perceived_share"]
    tiles = [
        (
            "good" if share >= 0.9 else "bad",
            f"{100 * share:.1f} %",
            f"perceived: {summary['perceived']} of {summary['sent']}",
        ),
        ("", f"{_number(summary['frames_per_second'])}", "frames perceived each second"),
        ("", f"{_number(latency['p50'])} ms", "latency, median"),
        ("", f"{_number(latency['p95'])} ms", "latency, 95th percentile"),
        ("", f"{_number(latency['p99'])} ms", "latency, 99th percentile"),
        ("", str(sum(summary["dropped"].values())), "frames without results"),
    ]
    return "".join(
        f'<div class="card tile {kind}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for kind, value, name in tiles
    )


def _table(summary: Mapping[str, Any]) -> str:
    head = "".join(
        f"<th>{name}</th>"
        for name in ("camera", "sent", "perceived", "dropped", "frames/s", "p50 ms", "p95 ms", "p99 ms", "provider")
    )
    rows = [*summary["cameras"].items(), ("all", summary)]
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in map(_table_row, rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _table_row(row: tuple[str, Mapping[str, Any]]) -> list[str]:
    name, part = row
    dropped = ", ".join(f"{count} {reason}" for reason, count in part["dropped"].items()) or "none"
    latencies = [_number(part["latency_ms"][percentile]) for percentile in ("p50", "p95", "p99")]
    rate = _number(part["frames_per_second"])
    return [name, str(part["sent"]), str(part["perceived"]), dropped, rate, *latencies, str(part["provider"])]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _figures(pictures: Iterable[Picture], jpegs: Mapping[FrameKey, bytes]) -> str:
    return "".join(
        f'<figure><img loading="lazy" src="{_data_url(jpegs[picture.key])}" alt="{escape(picture.caption)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
        if picture.key in jpegs
    )


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<span><i style="background:{color}"></i>{escape(name)}</span>' for name, color in entries)


def _latency_plot(drive: Drive) -> str:
    series = []
    for index, camera in enumerate(drive.cameras):
        points = [
            (drive.seconds(frame), frame.latency_ms)
            for frame in drive.frames
            if frame.camera == camera and frame.latency_ms is not None
        ]
        series.append(Series(camera, f"C{index % _SERIES_COLORS}", points))
    missing = [drive.seconds(frame) for frame in drive.frames if frame.latency_ms is None]
    events = {"no result": missing} if missing else {}
    return plots.page_svg(
        lambda axes: plots.scatter(axes, series, "seconds of the drive", "latency, ms", events), "latency over time"
    )


def _histogram(drive: Drive) -> str:
    latencies_ms = [frame.latency_ms for frame in drive.frames if frame.latency_ms is not None]
    if not latencies_ms:
        return "<p>No frame was perceived.</p>"
    percentiles = {name: drive.summary["latency_ms"][name] for name in ("p50", "p95", "p99")}
    return plots.page_svg(
        lambda axes: plots.histogram(axes, latencies_ms, percentiles, "latency, ms"), "histogram of the latency"
    )


def _rate_plot(drive: Drive) -> str:
    length_s = drive.seconds(drive.frames[-1]) if drive.frames else 0.0
    window_s = min(RATE_WINDOW_S, max(length_s / 4, 0.1))
    times_s = np.arange(window_s, max(length_s, window_s) + 1e-9, window_s / 4)
    series = []
    for index, camera in enumerate(drive.cameras):
        done_s = np.array(
            [
                drive.seconds(frame) + frame.latency_ms / 1e3
                for frame in drive.frames
                if frame.camera == camera and frame.latency_ms is not None
            ]
        )
        rates = [float(np.count_nonzero((done_s > t - window_s) & (done_s <= t)) / window_s) for t in times_s]
        points = list(zip(times_s.tolist(), rates, strict=True))
        series.append(Series(camera, f"C{index % _SERIES_COLORS}", points))
    y_label = f"results/s, over {window_s:.1f} s"
    return plots.page_svg(
        lambda axes: plots.lines(axes, series, "seconds of the drive", y_label), "results each second over time"
    )


def _drops_plot(summary: Mapping[str, Any]) -> str:
    if not summary["dropped"]:
        return "<p>None: every frame that was sent was perceived.</p>"
    meanings = "".join(
        f"<dt>{escape(reason)}</dt><dd>{escape(REASONS.get(reason, reason))}</dd>" for reason in summary["dropped"]
    )
    height_px = 20 + 30 * len(summary["dropped"])
    bars = plots.page_svg(lambda axes: plots.bars(axes, summary["dropped"]), "frames by reason", height_px)
    return f"{bars}<dl>{meanings}</dl>"


def _shares_plot(drive: Drive) -> str:
    if drive.contract.class_map is None:
        return "<p>The model does no segmentation.</p>"
    classes = drive.contract.segmentation_classes
    unlabeled = ClassInfo(drive.contract.unlabeled_id, "unlabeled", (128, 128, 128))
    rows = {}
    for camera in drive.cameras:
        masks = [r.mask for r in drive.results.values() if r.camera == camera and r.mask is not None]
        pixels = sum((mask.pixels_by_class for mask in masks), np.zeros(256, np.int64))
        total = max(int(pixels.sum()), 1)
        rows[camera] = {info.name: float(pixels[info.id] / total) for info in (*classes, unlabeled)}
    colors = {info.name: _hex(info) for info in (*classes, unlabeled)}
    return plots.page_svg(lambda axes: plots.shares(axes, rows, colors), "shares of classes", 20 + 42 * len(rows))


def _boxes_plot(drive: Drive) -> str:
    """Plot the mean number of boxes in a frame by class, over windows of one second and all cameras."""
    if drive.contract.detections is None:
        return "<p>The model does no detection.</p>"
    windows: dict[int, list[Detections]] = {}
    for frame in drive.frames:
        result = drive.results.get(frame_key(frame))
        if result is not None and result.detections is not None:
            windows.setdefault(int(drive.seconds(frame)), []).append(result.detections)
    series = []
    for index, info in enumerate(drive.contract.detection_classes):
        points = [
            (second + 0.5, float(np.mean([np.count_nonzero(found.labels == info.id) for found in frames])))
            for second, frames in sorted(windows.items())
        ]
        series.append(Series(info.name, f"C{index % _SERIES_COLORS}", points))
    return plots.page_svg(
        lambda axes: plots.lines(axes, series, "seconds of the drive", "boxes in a frame"), "boxes over time"
    )


def _series_color(index: int) -> str:
    return f"var(--series-{index % _SERIES_COLORS})"


def _hex(info: ClassInfo) -> str:
    return "#{:02x}{:02x}{:02x}".format(*info.color_rgb)


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
