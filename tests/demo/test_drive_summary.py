from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.bags.traffic_log import TrafficEntry, TrafficLog, read_traffic
from ros_kd_perception.demo.drive_summary import (
    NOT_DELIVERED,
    REASONS,
    NodeReport,
    match_results,
    read_node_report,
    summarise,
)
from ros_kd_perception.structures import DROP_REASONS

MS = 1_000_000


def sent(camera: str, stamp_ns: int, at_ms: float) -> TrafficEntry:
    return TrafficEntry(round(at_ms * MS), "image", camera, stamp_ns)


def results(camera: str, stamp_ns: int, mask_ms: float, boxes_ms: float) -> list[TrafficEntry]:
    return [
        TrafficEntry(round(mask_ms * MS), "segmentation", camera, stamp_ns),
        TrafficEntry(round(boxes_ms * MS), "detections", camera, stamp_ns),
    ]


def test_latency_ends_with_the_later_of_both_results() -> None:
    frames = match_results([sent("front", 5, 100)], results("front", 5, 130, 127))
    assert [frame.latency_ms for frame in frames] == [30.0]


def test_an_incomplete_result_does_not_count_and_cameras_are_separate() -> None:
    received = [*results("front", 5, 130, 127)[:1], *results("left", 6, 131, 128)]
    frames = match_results([sent("front", 5, 100), sent("left", 5, 101), sent("left", 6, 102)], received)
    assert [(frame.camera, frame.latency_ms) for frame in frames] == [("front", None), ("left", None), ("left", 29.0)]


def test_frames_with_equal_stamps_get_results_in_their_order() -> None:
    received = [*results("front", 5, 120, 121), *results("front", 5, 220, 225)]
    frames = match_results([sent("front", 5, 100), sent("front", 5, 200), sent("front", 5, 300)], received)
    assert [frame.latency_ms for frame in frames] == [21.0, 25.0, None]


def test_summary_in_all_and_per_camera() -> None:
    entries = [sent(camera, k, 100 * k) for k in range(10) for camera in ("front", "left")]
    received = []
    for entry in entries:
        if (entry.camera, entry.stamp_ns) not in [("front", 3), ("left", 4), ("left", 5)]:
            at_ms = entry.steady_ns / MS
            received += results(entry.camera, entry.stamp_ns, at_ms + 10 + entry.stamp_ns, at_ms + 5)
    report = NodeReport("CPUExecutionProvider", {"front": {"replaced": 1}, "left": {"replaced": 1}})
    summary = summarise(match_results(entries, received), report)

    assert (summary["sent"], summary["perceived"], summary["perceived_share"]) == (20, 17, 0.85)
    assert summary["dropped"] == {"replaced": 2, NOT_DELIVERED: 1}
    left = summary["cameras"]["left"]
    assert left["dropped"] == {"replaced": 1, NOT_DELIVERED: 1}
    assert left["latency_ms"]["p50"] == 14.5  # 10, 11, 12, 13, 16, 17, 18, 19
    assert left["latency_ms"]["max"] == 19.0
    assert left["provider"] == "CPUExecutionProvider"
    assert left["frames_per_second"] == 8.0
    assert "steady clock" in summary["measured"]


def test_every_reason_is_explained() -> None:
    assert set(REASONS) == {*DROP_REASONS, NOT_DELIVERED}


def test_without_perceived_frames_there_is_no_latency() -> None:
    summary = summarise(match_results([sent("front", 1, 0)], []), NodeReport("unknown"))
    assert summary["latency_ms"]["p50"] is None
    assert summary["dropped"] == {NOT_DELIVERED: 1}


@given(
    st.lists(
        st.tuples(st.sampled_from(["front", "left"]), st.integers(0, 5), st.booleans(), st.booleans()), max_size=30
    ),
    st.dictionaries(st.sampled_from(["replaced", "too_old", "bad_data"]), st.integers(0, 40)),
)
def test_every_frame_is_accounted_for(frames: list[tuple[str, int, bool, bool]], dropped: dict[str, int]) -> None:
    entries = [sent(camera, stamp, index) for index, (camera, stamp, _, _) in enumerate(frames)]
    received = []
    for index, (camera, stamp, mask, boxes) in enumerate(frames):
        both = results(camera, stamp, index + 50, index + 60)
        received += both[:1] * mask + both[1:] * boxes
    summary = summarise(match_results(entries, received), NodeReport("p", {"front": dropped, "left": dropped}))
    for part in [summary, *summary["cameras"].values()]:
        assert part["sent"] == part["perceived"] + sum(part["dropped"].values())
        assert all(count > 0 for count in part["dropped"].values())
    assert summary["sent"] == sum(part["sent"] for part in summary["cameras"].values())


def test_node_report_is_read_from_its_diagnostics() -> None:
    def status(name: str, **values: str) -> SimpleNamespace:
        pairs = [SimpleNamespace(key=key.replace("__", "."), value=value) for key, value in values.items()]
        return SimpleNamespace(name=name, values=pairs)

    array = SimpleNamespace(
        status=[
            status("perception: model", provider="CUDAExecutionProvider", version="1"),
            status("perception: front", received="7", dropped__replaced="2", dropped__too_old="0"),
        ]
    )
    assert read_node_report(array) == NodeReport("CUDAExecutionProvider", {"front": {"replaced": 2}})
    fallen_back = status(
        "perception: model", provider="CPUExecutionProvider", provider_asked="CUDAExecutionProvider", fallback="no GPU"
    )
    report = read_node_report(SimpleNamespace(status=[fallen_back]))
    assert report.fallback == "CUDAExecutionProvider was asked for, CPUExecutionProvider runs: no GPU"
    assert read_node_report(None) == NodeReport("unknown")


def test_a_log_can_be_read_while_it_is_written(tmp_path) -> None:
    path = tmp_path / "log.csv"
    entries = [TrafficEntry(1, "image", "front", 2), TrafficEntry(3, "diagnostics", "", 0)]
    with TrafficLog(path) as log:
        assert list(read_traffic(path)) == []
        for index, entry in enumerate(entries):
            log.write(entry)
            assert list(read_traffic(path)) == entries[: index + 1]
    with path.open("a") as file:
        file.write("5,image,fro")  # cut in the middle of a line
    assert list(read_traffic(path)) == entries


def test_a_file_that_is_not_a_log_is_refused(tmp_path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("steady_ns,kind,camera,stamp_ns\nsoon,image,front,1\n")
    with pytest.raises(ValueError, match="soon"):
        list(read_traffic(path))
