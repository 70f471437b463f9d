"""The parameters of the node: one table of names, defaults, ranges and descriptions. Sinks declare their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ros_kd_perception.model.onnx_model import DEVICES, PRECISIONS
from ros_kd_perception.parameters.camera_settings import CameraSettings
from ros_kd_perception.parameters.rules import Declaration, ParameterError, problem_with
from ros_kd_perception.ros.topics.sinks import SINKS
from ros_kd_perception.scheduling.process_count import PROCESS_CHOICES

__all__ = ["PARAMETERS", "TRANSPORTS", "Declaration", "NodeParameters", "ParameterError", "problem_with"]

TRANSPORTS = ("raw", "compressed")


@dataclass(frozen=True)
class NodeParameters:
    """The parameters as the node reads them when it is configured. `PARAMETERS` describes each.

    Attributes:
        signature_key: Path of the public key that models must be signed with. Empty if `require_signature` is false.
        image_transports: `raw` or `compressed`, by camera.
        camera_settings: The settings that each camera has for itself.
        values: All parameters by full name; the sinks read theirs here.
    """

    model: str
    cameras: tuple[str, ...]
    image_transports: Mapping[str, str]
    camera_settings: Mapping[str, CameraSettings]
    image_reliability: str
    device: str
    precision: str
    require_gpu: bool
    intra_op_threads: int
    score_threshold: float
    max_age_ms: float
    max_stamp_age_ms: float
    silence_timeout_ms: float
    stamp_age_unknown: str = "publish"
    preparation_processes: str = "0"
    signature_key: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


PARAMETERS: dict[str, Declaration] = {
    "model": Declaration(
        "",
        "Path of the student to run, an .onnx file exported by this project. Empty or auto: a student that is "
        "installed with the package, the quantised one on a CPU that is fast with INT8, else the one of fp32. Read "
        "when the node is configured and when ~/reload_model is called.",
        read_only=False,
        is_file=True,
    ),
    "require_signature": Declaration(
        False,
        "Refuse to run a model that is not signed with the key of signature_key, also as a shadow and after "
        "~/reload_model. The signature of student.onnx is student.onnx.sig, beside it.",
    ),
    "signature_key": Declaration(
        "", "Path of the public key, a PEM file, that require_signature verifies models with. Empty without it."
    ),
    "cameras": Declaration(
        ["front"],
        "Names of the cameras. The node subscribes to NAME/image_raw, or NAME/image_raw/compressed, for each. Remap "
        "these topics at launch.",
    ),
    "image_transport": Declaration(
        "raw",
        "raw for sensor_msgs/Image, compressed for sensor_msgs/CompressedImage (JPEG or PNG); NAME.image_transport "
        "sets it for one camera.",
        choices=TRANSPORTS,
    ),
    "image_reliability": Declaration(
        "best_effort",
        "Reliability of the camera subscriptions: best_effort matches every publisher, reliable repeats lost packets.",
        choices=("best_effort", "reliable"),
    ),
    "device": Declaration("auto", "What runs the network: auto is CUDA if it works, else the CPU.", choices=DEVICES),
    "precision": Declaration(
        "auto", "Precision of the network; auto is the precision of the exported file.", choices=PRECISIONS
    ),
    "require_gpu": Declaration(False, "Refuse to configure if the network would run on the CPU."),
    "intra_op_threads": Declaration(
        0, "Threads that one run of the network may use; 0 lets ONNX Runtime choose.", minimum=0, maximum=256
    ),
    "score_threshold": Declaration(
        -1.0,
        "Boxes with a lower score are left out, 0..1; negative for the threshold that the model was exported with.",
        minimum=-1.0,
        maximum=1.0,
        read_only=False,
    ),
    "preparation_processes": Declaration(
        "auto",
        "Processes that take, decode and letterbox images and publish results, beside the one that runs the network: "
        "0 for none, auto for as many as cameras, their rates and the cores of the machine ask for.",
        choices=PROCESS_CHOICES,
    ),
    "max_age_ms": Declaration(
        500.0,
        "Frames that waited longer for their turn are dropped, milliseconds of the steady clock since arrival; 0 for "
        "no limit.",
        minimum=0.0,
        maximum=60_000.0,
        read_only=False,
    ),
    "max_stamp_age_ms": Declaration(
        0.0,
        "Frames whose header stamp is older are dropped, milliseconds of the ROS clock; 0 for no limit. The limit "
        "cannot be applied while stamps and clock are more than 10 s apart, as with a bag played without /clock; see "
        "stamp_age_unknown.",
        minimum=0.0,
        maximum=10_000.0,
        read_only=False,
    ),
    "stamp_age_unknown": Declaration(
        "publish",
        "What to do with frames to which max_stamp_age_ms cannot be applied, because stamps and clock are more than "
        "10 s apart or stamps are ahead: publish them with a warning, or drop them as stale. No effect without the "
        "limit.",
        choices=("publish", "drop"),
        read_only=False,
    ),
    "silence_timeout_ms": Declaration(
        2000.0,
        "A camera that sends nothing for longer is an ERROR in /diagnostics.",
        minimum=100.0,
        maximum=600_000.0,
        read_only=False,
    ),
    "diagnostics_period_s": Declaration(
        1.0, "Seconds of the steady clock between messages on /diagnostics.", minimum=0.05, maximum=60.0
    ),
    "autostart": Declaration(False, "Configure and activate the node when it starts, without a lifecycle manager."),
    **{name: declaration for sink in SINKS for name, declaration in sink.parameters.items()},
}
