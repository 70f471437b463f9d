"""RunningModel: a model that is ready for frames, with its perceiver and its message builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ros_kd_perception.candidates.check import CandidatePassed
from ros_kd_perception.candidates.trial import try_model
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.class_ids import uses_names
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION
from ros_kd_perception.model.model_choice import choose_model
from ros_kd_perception.model.onnx_model import OnnxModel, ProviderReport
from ros_kd_perception.model.origin import Origin
from ros_kd_perception.parameters.camera_settings import CameraSettings, score_thresholds_of
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.ros.node_parameters import NodeParameters
from ros_kd_perception.system.priority import run_at_low_priority


@dataclass(frozen=True)
class RunningModel:
    """A model that is ready for frames. The worker switches from one to another between two frames.

    Attributes:
        path: Path of the model file.
        choice: Why this file runs, if the parameter `model` left the choice to the node. Else empty.
        trial: What the trial found out, such as the speed of a quantised file.
        model: The verified model.
        perceiver: Runs the model; it is warmed up.
        builder: Builds messages with the classes of the contract.
        warm_up_ms: Duration of the last warm-up run, on an empty frame, milliseconds.
    """

    path: str
    choice: str
    trial: CandidatePassed
    model: OnnxModel
    perceiver: Perceiver
    builder: MessageBuilder
    warm_up_ms: float

    @classmethod
    def load(
        cls,
        wanted: str,
        parameters: NodeParameters,
        cancelled: Callable[[], bool],
        tell: Callable[[ProviderReport], None],
        *,
        low_priority: bool = False,
    ) -> RunningModel:
        """Try a model in a process of its own, then open, verify and warm it up here.

        Args:
            wanted: Path of the model file, or `auto` for the shipped student that is fastest here.
            parameters: Parameters of the node, for device and precision.
            cancelled: Polled during the trial; the trial ends when it returns True.
            tell: Logs a report if the model does not run where it was asked to.
            low_priority: Run the trial and, on a CPU, verification and warm-up at the lowest priority.

        Raises:
            CandidateRefused: The model failed its trial, or the trial was cancelled.
            ModelError: The model cannot be used.
            ImportError: A message package is missing.
        """
        options = model_options(parameters)
        choice = choose_model(wanted, parameters.device, parameters.precision)
        trial = try_model(choice.path, options, cancelled, low_priority=low_priority)
        model = OnnxModel.open(choice.path, **options, low_priority=low_priority, sha256=trial.sha256, tell=tell)
        with_names = uses_names(parameters.values)
        builder = MessageBuilder(rclpy_message_types(), model.contract, reuse_parts=True, with_names=with_names)
        perceiver = Perceiver(model, new_class_map=builder.serialized.new_class_map)
        warm_up = perceiver.warm_up
        warm_up_ms = run_at_low_priority(warm_up) if low_priority and not model.provider.on_gpu else warm_up()
        running = cls(choice.path, choice.reason, trial, model, perceiver, builder, warm_up_ms)
        running.apply(parameters.score_threshold, parameters.camera_settings)
        return running

    def apply(self, score_threshold: float, cameras: Mapping[str, CameraSettings]) -> None:
        """Apply parameters that may change while the node runs.

        Args:
            score_threshold: Threshold of cameras that have none of their own. A negative value stands for the threshold
                that the model was exported with.
            cameras: The settings of each camera.
        """
        apply_settings(self.perceiver, score_threshold, cameras)

    def notes(self) -> list[str]:
        """Return sentences on why this file runs and how fast a quantised file is here, as far as there are any."""
        return [note for note in (self.choice, self.trial.speed) if note]

    def values(self, parameters: NodeParameters) -> tuple[tuple[str, str], ...]:
        """Return keys and values for diagnostics."""
        model, contract, provider = self.model, self.model.contract, self.model.provider
        origin = Origin.of(contract.derived)
        masks, boxes = (model.golden if task in contract.tasks else None for task in (SEGMENTATION, DETECTION))
        return (
            ("model", contract.name),
            ("version", contract.version),
            ("tasks", ", ".join(contract.tasks)),
            ("path", self.path),
            ("model_choice", self.choice),
            ("sha256", model.sha256),
            ("signed_by", model.signed_by),
            ("device", parameters.device),
            ("provider_asked", provider.asked),
            ("provider", provider.used),
            ("fallback", provider.fallback),
            ("nodes", provider.placement()),
            ("cuda_graph", provider.cuda_graph),
            ("engine_cache", provider.engine_cache),
            ("golden_class_map_agreement", f"{masks.class_map_agreement:.5f}" if masks else ""),
            ("golden_box_iou", f"{boxes.box_iou:.5f}" if boxes else ""),
            ("golden_score_difference", f"{boxes.score_difference:.5f}" if boxes else ""),
            ("precision_asked", parameters.precision),
            ("precision", contract.precision),
            ("derived_from", origin.parent),
            ("derived_steps", "; ".join(origin.steps)),
            ("loss", origin.losses_in_words()),
            ("agreement_with_parent", origin.agreement_in_words()),
            ("input", f"{contract.input.width}x{contract.input.height}"),
            ("score_threshold", f"{self.perceiver.score_threshold:g}" if DETECTION in contract.tasks else ""),
            ("warm_up_ms", f"{self.warm_up_ms:.2f}"),
            ("int8_speed", self.trial.speed),
        )


def apply_settings(perceiver: Perceiver, score_threshold: float, cameras: Mapping[str, CameraSettings]) -> None:
    """Apply parameters that may change while the node runs; see `RunningModel.apply`."""
    exported = perceiver.model.contract.score_threshold
    perceiver.score_threshold = exported if score_threshold < 0 else score_threshold
    perceiver.score_thresholds = score_thresholds_of(cameras)
    perceiver.regions = {camera: settings.region_of_interest for camera, settings in cameras.items()}


def model_options(parameters: NodeParameters) -> dict[str, Any]:
    """Return the arguments of `OnnxModel.open` for the parameters."""
    return {
        "device": parameters.device,
        "precision": parameters.precision,
        "require_gpu": parameters.require_gpu,
        "intra_op_threads": parameters.intra_op_threads,
        "max_batch": len(parameters.cameras),
        "signature_key": parameters.signature_key,
    }


def tell_in_log(log: Any) -> Callable[[ProviderReport], None]:
    """Return a function that logs where a model does not run as it was asked to."""

    def tell(report: ProviderReport) -> None:
        if report.fell_back:
            log.error(report.fell_back)
        if report.unproven:
            log.warning(report.unproven)

    return tell
