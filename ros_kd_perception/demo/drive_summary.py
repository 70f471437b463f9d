"""Account for every frame of a live drive: perceived with its latency, or dropped for a reason."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ros_kd_perception.bags.traffic_log import TrafficEntry

NOT_DELIVERED = "not_delivered"
"""A frame that is missing without a drop in the node: its message, or one of its results, did not arrive."""

REASONS = {
    "lost": "lost on its way to the node, or a newer frame came before the node took it",
    "replaced": "a newer frame of the same camera came before this one's turn",
    "over_rate": "its camera has a limit on its rate",
    "too_old": "it waited longer for its turn than the node's age limit",
    "inactive": "the node was not active",
    "unknown_encoding": "an image encoding that cannot be decoded",
    "bad_size": "height or width do not fit the data",
    "bad_step": "the row length does not fit the width",
    "bad_data": "truncated, corrupt or not of the stated format",
    "too_large": "more pixels than the node takes",
    "zero_stamp": "a header without a stamp",
    "stamp_backwards": "older than the frame before it",
    "stamp_ahead": "its header stamp is in the future",
    "stale": "its header stamp is older than the limit on stamps",
    "duplicate": "the frame before it, with the same stamp, once more",
    "failed": "the network failed on it",
    "worker_lost": "the process that had it in work ended",
    NOT_DELIVERED: "the image or one of its results was lost between the processes",
}
"""What each drop reason means."""

_DROPPED = "dropped."

MEASURED = (
    "latency_ms is measured on one steady clock: it starts when the player hands a camera message to the ROS graph and "
    "ends when the recorder has received all results of that frame, segmentation and detections. It includes the "
    "transport there and back, the wait for the frame's turn, decoding and inference. dropped comes from the node's "
    f"last diagnostics; {NOT_DELIVERED} counts frames that were sent but neither perceived nor dropped by the node"
)


@dataclass(frozen=True)
class DrivenFrame:
    """A camera message that was sent.

    Attributes:
        camera: Name of its camera.
        stamp_ns: Stamp of its header.
        sent_ns: When it was handed to the ROS graph, CLOCK_MONOTONIC.
        latency_ms: Time until all of its results were received. None if one never arrived.
    """

    camera: str
    stamp_ns: int
    sent_ns: int
    latency_ms: float | None


@dataclass(frozen=True)
class NodeReport:
    """What the node reports about itself.

    Attributes:
        provider: Execution provider that really ran.
        dropped: Number of dropped frames for each camera and reason.
        fallback: Why this is not the provider that was asked for; empty if it is.
    """

    provider: str
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fallback: str = ""


def read_node_report(diagnostics: Any) -> NodeReport:
    """Read the provider and the drop counts from the node's diagnostics.

    Args:
        diagnostics: A diagnostic_msgs/DiagnosticArray of the node. None if none was recorded.
    """
    provider, fallback, dropped = "unknown", "", {}
    for status in diagnostics.status if diagnostics is not None else ():
        subject = status.name.rpartition(": ")[2]
        values = {value.key: value.value for value in status.values}
        provider = values.get("provider", provider)
        if values.get("fallback"):
            fallback = f"{values.get('provider_asked')} was asked for, {provider} runs: {values['fallback']}"
        counts = {key.removeprefix(_DROPPED): int(count) for key, count in values.items() if key.startswith(_DROPPED)}
        if counts:
            dropped[subject] = {reason: count for reason, count in counts.items() if count}
    return NodeReport(provider, dropped, fallback)


def match_results(
    sent: Iterable[TrafficEntry],
    received: Iterable[TrafficEntry],
    kinds: Sequence[str] = ("segmentation", "detections"),
) -> list[DrivenFrame]:
    """Find the results of each camera message by camera and stamp.

    Frames of one camera with equal stamps get their results in the order of arrival.

    Args:
        sent: The player's log.
        received: The recorder's log.
        kinds: The messages that a perceived frame has, as the log names them.

    Returns:
        One entry for each image that was sent, in the order of sending.
    """
    arrivals: dict[tuple[str, str, int], deque[int]] = defaultdict(deque)
    for entry in received:
        arrivals[entry.kind, entry.camera, entry.stamp_ns].append(entry.steady_ns)
    frames = []
    for image in sent:
        if image.kind != "image":
            continue
        results = [arrivals[kind, image.camera, image.stamp_ns] for kind in kinds]
        latency_ms = None
        if all(results):
            latency_ms = (max(times.popleft() for times in results) - image.steady_ns) / 1e6
        frames.append(DrivenFrame(image.camera, image.stamp_ns, image.steady_ns, latency_ms))
    return frames


def summarise(frames: Sequence[DrivenFrame], report: NodeReport) -> dict[str, Any]:
    """Summarise a drive, in all and for each camera, for `summary.json`.

    Every part satisfies `sent == perceived + sum(dropped.values())`.

    Args:
        frames: Every frame that was sent.
        report: The node's own counts at the end.
    """
    cameras = list(dict.fromkeys(frame.camera for frame in frames))
    parts = {}
    for camera in cameras:
        own = [frame for frame in frames if frame.camera == camera]
        parts[camera] = _part(own, _account(own, report.dropped.get(camera, {})), report.provider)
    dropped: dict[str, int] = {}
    for part in parts.values():
        for reason, count in part["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + count
    whole = _part(frames, dropped, report.provider)
    return {**whole, "fallback": report.fallback, "cameras": parts, "measured": MEASURED}


def _account(frames: Sequence[DrivenFrame], node_dropped: Mapping[str, int]) -> dict[str, int]:
    """Assign each frame without results to a drop reason of the node, as far as its counts go.

    The node's counts may also contain frames of other senders.
    """
    unexplained = sum(frame.latency_ms is None for frame in frames)
    dropped = {}
    for reason, count in sorted(node_dropped.items(), key=lambda item: -item[1]):
        explained = min(count, unexplained)
        if explained:
            dropped[reason] = explained
            unexplained -= explained
    if unexplained:
        dropped[NOT_DELIVERED] = unexplained
    return dropped


def _part(frames: Sequence[DrivenFrame], dropped: Mapping[str, int], provider: str) -> dict[str, Any]:
    latencies_ms = [frame.latency_ms for frame in frames if frame.latency_ms is not None]
    sent_ns = [frame.sent_ns for frame in frames]
    span_s = (max(sent_ns) - min(sent_ns)) / 1e9 if len(frames) > 1 else 0.0
    # n frames span n - 1 periods.
    periods_share = (len(frames) - 1) / len(frames) if frames else 0.0
    return {
        "sent": len(frames),
        "perceived": len(latencies_ms),
        "perceived_share": round(len(latencies_ms) / len(frames), 4) if frames else 0.0,
        "dropped": dict(dropped),
        "frames_per_second": round(len(latencies_ms) * periods_share / span_s, 2) if span_s else None,
        "latency_ms": latency_percentiles(latencies_ms),
        "provider": provider,
    }


def latency_percentiles(latencies_ms: Sequence[float]) -> dict[str, float | None]:
    """Return p50, p95, p99, minimum and maximum in milliseconds; None for each if there is no latency."""
    if not latencies_ms:
        return dict.fromkeys(("p50", "p95", "p99", "min", "max"))
    p50, p95, p99 = np.percentile(latencies_ms, (50, 95, 99))
    values = {"p50": p50, "p95": p95, "p99": p99, "min": min(latencies_ms), "max": max(latencies_ms)}
    return {name: round(float(value), 3) for name, value in values.items()}
