"""Pipeline: everything that a configured node holds, from the model to the publishers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode

from ros_kd_perception.free_space_finder import FreeSpaceFinder
from ros_kd_perception.health import CameraHealth, Level, Status, worker_problem
from ros_kd_perception.mailbox import Mailbox
from ros_kd_perception.message_builder import MessageBuilder
from ros_kd_perception.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.camera_topics import CameraTopics
from ros_kd_perception.ros.debug_topics import DebugTopics
from ros_kd_perception.ros.free_space_topics import FreeSpaceTopics
from ros_kd_perception.ros.message_types import rclpy_message_types
from ros_kd_perception.ros.node_parameters import NodeParameters, ParameterError
from ros_kd_perception.ros.pictures import Pictures
from ros_kd_perception.ros.stamp_age import StampAge
from ros_kd_perception.ros.worker import PerceptionWorker

STOP_TIMEOUT_S = 10.0


class Pipeline:
    """One verified model, one thread that runs it, and the topics of every camera.

    Args:
        node: for topics, clock and log.
        parameters: as read.

    Raises:
        ModelError: the model cannot be used.
        ParameterError: a drivable class that the model does not have.
        ImportError: a package is missing.
    """

    def __init__(self, node: LifecycleNode, parameters: NodeParameters) -> None:
        logger = node.get_logger()
        self.parameters = parameters
        self.model = OnnxModel.open(
            parameters.model,
            device=parameters.device,
            precision=parameters.precision,
            require_gpu=parameters.require_gpu,
            intra_op_threads=parameters.intra_op_threads,
        )
        self._perceiver = Perceiver(self.model)
        self._set_score_threshold(parameters.score_threshold)
        self.warm_up_ms = self._perceiver.warm_up()
        self._builder = MessageBuilder(rclpy_message_types(), self.model.contract, reuse_parts=True)
        self._mailbox: Mailbox[Any] = Mailbox(
            parameters.cameras, parameters.max_age_ms, weights=parameters.turn_weights
        )
        self._finder = self._find_free_space()
        self._pictures = Pictures(
            parameters.cameras,
            self.model.contract,
            self._builder,
            self._finder,
            lambda camera, message: self._topics[camera].publish_overlay(message),
            lambda camera, message: self._topics[camera].publish_png(message),
            logger.warning,
        )
        self._free_space = FreeSpaceTopics(node, parameters.cameras, self._finder, self._builder, logger.warning)
        self._health = {c: CameraHealth(c, parameters.silence_timeout_ms) for c in parameters.cameras}
        clock = node.get_clock()
        self._stamp_age = StampAge(parameters.max_stamp_age_ms, lambda: clock.now().nanoseconds, logger.warning)
        self._debug = DebugTopics(node, parameters.cameras)
        reliability, transports = parameters.image_reliability, parameters.image_transports
        self._topics = {
            c: CameraTopics(node, c, transports[c], reliability, self._pictures, self._debug, self._free_space)
            for c in parameters.cameras
        }
        self.worker = PerceptionWorker(
            self._mailbox,
            self._perceiver,
            self._builder,
            self._topics,
            self._health,
            self._stamp_age,
            logger.warning,
            # A GPU runs the network in less time than a JPEG takes to decode; a CPU needs its cores for the network.
            pool_size := 1 if self.model.provider.used == "CPUExecutionProvider" else min(len(parameters.cameras), 4),
            pool_size,
            self.warm_up_ms,
        )
        self._active_since_ns: int | None = None
        self._publish_labels()

    def start(self) -> None:
        """Subscribe, and perceive what comes."""
        self.worker.start()
        self._pictures.start()
        self._free_space.start()
        for topics in self._topics.values():
            topics.subscribe(self._mailbox.put)
        self._active_since_ns = time.monotonic_ns()

    def stop(self) -> bool:
        """Unsubscribe and finish the frame in progress, the model stays; False if the frame hangs."""
        self._active_since_ns = None
        for topics in self._topics.values():
            topics.unsubscribe()
        finished = self.worker.stop(STOP_TIMEOUT_S)
        self._pictures.stop(STOP_TIMEOUT_S)
        self._free_space.stop(STOP_TIMEOUT_S)
        return finished

    def destroy(self) -> None:
        """Stop and take every topic off the graph."""
        self.stop()
        for topics in self._topics.values():
            topics.destroy()
        self._debug.destroy()
        self._free_space.destroy()

    def change(self, values: Mapping[str, Any]) -> None:
        """Take over new values of the parameters that may change while the node runs."""
        if "max_age_ms" in values:
            self._mailbox.max_age_ms = values["max_age_ms"]
        for camera in self._topics:
            if (name := f"{camera}.turn_weight") in values:
                self._mailbox.set_weight(camera, values[name])
        if "max_stamp_age_ms" in values:
            self._stamp_age.max_age_ms = values["max_stamp_age_ms"]
        if "silence_timeout_ms" in values:
            for health in self._health.values():
                health.silence_timeout_ms = values["silence_timeout_ms"]
        if "score_threshold" in values:
            self._set_score_threshold(values["score_threshold"])
            self._publish_labels()

    def statuses(self) -> list[Status]:
        """Health of the model and of every camera, now."""
        now_ns, counts = time.monotonic_ns(), self._mailbox.counts()
        return [
            self._model_status(),
            *(
                self._health[camera].status(now_ns, counts[camera], topics.link(), self._active_since_ns)
                for camera, topics in self._topics.items()
            ),
            *self._free_space.statuses(),
        ]

    def _model_status(self) -> Status:
        model = self.model
        contract, provider = model.contract, model.provider
        problem = worker_problem(self.worker.pulse()) if self._active_since_ns is not None else ""
        level, message = Level.OK, f"{contract.name} {contract.version} on {provider.used}"
        if provider.fallback:
            level, message = Level.ERROR, f"{provider.asked} was asked for, {provider.used} runs: {provider.fallback}"
        if problem:
            level, message = Level.ERROR, problem
        values = (
            ("model", contract.name),
            ("version", contract.version),
            ("path", self.parameters.model),
            ("sha256", model.sha256),
            ("device", self.parameters.device),
            ("provider_asked", provider.asked),
            ("provider", provider.used),
            ("fallback", provider.fallback),
            ("nodes", provider.placement()),
            ("cuda_graph", provider.cuda_graph),
            ("engine_cache", provider.engine_cache),
            ("golden_class_map_agreement", f"{model.golden.class_map_agreement:.5f}" if model.golden else ""),
            ("golden_box_iou", f"{model.golden.box_iou:.5f}" if model.golden else ""),
            ("precision_asked", self.parameters.precision),
            ("precision", contract.precision),
            ("input", f"{contract.input.width}x{contract.input.height}"),
            ("score_threshold", f"{self._perceiver.score_threshold:g}"),
            ("warm_up_ms", f"{self.warm_up_ms:.2f}"),
        )
        return Status(level, "model", message, hardware_id=provider.used, values=values)

    def _set_score_threshold(self, value: float) -> None:
        exported = self.model.contract.detections.score_threshold
        self._perceiver.score_threshold = exported if value < 0 else value

    def _find_free_space(self) -> FreeSpaceFinder:
        try:
            return FreeSpaceFinder(self.parameters.free_space, self.model.contract)
        except ValueError as error:
            raise ParameterError(str(error)) from None

    def _publish_labels(self) -> None:
        segmentation = self._builder.segmentation_labels()
        detections = self._builder.detection_labels(self._perceiver.score_threshold)
        for topics in self._topics.values():
            topics.publish_labels(segmentation, detections)
