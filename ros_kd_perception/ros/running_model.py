"""RunningModel: a model that is ready for frames, with all that follows from its contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ros_kd_perception.candidates.trial import try_model
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.onnx_model import OnnxModel, ProviderReport
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.ros.node_parameters import NodeParameters
from ros_kd_perception.system.priority import run_at_low_priority


@dataclass(frozen=True)
class RunningModel:
    """What the worker exchanges between two frames.

    Attributes:
        path: of the file.
        model: verified.
        perceiver: warmed up.
        builder: of messages with the classes of the contract.
        warm_up_ms: the last run on an empty frame.
    """

    path: str
    model: OnnxModel
    perceiver: Perceiver
    builder: MessageBuilder
    warm_up_ms: float

    @classmethod
    def load(
        cls,
        path: str,
        parameters: NodeParameters,
        cancelled: Callable[[], bool],
        tell: Callable[[ProviderReport], None],
        *,
        low_priority: bool = False,
    ) -> RunningModel:
        """Have a model tried in a process of its own, then open, verify and warm it up.

        Args:
            path: of the file.
            parameters: the device and so on.
            cancelled: asked while the other process tries it; ends that when it says so.
            tell: logs what does not run as it was asked for.
            low_priority: the trial and, on a CPU, the runs that verify and warm up give way to whatever else the
                machine does.

        Raises:
            CandidateRefused: it did not pass its trial, or that was cancelled.
            ModelError: the model cannot be used.
            ImportError: a message package is missing.
        """
        options = model_options(parameters)
        sha256 = try_model(path, options, cancelled, low_priority=low_priority)
        model = OnnxModel.open(path, **options, low_priority=low_priority, sha256=sha256, tell=tell)
        builder = MessageBuilder(rclpy_message_types(), model.contract, reuse_parts=True)
        perceiver = Perceiver(model, new_class_map=builder.masks.new_class_map)
        warm_up = perceiver.warm_up
        warm_up_ms = run_at_low_priority(warm_up) if low_priority and not model.provider.on_gpu else warm_up()
        running = cls(path, model, perceiver, builder, warm_up_ms)
        running.set_score_threshold(parameters.score_threshold)
        return running

    def set_score_threshold(self, value: float) -> None:
        """Take over the parameter; negative stands for the threshold that the model was exported with."""
        exported = self.model.contract.detections.score_threshold
        self.perceiver.score_threshold = exported if value < 0 else value

    def values(self, parameters: NodeParameters) -> tuple[tuple[str, str], ...]:
        """What diagnostics say of it."""
        model, contract, provider = self.model, self.model.contract, self.model.provider
        return (
            ("model", contract.name),
            ("version", contract.version),
            ("path", self.path),
            ("sha256", model.sha256),
            ("device", parameters.device),
            ("provider_asked", provider.asked),
            ("provider", provider.used),
            ("fallback", provider.fallback),
            ("nodes", provider.placement()),
            ("cuda_graph", provider.cuda_graph),
            ("engine_cache", provider.engine_cache),
            ("golden_class_map_agreement", f"{model.golden.class_map_agreement:.5f}" if model.golden else ""),
            ("golden_box_iou", f"{model.golden.box_iou:.5f}" if model.golden else ""),
            ("golden_score_difference", f"{model.golden.score_difference:.5f}" if model.golden else ""),
            ("precision_asked", parameters.precision),
            ("precision", contract.precision),
            ("input", f"{contract.input.width}x{contract.input.height}"),
            ("score_threshold", f"{self.perceiver.score_threshold:g}"),
            ("warm_up_ms", f"{self.warm_up_ms:.2f}"),
        )


def model_options(parameters: NodeParameters) -> dict[str, Any]:
    """The arguments of `OnnxModel.open` that the parameters stand for."""
    return {
        "device": parameters.device,
        "precision": parameters.precision,
        "require_gpu": parameters.require_gpu,
        "intra_op_threads": parameters.intra_op_threads,
        "max_batch": len(parameters.cameras),
    }


def tell_in_log(log: Any) -> Callable[[ProviderReport], None]:
    """Say in a node's log what does not run as it was asked for."""

    def tell(report: ProviderReport) -> None:
        if report.fell_back:
            log.error(report.fell_back)
        if report.unproven:
            log.warning(report.unproven)

    return tell
