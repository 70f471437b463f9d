"""The checks of `check_vehicle`, each with made facts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ros_kd_perception.health.camera_checks import (
    CalibrationFacts,
    CameraSample,
    ClockFacts,
    check_calibration,
    check_camera,
    check_clock,
    check_frame_id,
    check_mounting,
    check_pictures,
    check_stamps,
)
from ros_kd_perception.health.finding import Finding, has_problem, summary, to_json
from ros_kd_perception.health.machine_checks import (
    ModelFacts,
    check_memory,
    check_middleware,
    check_model,
    check_processor,
    check_provider,
    check_shared_memory,
)
from ros_kd_perception.health.verdict import CameraLink, Level
from ros_kd_perception.system.fastdds_settings import MiddlewareSettings
from ros_kd_perception.system.machine_facts import ProcessorFacts, SharedMemoryFacts

LINK = CameraLink("/front/image_raw", 1)
GOOD = CameraSample("front", LINK, 5.0, 151, 5.0, ("bgr8 1280x720",), 2764800, 0, "", ("front_optical",), 3.0, 9.0)
SILENT = CameraSample("front", LINK, 5.0)
SYSTEM_CLOCK = ClockFacts(use_sim_time=False)
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
ON_GROUND = "only outputs on the ground need it"
CALIBRATED = CalibrationFacts("/front/camera_info", True, 1, True, size="1280x720")


def test_a_good_camera_is_well() -> None:
    assert check_camera(GOOD, 1) == Finding(
        "camera front", Level.OK, "bgr8 1280x720, 30.0 images/s on /front/image_raw"
    )
    assert check_pictures(GOOD).level == Level.OK
    assert check_frame_id(GOOD).level == Level.OK
    assert check_stamps(GOOD, SYSTEM_CLOCK).sentence == "images are 3 to 9 ms old when they arrive, by the system clock"


@pytest.mark.parametrize(
    ("link", "large_segments", "sentence", "remedy"),
    [
        (replace(LINK, publishers=0), 0, "it has no publisher", "start the camera or remap the topic"),
        (replace(LINK, mismatch="it sends x; set image_transport"), 0, "it sends x", "set image_transport"),
        (LINK, 0, "no process here has shared memory for large images", "fastdds_large_images.xml"),
        (LINK, 1, "1 publisher(s) match", "image_reliability: reliable"),
    ],
)  # fmt: skip
def test_a_silent_camera_is_a_problem_with_a_remedy(
    link: CameraLink, large_segments: int, sentence: str, remedy: str
) -> None:
    finding = check_camera(replace(SILENT, link=link), large_segments)

    assert finding.level == Level.ERROR
    assert finding.sentence.startswith("nothing came on /front/image_raw in 5.0 s")
    assert sentence in finding.sentence
    assert remedy in finding.remedy


def test_a_disabled_camera_may_be_silent_and_two_publishers_are_doubtful() -> None:
    assert check_camera(replace(SILENT, is_enabled=False), 0).level == Level.OK
    assert check_camera(replace(GOOD, link=CameraLink("/a", 2)), 0).level == Level.WARN
    assert "one message" in check_camera(replace(GOOD, received=1, span_s=0.0), 0).sentence


@pytest.mark.parametrize(("refused", "level"), [(0, Level.OK), (3, Level.WARN), (151, Level.ERROR)])
def test_pictures_that_are_refused(refused: int, level: Level) -> None:
    finding = check_pictures(replace(GOOD, refused=refused, refusal="expected a picture, got none"))

    assert finding.level == level
    assert ("expected a picture" in finding.sentence) == (refused > 0)


def test_pictures_and_frames_that_change() -> None:
    assert check_pictures(replace(GOOD, formats=("bgr8 1280x720", "mono8 1280x720"))).level == Level.WARN
    assert check_frame_id(replace(GOOD, frame_ids=("a", "b"))).level == Level.WARN
    assert "leading slash" in check_frame_id(replace(GOOD, frame_ids=("/a",))).sentence


@pytest.mark.parametrize(
    ("youngest_ms", "oldest_ms", "level", "words"),
    [
        (-50.0, 20.0, Level.OK, "ms old"),
        (-400.0, 20.0, Level.WARN, "0.4 s ahead of the system clock"),
        (-3000.0, -2900.0, Level.ERROR, "3 s ahead of the system clock"),
        (5.0, 20_000.0, Level.ERROR, "20 s behind the system clock"),
        (700.0, 900.0, Level.WARN, "700 ms old or older"),
    ],
)
def test_stamps_against_the_clock(youngest_ms: float, oldest_ms: float, level: Level, words: str) -> None:
    finding = check_stamps(replace(GOOD, youngest_ms=youngest_ms, oldest_ms=oldest_ms), SYSTEM_CLOCK)

    assert finding.level == level
    assert words in finding.sentence
    assert bool(finding.remedy) == (level != Level.OK)


def test_stamps_of_a_bag_without_use_sim_time_name_the_parameter() -> None:
    old = replace(GOOD, youngest_ms=1e9, oldest_ms=1e9)

    assert "use_sim_time: true" in check_stamps(old, ClockFacts(False, publishers=1)).remedy
    assert "same bag" in check_stamps(old, ClockFacts(True, publishers=1, ticks=9)).remedy
    assert check_stamps(replace(GOOD, youngest_ms=None, oldest_ms=None), ClockFacts(True)).level == Level.WARN


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (ClockFacts(False), Level.OK),
        (ClockFacts(False, publishers=1, ticks=3), Level.WARN),
        (ClockFacts(True), Level.ERROR),
        (ClockFacts(True, publishers=1), Level.ERROR),
        (ClockFacts(True, publishers=1, ticks=3), Level.OK),
    ],
)
def test_use_sim_time_must_fit_the_clock(facts: ClockFacts, level: Level) -> None:
    assert check_clock(facts).level == level


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (CALIBRATED, Level.OK, "1280x720 px"),
        (replace(CALIBRATED, received=False, publishers=0), Level.ERROR, "it has no publisher"),
        (replace(CALIBRATED, received=False), Level.ERROR, "nothing came on it"),
        (replace(CALIBRATED, received=False, is_needed=False), Level.OK, ON_GROUND),
        (replace(CALIBRATED, problem="expected K, got zeros"), Level.ERROR, "expected K"),
        (
            replace(CALIBRATED, problem="expected K, got zeros", is_needed=False),
            Level.OK,
            "only outputs on the ground need it",
        ),
        (replace(CALIBRATED, size="640x360"), Level.ERROR, "the images have 1280x720"),
        (replace(CALIBRATED, doubt="the principal point is far off"), Level.WARN, "far off"),
    ],
)
def test_camera_info(facts: CalibrationFacts, level: Level, words: str) -> None:
    finding = check_calibration("front", facts, ("1280x720",))

    assert finding.level == level
    assert words in finding.sentence


def test_a_mounting_is_asked_of_tf_only_if_it_comes_from_there() -> None:
    assert check_mounting("front", CALIBRATED) is None
    found = [check_mounting("front", replace(CALIBRATED, mounting=text)) for text in ("", "expected a transform")]
    assert [finding.level for finding in found if finding] == [Level.OK, Level.ERROR]


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (ProcessorFacts(8, None, ("performance",), ("cppc_cpufreq",)), Level.OK, "8 cores, governor performance"),
        (ProcessorFacts(8), Level.OK, "cannot be seen"),
        (ProcessorFacts(8, None, ("powersave",), ("acpi-cpufreq",)), Level.WARN, "clock stays low"),
        (ProcessorFacts(8, None, ("powersave",), ("intel_pstate",)), Level.OK, "powersave"),
        (ProcessorFacts(1), Level.WARN, "1 core,"),
        (ProcessorFacts(8, 0.5), Level.WARN, "limited to 0.5"),
    ],
)
def test_processor(facts: ProcessorFacts, level: Level, words: str) -> None:
    finding = check_processor(facts)

    assert finding.level == level
    assert words in finding.sentence


def test_shared_memory_must_hold_the_segments_of_all_processes() -> None:
    docker = SharedMemoryFacts(64_000_000, 60_000_000, 36_000_000)

    assert check_shared_memory(docker, 1, node_runs=False).level == Level.OK
    finding = check_shared_memory(docker, 2, node_runs=False)
    assert finding.level == Level.ERROR
    assert "72 MB are needed for the node's 2 processes" in finding.sentence
    assert "--shm-size" in finding.remedy
    assert check_shared_memory(docker, 2, node_runs=True).level == Level.OK
    assert check_shared_memory(replace(docker, problem="/dev/shm cannot be written to"), 1, False).level == Level.ERROR


def test_middleware_settings_that_lose_images() -> None:
    good, bad = MiddlewareSettings("Fast DDS has room"), MiddlewareSettings("Fast DDS may lose images", True)
    together = {
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA?max_msg_size=1MB",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }

    assert check_middleware(good, {}).level == Level.OK
    assert check_middleware(bad, {}).level == Level.WARN
    assert check_middleware(good, together).level == Level.ERROR
    assert check_middleware(good, together | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}).level == Level.OK


def test_model_and_memory() -> None:
    model = ModelFacts("a.onnx", description="student_s 1.6.0", size_bytes=10 << 20, signed_with="fleet.pub")

    assert check_model(model).sentence == "a.onnx: student_s 1.6.0, signed with fleet.pub"
    assert check_model(ModelFacts("a.onnx", "expected a file, got none")).level == Level.ERROR
    assert check_memory(model, 4 << 30).level == Level.OK
    assert check_memory(model, 100 << 20).level == Level.WARN
    assert check_memory(model, None).level == Level.OK


@pytest.mark.parametrize(
    ("wanted", "available", "require_gpu", "gpu_device", "device", "level"),
    [
        (CPU, [CPU], False, False, "auto", Level.OK),
        (CPU, [CPU], False, True, "auto", Level.WARN),
        (CPU, [CPU], False, True, "cpu", Level.OK),
        (CPU, [CPU], True, False, "auto", Level.ERROR),
        (CUDA, [CPU], False, True, "cuda", Level.WARN),
        (CUDA, [CPU], True, True, "cuda", Level.ERROR),
        (CUDA, [CUDA, CPU], True, True, "cuda", Level.OK),
        (CUDA, [CUDA, CPU], False, False, "auto", Level.WARN),
        (CUDA, [CUDA, CPU], True, False, "auto", Level.ERROR),
    ],
)
def test_provider(
    wanted: str, available: list[str], require_gpu: bool, gpu_device: bool, device: str, level: Level
) -> None:
    finding = check_provider(wanted, available, require_gpu, gpu_device, device)

    assert finding.level == level
    assert bool(finding.remedy) == (level != Level.OK)


def test_findings_as_lines_and_as_json() -> None:
    findings = [
        Finding("clock", Level.OK, "a"),
        Finding("GPU", Level.WARN, "b", "c"),
        Finding("model", Level.ERROR, "d\ne"),
    ]

    assert [str(finding) for finding in findings] == ["ok       clock: a", "warning  GPU: b; c", "problem  model: d e"]
    assert summary(findings) == "1 problem and 1 warning in 3 checks"
    assert summary([]) == "no problems and no warnings in no checks"
    assert has_problem(findings)
    assert not has_problem(findings[:2])
    document = json.loads(to_json("/perception", findings))
    assert document["has_problem"] is True
    assert document["findings"][1] == {"check": "GPU", "level": "warning", "sentence": "b", "remedy": "c"}
