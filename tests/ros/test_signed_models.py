"""require_signature on a real node: what configures, reloads and shadows must be signed with the key that is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.lifecycle import TransitionCallbackReturn
from ros_graph import Peer, camera_picture, image_message
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from tiny_student import contract_with, write_tiny_student

from ros_kd_perception import model_signature
from ros_kd_perception.model.signature import signature_path
from ros_kd_perception.model.signature_key import PrivateKey
from ros_kd_perception.ros.perception_node import PerceptionNode

T0 = 1_700_000_000_000_000_000


class Signer:
    """The key of a fleet, and models that it signed."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "fleet.key.pub"
        self._folder, self._private = folder, PrivateKey.new()
        self.key.write_bytes(self._private.public.to_pem())
        self.hint = self._private.public.hint

    def unsigned(self, name: str) -> Path:
        return write_tiny_student(self._folder / f"{name}.onnx", contract_with(name=name))

    def signed(self, name: str) -> Path:
        model = self.unsigned(name)
        model_signature.sign(model, self._private)
        return model


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


def set_text(peer: Peer, name: str, text: Path) -> None:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(text))
    request = SetParameters.Request(parameters=[ParameterMessage(name=name, value=value)])
    assert peer.call(SetParameters, "/perception/set_parameters", request).results[0].successful


def reload(peer: Peer) -> Trigger.Response:
    response = peer.call(Trigger, "/perception/reload_model", Trigger.Request(), 120)
    assert response is not None
    return response


def test_configure_reload_and_shadow_take_signed_models_alone(peer: Peer, start_node: Any, signer: Signer) -> None:
    first, second, unsigned = signer.signed("first"), signer.signed("second"), signer.unsigned("unsigned")
    options = {"require_signature": True, "signature_key": signer.key, "shadow_share": 1.0}
    with start_node(model=first, **options) as node:
        peer.listen_to_results("front")
        publisher = peer.matched_publisher(Image, "/front/image_raw")
        peer.send_until_result(publisher, lambda n: image_message(camera_picture(), T0 + n), "front")
        peer.until(lambda: peer.value("model", "model") == "first", "diagnostics come")
        assert peer.value("model", "signed_by") == signer.hint

        set_text(peer, "model", unsigned)
        answer = reload(peer)
        assert not answer.success
        assert f"refused, the old model runs on: expected a signature of {unsigned} in" in answer.message
        assert "\n" not in answer.message
        second.write_bytes(second.read_bytes() + b"\xf8\x07\x01")
        set_text(peer, "model", second)
        assert "to be of its bytes" in reload(peer).message
        second.write_bytes(second.read_bytes()[:-3])
        assert reload(peer).success
        peer.until(lambda: peer.value("model", "model") == "second", "the signed model runs")

        set_text(peer, "shadow_model", unsigned)
        numbers = iter(range(1000, 10_000))
        peer.node.create_timer(0.1, lambda: publisher.publish(image_message(camera_picture(), T0 + next(numbers))))
        peer.until(lambda: "expected a signature of" in peer.status("shadow").message, "the shadow is refused", 120)
        set_text(peer, "shadow_model", first)
        peer.until(lambda: peer.value("shadow", "compared") not in ("", "0"), "the signed shadow runs", 120)
        assert "Traceback" not in node.log


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: signature_path(model).unlink(), "expected a signature of {model} in {model}.sig, found none"),
        (lambda model: model.write_bytes(model.read_bytes()[:-1]), "{model} to be of its bytes, sha256"),
    ],
)
def test_a_model_whose_signature_does_not_fit_is_not_configured(
    make_signed_node: Callable[..., PerceptionNode],
    signer: Signer,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    model = signer.signed("tiny")
    node = make_signed_node(model, signer.key)
    spoil(model)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    (sentence,) = [line for line in capfd.readouterr().err.splitlines() if "cannot configure" in line]
    assert words.format(model=model) in sentence


@pytest.fixture
def make_signed_node(context: Any) -> Any:
    nodes = []

    def make(model: Path, key: Path) -> PerceptionNode:
        values = {"model": model, "require_signature": "true", "signature_key": key}
        overrides = [item for name, value in values.items() for item in ("-p", f"{name}:={value}")]
        nodes.append(PerceptionNode(context=context, cli_args=["--ros-args", *overrides]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.finalize()
        node.destroy_node()
