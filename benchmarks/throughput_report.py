"""Sums, tables and plot of `throughput.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEPT = 0.9
"""`--check` fails below this share of the peak, for rates at which images are dropped."""

FULL = 0.85
"""From this share of the machine's CPU time on, the node has only the cores that others leave."""

ALL = 0.98
"""From this share of the received images on, all count as published; a few are always under way."""


def sums(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the peak, the least share of it beyond saturation, and the highest rate at which all were published."""
    peak = max(points, key=lambda point: float(point["published_per_s"]))
    saturated = [point for point in points if _drops_images(point)]
    whole = [point for point in points if _publishes_all(point)]
    return {
        "peak_published_per_s": peak["published_per_s"],
        "peak_at_per_s": peak["sent_per_s"],
        "peak_for_each_core_left": _for_each_core_left(peak),
        "least_share_beyond": _least([p["published_per_s"] for p in saturated], peak["published_per_s"]),
        "least_share_for_each_core_left": _least(
            [_for_each_core_left(p) for p in saturated], _for_each_core_left(peak)
        ),
        "all_published_at": max(whole, key=lambda point: float(point["received_per_s"]), default=None),
    }


def _least(values: Sequence[float], of: float) -> float | None:
    return round(min(values) / of, 3) if values and of else None


def _for_each_core_left(point: Mapping[str, Any]) -> float:
    """Return the images published a second, for each core that cameras, others and the middleware's copy leave."""
    return round(point["published_per_s"] / max(point["cores_left"], 0.05), 1)


def _drops_images(point: Mapping[str, Any]) -> bool:
    return bool(point["published_per_s"] < KEPT * point["sent_per_s"])


def _publishes_all(point: Mapping[str, Any]) -> bool:
    return bool(point["published_per_s"] >= ALL * point["received_per_s"] > 0)


def collapses(variant: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each rate at which images are dropped and less than KEPT of the peak is published.

    On a machine whose cores are all busy, cameras that send more leave less to the node. There, what it publishes for
    each core that is left counts.
    """
    peak, for_each_core = variant["peak_published_per_s"], variant["peak_for_each_core_left"]
    return [
        f"{variant['name']}: expected at least {KEPT:g} of the peak of {peak:g} images/s at {point['sent_per_s']:g} "
        f"sent, got {point['published_per_s']:g}"
        for point in variant["points"]
        if _drops_images(point)
        and point["published_per_s"] < KEPT * peak
        and (point["machine_share"] < FULL or _for_each_core_left(point) < KEPT * for_each_core)
    ]


def print_head() -> None:
    """Print the heading of the table of rates."""
    print(
        f"\n{'':14}{'images/s':^36}{'age, ms':^24}{'node: CPU ms an image':^32}{'cores':^32}\n"
        f"{'':14}{'offered':>9}{'sent':>9}{'received':>9}{'published':>9}{'p50':>8}{'p95':>8}{'p99':>8}"
        f"{'received':>10}{'published':>10}{'beside net':>12}{'node':>8}{'cameras':>8}{'all':>8}{'left':>8}  dropped/s"
    )


def print_point(name: str, point: Mapping[str, Any]) -> None:
    """Print one line of the table of rates."""

    def text(value: float | None, width: int, digits: int) -> str:
        return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"

    dropped = ", ".join(f"{reason} {rate:g}" for reason, rate in point["dropped_per_s"].items() if rate)
    print(
        f"{name[:13]:<14}{point['offered_per_s']:9.0f}{point['sent_per_s']:9.0f}{point['received_per_s']:9.0f}"
        f"{point['published_per_s']:9.0f}"
        + "".join(text(point["age_ms"][mark], 8, 1) for mark in ("p50", "p95", "p99"))
        + text(point["node_ms_per_received"], 10, 2)
        + text(point["node_ms_per_published"], 10, 2)
        + text(point["beside_network_ms_per_received"], 12, 2)
        + f"{point['node_cores']:8.2f}{point['senders_cores']:8.2f}{point['machine_cores']:8.2f}"
        f"{point['cores_left']:8.2f}  {dropped}",
        flush=True,
    )


def print_summary(variant: Mapping[str, Any]) -> None:
    """Print the sums of a variant, and the CPU time by process and thread at its peak."""
    least = variant["least_share_beyond"]
    print(
        f"\n{variant['name']}: peak {variant['peak_published_per_s']:g} images/s published at "
        f"{variant['peak_at_per_s']:g} sent; least beyond saturation: "
        + ("not reached" if least is None else f"{least:.2f} of the peak, ")
        + ("" if least is None else f"{variant['least_share_for_each_core_left']:.2f} for each core that others leave")
    )
    if whole := variant["all_published_at"]:
        print(
            f"  all published up to {whole['received_per_s']:g} images/s: "
            f"{whole['beside_network_ms_per_received']} ms of CPU an image beside the network, "
            f"whose run took {whole['network']['run_ms']} ms and {whole['network']['run_cpu_ms']} ms of CPU"
        )
        print_threads(whole)


def print_comparison(variants: Sequence[Mapping[str, Any]]) -> None:
    """Print the CPU time beside the network of each variant over that of the first, at rates that both keep up with."""
    for variant in variants[1:]:
        for point, first in zip(variant["points"], variants[0]["points"], strict=True):
            if _publishes_all(point) and _publishes_all(first):
                ratio = point["beside_network_ms_per_received"] / first["beside_network_ms_per_received"]
                print(
                    f"{variant['name']} / {variants[0]['name']} at {point['offered_per_s']:g} images/s: "
                    f"{ratio:.3f} of the CPU time beside the network"
                )


def print_threads(point: Mapping[str, Any]) -> None:
    """Print the CPU time of each process and thread, for each image received."""
    for process, threads in point["cores_by_thread"].items():
        each_ms = {name: 1e3 * cores / point["received_per_s"] for name, cores in threads.items()}
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in each_ms.items() if ms >= 0.01)
        print(f"  {process}: {sum(each_ms.values()):.2f} ms of CPU an image: {shown}")


def drawing(result: Mapping[str, Any]) -> str:
    """Return a plot of published images, ages and CPU time by offered rate, one line for each variant, as SVG."""
    from ros_kd_perception.drawing.plots import Series, document_svg, lines

    def draw(value: Any, y_label: str) -> Any:
        series = [
            Series(
                variant["name"],
                f"C{index}",
                [(p["sent_per_s"], y) for p in variant["points"] if (y := value(p)) is not None],
            )
            for index, variant in enumerate(result["variants"])
        ]

        def on(axes: Any) -> None:
            lines(axes, series, "images/s sent", y_label)
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncol=len(series), frameon=False)

        return on

    size = "x".join(map(str, result["size"]))
    return document_svg(
        {
            f"Published, {result['cameras']} cameras, {result['transport']} {size}": draw(
                lambda point: point["published_per_s"], "images/s"
            ),
            "Age at publish, p99 of the worst camera": draw(lambda point: point["age_ms"]["p99"], "ms"),
            "CPU time of the node for each image received": draw(lambda point: point["node_ms_per_received"], "ms"),
        }
    )
