"""Offering the node more images than it can publish must not make it publish fewer. Short runs of the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from checkout import ROOT
from without_gpu import FALLBACK, environment_without_gpu

sys.path.insert(0, str(ROOT / "benchmarks"))

from cpu_by_thread import Threads, cpu_of_family, spent_by_thread
from throughput import image_size, named_settings, rising_rates, small_topics
from throughput_report import collapses, print_comparison, sums


def run(output: Path, *options: str) -> tuple[dict[str, Any], str, int]:
    """Run the benchmark with a device that the machine lacks. Return its figures, what it printed and its status."""
    command = [sys.executable, "benchmarks/throughput.py", "--device", "cuda", "--json", str(output), *options]
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment_without_gpu(), capture_output=True, text=True, timeout=280, check=False
    )
    if not output.is_file():
        raise RuntimeError(outcome.stdout + outcome.stderr)
    return json.loads(output.read_text()), outcome.stdout, outcome.returncode


@pytest.mark.alone
@pytest.mark.slow
def test_more_images_than_the_node_can_publish_do_not_make_it_publish_fewer(tmp_path: Path) -> None:
    """Small messages, as on /tf, keep the executor busy as well.

    On two idle cores, a node whose executor takes every image publishes 150 of 150 images a second here, and 81 of 480.
    """
    options = ("--cameras", "4", "--rates", "150", "480", "--seconds", "2", "--small-topics", "5@200", "--check")
    _, printed, status = run(tmp_path / "sweep.json", *options)
    assert status == 0, printed


def test_settings_are_compared_at_each_rate(tmp_path: Path) -> None:
    plot = tmp_path / "sweep.svg"
    variants = ("--variant", f"this code: code={ROOT}", "--variant", "other: max_age_ms=100.0,score_threshold=0.5")
    images = ("--cameras", "1", "--size", "320x240", "--transport", "compressed", "--rates", "40", "--seconds", "1")
    trouble = ("--busy-threads", "1", "--switch-interval-ms", "1", "--small-topics", "2@50")
    result, printed, status = run(tmp_path / "sweep.json", *variants, *images, *trouble, "--plot", str(plot))
    assert status == 0, printed
    assert FALLBACK in printed
    assert [variant["name"] for variant in result["variants"]] == ["this code", "other"]
    assert result["variants"][1]["parameters"] == {
        "image_transport": "compressed",
        "max_age_ms": "100.0",
        "score_threshold": "0.5",
    }
    for variant in result["variants"]:
        [point] = variant["points"]
        check_point(point)
    titles = ["".join(text.itertext()) for text in ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}text")]
    assert {"this code", "other", "images/s sent"} <= set(titles)


def check_point(point: dict[str, Any]) -> None:
    assert point["sent_per_s"] == pytest.approx(40, rel=0.25)
    assert 0 < point["published_per_s"] <= point["received_per_s"] + 5
    assert 0 < point["age_ms"]["p50"] <= point["age_ms"]["p99"]
    assert point["network"]["run_ms"] > 0
    threads = point["cores_by_thread"]["node"]
    assert {"busy 0", "perception", "executor"} <= set(threads)
    assert point["node_cores"] + point["busy_cores"] == pytest.approx(sum(threads.values()), abs=0.01)
    assert point["machine_cores"] > 0
    receiving = sum(cores for name, cores in threads.items() if name.startswith("dds."))
    others = point["machine_cores"] - point["node_cores"]
    assert point["cores_left"] == pytest.approx((os.cpu_count() or 1) - others - receiving, abs=0.01)
    assert 0 < point["beside_network_ms_per_received"] < point["node_ms_per_received"]


def test_a_collapse_is_a_rate_at_which_images_are_dropped_and_fewer_are_published() -> None:
    def point(sent: float, published: float, left: float = 1.0, share: float = 0.5) -> dict[str, Any]:
        rates = {"sent_per_s": sent, "received_per_s": sent, "published_per_s": published}
        return {**rates, "cores_left": left, "machine_share": share}

    def found(*points: dict[str, Any]) -> tuple[Any, list[str]]:
        variant = {"name": "node", "points": points, **sums(points)}
        return variant["least_share_beyond"], collapses(variant)

    below = (point(0, 0), point(30, 30), point(100, 100))
    assert found(*below) == (None, [])
    assert found(*below, point(300, 95)) == (0.95, [])
    share, [sentence] = found(*below, point(200, 46), point(300, 95))
    assert share == 0.46
    assert "peak of 100 images/s at 200 sent, got 46" in sentence
    # The dip comes before the peak, at a rate that the node keeps up with later.
    assert len(found(*below, point(200, 60), point(300, 250))[1]) == 1
    # Where all cores are busy, the node is judged by what the others leave to it.
    assert found(*below, point(300, 60, left=0.62, share=0.95)) == (0.6, [])
    assert len(found(*below, point(300, 60, left=0.9, share=0.95))[1]) == 1
    assert len(found(*below, point(300, 60, left=0.62, share=0.8))[1]) == 1


def test_variants_are_compared_where_both_publish_all(capsys: pytest.CaptureFixture[str]) -> None:
    def variant(name: str, published: float, cpu_ms: float) -> dict[str, Any]:
        point = {"offered_per_s": 100, "received_per_s": 100, "published_per_s": published}
        return {"name": name, "points": [point | {"beside_network_ms_per_received": cpu_ms}]}

    print_comparison([variant("before", 100, 4.0), variant("after", 99, 3.0), variant("overloaded", 60, 1.0)])
    assert capsys.readouterr().out == "after / before at 100 images/s: 0.750 of the CPU time beside the network\n"


def test_rates_rise_until_three_times_what_is_published_or_what_cameras_can_send() -> None:
    def offered(published: float, sent: float) -> list[float]:
        points: dict[str, list[dict[str, float]]] = {"node": []}
        rates = []
        for rate in rising_rates(points):
            rates.append(rate)
            points["node"].append({"published_per_s": min(rate, published), "sent_per_s": min(rate, sent)})
        return rates

    assert offered(published=40, sent=1e9) == [0, 30, 45, 68, 101, 152]
    assert offered(published=1000, sent=60) == [0, 30, 45, 68, 101]


def test_cpu_time_is_that_of_each_thread_and_process() -> None:
    code = "import time\nprint(flush=True)\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        before = cpu_of_family(os.getpid())
        child.stdout.readline()
        after = cpu_of_family(os.getpid())
        child.communicate(b"\n")
    assert after[child.pid].name.startswith("python")
    spent = spent_by_thread({child.pid: before[child.pid]}, {child.pid: after[child.pid]})
    assert 0.1 < spent[after[child.pid].name]["main"] <= 0.5


def test_threads_that_ended_and_processes_of_one_name_are_kept_apart() -> None:
    before = {1: Threads("node", 1.0, {1: ("main", 0.5), 2: ("worker", 0.5)})}
    after = {
        1: Threads("node", 4.0, {1: ("main", 1.0), 3: ("worker", 0.25), 4: ("worker", 0.25)}),
        5: Threads("child", 0.5, {5: ("main", 0.5)}),
        6: Threads("child", 0.25, {6: ("main", 0.25)}),
    }
    assert spent_by_thread(before, after) == {
        "node": {"main": 0.5, "worker": 0.5, "ended": 2.0},
        "child": {"main": 0.5},
        "child 2": {"main": 0.25},
    }


def test_options_are_read_and_refused() -> None:
    assert image_size("1080p") == (1920, 1080)
    assert image_size("640x480") == (640, 480)
    assert small_topics("3@12.5") == (3, 12.5)
    settings = {"preparation_processes": "2", "cameras": "[a,b]"}
    assert named_settings(f"two: preparation_processes=2,cameras=[a,b],code={ROOT}") == ("two", ROOT, settings)
    for read, text in (
        (image_size, "720"),
        (image_size, "99999x10"),
        (small_topics, "3"),
        (named_settings, "no colon"),
        (named_settings, "name: no_value"),
        (named_settings, "name: code=/nowhere"),
    ):
        with pytest.raises(ArgumentTypeError, match="expected"):
            read(text)
