"""Transitions, signals and refusals to configure, with the real node on a real graph."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx
import pytest
from lifecycle_msgs.msg import Transition
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from ros_graph import TIMEOUT_S, Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from tiny_student import (
    CONTRACT_KEY,
    GOLDEN_KEY,
    compute_for_long,
    contract_with,
    double_a_shape,
    quantise,
    write_tiny_model,
    write_tiny_student,
)

from ros_kd_perception.candidates import memory_limit
from ros_kd_perception.candidates.check import CandidatePassed
from ros_kd_perception.health.status import Level
from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.execution_provider import CUDA, ProviderReport
from ros_kd_perception.model.model_choice import choose_model
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.ros import running_model
from ros_kd_perception.ros.perception_node import PerceptionNode

T0 = 1_700_000_000_000_000_000
SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


def test_every_transition_twice(peer: Peer, start_node: Any) -> None:
    peer.listen_to_results("front")
    with start_node(autostart=False) as node:
        publisher = peer.publisher(Image, "/front/image_raw")
        sent = 0

        def send(_: int) -> Image:
            nonlocal sent
            sent += 1
            return image_message(camera_picture(), T0 + sent)

        def is_deaf() -> bool:
            return not publisher.get_subscription_count()

        for _ in range(2):
            assert peer.state() == "unconfigured"
            peer.until(lambda: peer.status("model").message == "unconfigured", "diagnostics say so")
            assert peer.change_state(Transition.TRANSITION_CONFIGURE)
            assert peer.state() == "inactive"
            assert is_deaf()
            for _ in range(2):
                assert peer.change_state(Transition.TRANSITION_ACTIVATE)
                assert peer.state() == "active"
                peer.until(publisher.get_subscription_count, "the node subscribes")
                assert peer.send_until_result(publisher, send, "front").height == 96
                assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
                peer.until(is_deaf, "the node unsubscribes")
                peer.until(lambda: peer.status("front").message == "inactive", "diagnostics say so")
            assert peer.change_state(Transition.TRANSITION_CLEANUP)
            assert not peer.change_state(Transition.TRANSITION_ACTIVATE)
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_INACTIVE_SHUTDOWN)
        assert peer.state() == "finalized"
        assert node.end() == 0
        assert "Traceback" not in node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_an_active_node_cleanly_under_load(peer: Peer, start_node: Any, number: int) -> None:
    peer.listen_to_results("front")
    with start_node() as node:
        publisher = peer.matched_publisher(Image, "/front/image_raw")
        for sent in range(1, 40):
            publisher.publish(image_message(camera_picture(480, 640), T0 + sent))
            peer.spin_for(0.005)
        assert node.end(number) == 0
        assert "Traceback" not in node.log
        assert "rror" not in node.log


def test_more_signals_do_not_kill_a_node_that_is_ending(peer: Peer, start_node: Any) -> None:
    with start_node() as node:
        peer.until_active()
        while node.alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.send_signal(signal.SIGINT)
                node.process.wait(0.005)
        assert node.process.returncode == 0


def children_of(process: int) -> list[str]:
    return " ".join(p.read_text() for p in Path(f"/proc/{process}/task").glob("*/children")).split()


def test_diagnostics_go_on_while_a_model_is_tried(peer: Peer, start_node: Any, tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "slow.onnx", change_graph=compute_for_long)
    start_node(model=path)
    messages: list[str] = []

    def tells() -> bool:
        message = peer.status("model").message
        if message.startswith("configuring: the model is tried") and message not in messages:
            messages.append(message)
        return len(messages) > 2  # from different seconds

    peer.until(tells, "it tells that it is configuring")


def test_a_network_that_hangs_stays_an_error_after_it_was_deactivated(
    make_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    monkeypatch.setattr(node._pipeline, "stop", lambda: False)  # stands for a driver that hangs
    assert node.trigger_deactivate() == ERROR
    monkeypatch.undo()
    (status,) = node._statuses()
    assert status.level == Level.ERROR
    assert "restart the node" in status.message


def test_a_signal_ends_a_node_that_is_still_trying_its_model(start_node: Any, tmp_path: Path) -> None:
    path = write_tiny_student(tmp_path / "slow.onnx", change_graph=compute_for_long)
    with start_node(model=path) as node:
        give_up = time.monotonic() + TIMEOUT_S
        while not (trial := children_of(node.process.pid)):
            assert time.monotonic() < give_up
            assert node.alive, node.log
            time.sleep(0.01)
        assert node.end(signal.SIGTERM) == 0
        assert "slow.onnx was cancelled" in node.log
        assert "Traceback" not in node.log
        assert not any(Path(f"/proc/{child}").exists() for child in trial)


def test_unreadable_ros_arguments_give_one_sentence(start_node: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("perception:\n  ros__parameters:\n    cameras: [front, 3]\n")
    with start_node("--params-file", str(broken)) as node:
        assert node.process.wait(20) == 2
        assert "broken.yaml" in node.log
        assert "Traceback" not in node.log


# From here on the node runs in the process of the test, for speed. Class and graph are the real ones.


@pytest.fixture
def make_node(context: Context, tiny_student: Path) -> Iterator[Callable[..., PerceptionNode]]:
    with ExitStack() as stack:

        def make(*overrides: str) -> PerceptionNode:
            if not any(override.startswith("model:=") for override in overrides):
                overrides = (f"model:={tiny_student}", *overrides)
            arguments = ["--ros-args", *(item for override in overrides for item in ("-p", override))]
            node = PerceptionNode(context=context, cli_args=arguments)
            stack.callback(node.destroy_node)
            stack.callback(node.finalize)
            return node

        yield make
    # Collect garbage now and not during a later test, when the context of these nodes no longer exists.
    gc.collect()


def refusal(node: PerceptionNode, capfd: pytest.CaptureFixture[str]) -> str:
    """Try to configure, and return the sentence of the refusal."""
    assert node.trigger_configure() == FAILURE
    assert node._state_machine.current_state[1] == "unconfigured"
    logged = [line for line in capfd.readouterr().err.splitlines() if "cannot configure" in line]
    assert len(logged) == 1
    return logged[0].partition("cannot configure: ")[2]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cameras:=[]", "cameras to be a list of at least one name, got an empty list; for example cameras: [front"),
        ("drivable_classes:=[]", "drivable_classes to be a list of 1 to 256 names, got an empty list"),
        ("cameras:=front", "cameras to be a list of at least one name, got 'front'"),
        ("cameras:=[front, front]", "to differ"),
        ("cameras:=[front, 'rear view']", "got 'rear view'"),
        (f"cameras:=[{'x' * 500}]", "to be up to 64 letters, digits and underscores"),
        (f"cameras:={'[' + 'x, ' * 2000 + ']'}", "to have at most 64 names"),
        (f"model:={'x' * 5000}.onnx", "model to be at most 4096 characters of text"),
        (f"device:={'x' * 5000}", "device to be at most 4096"),
        ("cameras:=[1, 2]", "cameras to be a list of at least one name"),
        ("model:=17", "model to be a string, got 17"),
        ("image_transport:=compresed", "did you mean compressed?"),
        ("front.image_transport:=jpeg", "front.image_transport to be one of raw, compressed"),
        ("image_reliability:=besteffort", "did you mean best_effort?"),
        ("device:=gpu", "device to be one of auto, tensorrt, cuda, cpu"),
        ("device:=[cpu]", "device to be a string"),
        ("precision:=fp64", "precision to be one of auto, fp32, fp16, int8"),
        ("precision:=int8", "expected precision int8"),
        ("require_signature:=1", "require_signature to be true or false"),
        ("require_signature:=true", "signature_key to be the path of a public key, because require_signature is true"),
        ("signature_key:=fleet.pub", "require_signature to be true, because signature_key is 'fleet.pub', got false"),
        ("require_gpu:=1", "require_gpu to be true or false"),
        ("require_gpu:=true", "require_gpu is set"),
        ("intra_op_threads:=-1", "intra_op_threads to be from 0 to 256, got -1"),
        ("intra_op_threads:=1.5", "intra_op_threads to be an integer"),
        ("score_threshold:=1.01", "score_threshold to be from -1 to 1, got 1.01"),
        ("score_threshold:=.nan", "score_threshold to be from -1 to 1, got nan"),
        ("max_age_ms:=-1.0", "max_age_ms to be from 0 to 60000"),
        ("max_age_ms:=soon", "max_age_ms to be a number, got 'soon'"),
        ("max_stamp_age_ms:=.inf", "max_stamp_age_ms to be from 0 to 10000"),
        ("silence_timeout_ms:=0", "silence_timeout_ms to be from 100"),
        ("diagnostics_period_s:=0", "diagnostics_period_s to be from 0.05"),
        ("autostart:=yes please", "autostart to be true or false"),
    ],
)
def test_an_invalid_parameter_is_refused_in_one_sentence(
    make_node: Any, capfd: pytest.CaptureFixture[str], override: str, words: str
) -> None:
    sentence = refusal(make_node(override), capfd)
    assert words in sentence
    assert len(sentence) < 400


def test_integers_are_accepted_as_numbers_and_valid_overrides_apply(make_node: Any) -> None:
    node = make_node("max_age_ms:=100", "cameras:=[a, b]", "b.image_transport:=compressed", "score_threshold:=1")
    assert node.trigger_configure() == SUCCESS
    parameters = node._pipeline.parameters
    assert (parameters.max_age_ms, parameters.score_threshold, parameters.cameras) == (100.0, 1.0, ("a", "b"))
    assert parameters.image_transports == {"a": "raw", "b": "compressed"}


def test_a_warning_for_an_unknown_parameter_suggests_the_nearest_name(
    make_node: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = make_node("camera:=[front]", "use_sim_time:=false", "qos_overrides.x:=1")
    warnings = [line for line in capfd.readouterr().err.splitlines() if "did you mean" in line]
    assert len(warnings) == 1
    assert "got camera, which has no effect; did you mean cameras?" in warnings[0]
    assert node.trigger_configure() == SUCCESS


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "front.mounting.pitch:=2.0",
            "got front.mounting.pitch, which has no effect; did you mean front.mounting.pitch_",
        ),
        ("front.pitch_deg:=2.0", "did you mean front.mounting.pitch_deg?"),
        ("front.image_transprt:=raw", "did you mean front.image_transport?"),
        ("rear.mounting.pitch_deg:=2.0", "which has no effect: rear is not among the cameras, which are front, left"),
    ],
)
def test_a_warning_for_an_unknown_parameter_of_a_camera_suggests_the_nearest_name(
    make_node: Any, capfd: pytest.CaptureFixture[str], override: str, words: str
) -> None:
    make_node("cameras:=[front, left]", override)
    [warning] = [line for line in capfd.readouterr().err.splitlines() if "has no effect" in line]
    assert words in warning


def test_a_refused_model_can_be_replaced_without_a_restart(
    make_node: Any, capfd: pytest.CaptureFixture[str], tiny_student: Path
) -> None:
    from rclpy.parameter import Parameter

    node = make_node("model:=/nowhere/student.onnx")
    assert "expected an ONNX file at /nowhere/student.onnx" in refusal(node, capfd)
    assert node.set_parameters([Parameter("model", value=str(tiny_student))])[0].successful
    assert node.trigger_configure() == SUCCESS
    assert not node.set_parameters([Parameter("cameras", value=["rear"])])[0].successful


def _write_bad_model(kind: str, path: Path) -> None:
    if kind == "not ONNX":
        path.write_bytes(b"these are not the weights you are looking for" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut off":
        write_tiny_student(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "without contract":
        write_tiny_student(path, change_metadata={CONTRACT_KEY: None})
    elif kind == "contract not JSON":
        write_tiny_student(path, change_metadata={CONTRACT_KEY: "{"})
    elif kind == "contract at odds":
        write_tiny_student(path, contract=contract_with(input=InputSpec(128, 96)), change_metadata={GOLDEN_KEY: None})
    elif kind == "golden frames fail":
        write_tiny_student(path, change_graph=_brighten)


def _brighten(model: onnx.ModelProto) -> None:
    block = next(tensor for tensor in model.graph.initializer if tensor.name == "block")
    block.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(block) * 2, "block"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "found none"),
        ("not ONNX", "to be an ONNX model"),
        ("empty", "it has 0"),
        ("cut off", "to be an ONNX model"),
        ("without contract", "expected a contract under the metadata key"),
        ("contract not JSON", "expected the contract to be JSON"),
        ("contract at odds", "as its contract says"),
        ("golden frames fail", "expected golden frame"),
    ],
)
def test_an_invalid_model_is_refused_in_one_sentence(
    make_node: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path, kind: str, words: str
) -> None:
    path = tmp_path / "bad.onnx"
    _write_bad_model(kind, path)
    assert words in refusal(make_node(f"model:={path}"), capfd)


def test_a_model_that_needs_too_much_memory_is_refused_without_memory_of_the_node(
    make_node: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limit, "MAX_MEMORY_BYTES", 384 << 20)
    path = write_tiny_student(tmp_path / "doubling.onnx", change_graph=double_a_shape)
    node = make_node(f"model:={path}")
    before = memory_limit.private_memory_bytes(os.getpid())
    assert "doubling.onnx to open within 0.4 GiB of memory" in refusal(node, capfd)
    assert memory_limit.private_memory_bytes(os.getpid()) - before < 64 << 20


def quantised_model(path: Path) -> Path:
    derived = {"from_name": "tiny.onnx", "from_sha256": "0a" * 32, "steps": ["quantised"], "loss": {"miou": -0.01}}
    return write_tiny_model(path, contract_with(precision="int8", derived=derived), quantise)


def test_diagnostics_say_what_a_quantised_model_was_made_from_and_how_fast_it_is(
    make_node: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = make_node(f"model:={quantised_model(tmp_path / 'int8.onnx')}", "device:=cpu")
    assert node.trigger_configure() == SUCCESS
    values = dict(node._pipeline._model_status().values)
    assert values["precision"] == "int8"
    assert values["derived_from"] == f"tiny.onnx (sha256 {'0a' * 6})"
    assert values["derived_steps"] == "quantised"
    assert values["loss"] == "miou -1.00 points"
    assert values["model_choice"] == ""
    assert values["int8_speed"].startswith("INT8 runs in ")
    assert values["int8_speed"] in capfd.readouterr().err


@pytest.mark.parametrize(("share", "level"), [(0.4, Level.OK), (1.19, Level.WARN)])
def test_a_quantised_model_that_is_slower_than_floats_is_a_warning(
    make_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, level: Level
) -> None:
    path = quantised_model(tmp_path / "int8.onnx")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(running_model, "try_model", lambda *_, **__: CandidatePassed(sha256, True, share))
    node = make_node(f"model:={path}", "device:=cpu")
    assert node.trigger_configure() == SUCCESS
    status = node._pipeline._model_status()
    assert status.level == level
    assert ("a model of fp32 is faster on this CPU" in status.message) == (level == Level.WARN)


@pytest.mark.parametrize("model", ["model:=auto", "model:=''"])
def test_a_model_that_is_left_to_the_node_is_a_shipped_one_and_says_why(
    make_node: Any, capfd: pytest.CaptureFixture[str], model: str
) -> None:
    node = make_node(model, "device:=cpu")
    assert node.trigger_configure() == SUCCESS
    values = dict(node._pipeline._model_status().values)
    chosen = choose_model("auto", "cpu")
    assert (values["path"], values["model_choice"]) == (chosen.path, chosen.reason)
    assert chosen.reason in capfd.readouterr().err


def test_an_unproven_placement_is_a_warning(
    make_node: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = OnnxModel.open

    def open_as_an_old_runtime_does(*arguments: Any, **options: Any) -> OnnxModel:
        model = really_open(*arguments, **options)
        model.provider = ProviderReport(CUDA, CUDA)
        options["tell"](model.provider)
        return model

    monkeypatch.setattr(OnnxModel, "open", open_as_an_old_runtime_does)
    node = make_node()
    assert node.trigger_configure() == SUCCESS
    assert "placement cannot be proven by ONNX Runtime" in capfd.readouterr().err
    status = node._pipeline._model_status()
    assert (status.level, status.hardware_id) == (Level.WARN, CUDA)
    assert "placement cannot be proven by ONNX Runtime" in status.message
