"""Pipeline: everything that a configured node holds, from the subscriptions through the model to the sinks."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode

from ros_kd_perception.candidates.check import CandidateRefused
from ros_kd_perception.health.stamp_age import StampAge
from ros_kd_perception.health.status import CameraHealth, Level, Status, worker_problem
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.ros.frame_path import frame_path
from ros_kd_perception.ros.node_parameters import NodeParameters
from ros_kd_perception.ros.reload import ModelReload, ReloadOutcome
from ros_kd_perception.ros.running_model import RunningModel, tell_in_log
from ros_kd_perception.ros.workers.remote_cameras import RemoteCameras
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.worker import ModelSwap, PerceptionWorker

STOP_TIMEOUT_S = 10.0


class Pipeline:
    """Holds one verified model, the thread that runs it, the cameras and the sinks.

    Attributes:
        topics_lock: Hold it during a transition, which goes through all publishers: a reload may add some.

    Args:
        node: The node, for topics, clock and log.
        parameters: The parameters of the node.
        cancelled: Polled while the model is tried; the trial ends when it returns True.

    Raises:
        CandidateRefused: The model failed its trial, or the trial was cancelled.
        ModelError: The model cannot be used.
        ParameterError: A parameter does not fit the model, such as a drivable class that it does not have.
        ImportError: A package is missing.
    """

    def __init__(
        self, node: LifecycleNode, parameters: NodeParameters, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        logger = node.get_logger()
        self.parameters = parameters
        self._log = logger
        self._running = RunningModel.load(parameters.model, parameters, cancelled, tell_in_log(logger))
        self._score_threshold = parameters.score_threshold
        self._cameras = dict(parameters.camera_settings)
        self._model_lock = threading.Lock()  # a reload switches models in another thread
        self.topics_lock = threading.Lock()
        self._reload: ModelReload | None = None
        weights = {camera: settings.turn_weight for camera, settings in self._cameras.items()}
        self._mailbox: Mailbox[Any] = Mailbox(parameters.cameras, parameters.max_age_ms, weights=weights, renewed=True)
        self._health = {c: CameraHealth(c, parameters.silence_timeout_ms) for c in parameters.cameras}
        clock = node.get_clock()
        self._stamp_age = StampAge(
            parameters.max_stamp_age_ms,
            # Without /clock the ROS time is the system's, which is sooner read. It is read twice for each frame.
            lambda: clock.now().nanoseconds if getattr(clock, "ros_time_is_active", True) else time.time_ns(),
            logger.warning,
            parameters.stamp_age_unknown == "drop",
        )
        self._path = path = frame_path(node, parameters, self._running, self._mailbox, logger.warning, cancelled)
        self._images, self._sinks = path.images, path.sinks
        self.worker = PerceptionWorker(
            self._mailbox,
            path.network_of(self._running),
            path.sinks,
            self._health,
            self._stamp_age,
            logger.warning,
            path.threads,
            path.ahead,
            self.warm_up_ms,
            path.collect,
            path.preparation,
            path.idle_wait,
        )
        if isinstance(path.images, RemoteCameras):
            path.images.frames.published = self.worker.count_published
            path.images.frames.drop = self.worker.drop_log.drop
        self._active_since_ns: int | None = None
        for camera, settings in self._cameras.items():
            self._set_max_rate(camera, settings.max_rate_hz)
            self._set_enabled(camera, settings.enabled)

    @property
    def model(self) -> OnnxModel:
        """The active model."""
        return self._running.model

    @property
    def warm_up_ms(self) -> float:
        """Duration of the last warm-up run of the active model, milliseconds."""
        return self._running.warm_up_ms

    def log_model_notes(self) -> None:
        """Log why the active model runs, and how fast a quantised one is here."""
        choice, trial = self._running.choice, self._running.trial
        if choice:
            self._log.info(choice)
        if trial.is_slower:
            self._log.warning(trial.speed)
        elif trial.speed:
            self._log.info(trial.speed)

    def start(self) -> None:
        """Subscribe to the cameras and start to perceive frames."""
        self.worker.start()
        for sink in self._sinks:
            sink.start()
        self._images.start()
        for camera, settings in self._cameras.items():
            if settings.enabled:
                self._images.subscribe(camera)
        self._active_since_ns = time.monotonic_ns()

    def stop(self) -> bool:
        """Unsubscribe and finish the frame in progress. The model stays. Return False if the frame hangs."""
        self._active_since_ns = None
        self._images.close()
        finished = self.worker.stop(STOP_TIMEOUT_S)
        self._images.stop()
        for sink in self._sinks:
            sink.stop(STOP_TIMEOUT_S)
        return finished

    def destroy(self) -> None:
        """Stop and remove every topic from the graph."""
        if self._reload is not None and not self._reload.cancel("the node lets go of its model", STOP_TIMEOUT_S):
            self._log.error("a reload of the model hangs and was left behind; restart the node")
        self.stop()
        for sink in self._sinks:
            sink.destroy()

    def change(self, values: Mapping[str, Any]) -> None:
        """Apply new values of parameters that may change while the node runs."""
        if "max_age_ms" in values:
            self._mailbox.max_age_ms = values["max_age_ms"]
        self._change_cameras(values)
        if "max_stamp_age_ms" in values:
            self._stamp_age.max_age_ms = values["max_stamp_age_ms"]
        if "stamp_age_unknown" in values:
            self._stamp_age.drops_unknown = values["stamp_age_unknown"] == "drop"
        if "silence_timeout_ms" in values:
            for health in self._health.values():
                health.silence_timeout_ms = values["silence_timeout_ms"]
        for sink in self._sinks:
            sink.change(values)

    def _change_cameras(self, values: Mapping[str, Any]) -> None:
        before = self._cameras
        with self._model_lock:
            self._score_threshold = values.get("score_threshold", self._score_threshold)
            self._cameras = {camera: settings.updated(camera, values) for camera, settings in self._cameras.items()}
            self._running.apply(self._score_threshold, self._cameras)
        for camera, settings in self._cameras.items():
            self._mailbox.set_weight(camera, settings.turn_weight)
            self._set_max_rate(camera, settings.max_rate_hz)
            if settings.enabled != before[camera].enabled:
                self._set_enabled(camera, settings.enabled)

    def _set_max_rate(self, camera: str, max_rate_hz: float) -> None:
        self._mailbox.set_max_rate(camera, max_rate_hz)
        self._health[camera].max_rate_hz = max_rate_hz

    def _set_enabled(self, camera: str, enabled: bool) -> None:
        self._mailbox.set_enabled(camera, enabled)
        self._health[camera].set_enabled(enabled, time.monotonic_ns())
        if not enabled:
            self._images.unsubscribe(camera)
        elif self._active_since_ns is not None:
            self._images.subscribe(camera)

    def begin_reload(self, path: str, done: Callable[[ReloadOutcome], object]) -> str | None:
        """Start to replace the active model.

        Args:
            path: Path of the new model.
            done: Called once with the outcome, from another thread.

        Returns:
            None, or one sentence that says why no reload was started.
        """
        with self._model_lock:
            if self._reload is not None and self._reload.outcome is None:
                return (
                    f"expected one reload at a time, the reload of {self._reload.path} is still running; call again "
                    "when it has ended"
                )
            self._reload = ModelReload(path, self.parameters, self._hand_over, done, tell_in_log(self._log))
            self._reload.start()
        return None

    def statuses(self) -> list[Status]:
        """Return the current status of the model, of every camera and of the sinks."""
        now_ns, counts = time.monotonic_ns(), self._mailbox.counts()
        return [
            self._model_status(),
            *(
                health.status(now_ns, counts[camera], self._images.link(camera), self._active_since_ns)
                for camera, health in self._health.items()
            ),
            *(status for sink in self._sinks for status in sink.statuses()),
        ]

    def _hand_over(self, candidate: RunningModel, cancelled: threading.Event) -> list[str] | None:
        try:
            ends = [text for sink in self._sinks if (text := sink.check_model(candidate.model.contract))]
        except ValueError as error:
            raise CandidateRefused(f"{candidate.path}: {error}") from None
        # Keep the old model until the worker has switched, so that this thread frees its memory and not the worker's.
        old = self._running
        swap = ModelSwap(self._path.network_of(candidate), lambda: self._change_over(candidate))
        taken = self.worker.swap(swap, cancelled, STOP_TIMEOUT_S)
        del old
        return ends if taken else None

    def _change_over(self, candidate: RunningModel) -> None:
        # Between two frames, so that every result comes after the labels that belong to it.
        with self._model_lock:
            candidate.apply(self._score_threshold, self._cameras)
            self._running = candidate
        for sink in self._sinks:
            try:
                with self.topics_lock:
                    sink.change_model(candidate.model.contract, candidate.builder)
            except Exception:
                self._log.error(f"failed to switch {sink.name} to the new model: {traceback.format_exc()}")

    def _model_status(self) -> Status:
        running, reload = self._running, self._reload
        contract, provider = running.model.contract, running.model.provider
        level, message = Level.OK, f"{contract.name} {contract.version} on {provider.used}"
        outcome = None if reload is None else reload.outcome
        if outcome is not None and not outcome.success:
            level, message = Level.WARN, f"{message}; the last reload: {outcome.message}"
        if running.trial.is_slower:
            level, message = Level.WARN, f"{message}; {running.trial.speed}"
        if provider.unproven:
            level, message = Level.WARN, f"{message}; {provider.unproven}"
        if provider.fallback:
            level, message = Level.ERROR, provider.fell_back
        problem = worker_problem(self.worker.liveness()) if self._active_since_ns is not None else ""
        if problem:
            level, message = Level.ERROR, problem
        last_reload = "" if reload is None else "under way" if outcome is None else outcome.message
        values = (*running.values(self.parameters), ("last_reload", last_reload))
        return Status(level, "model", message, hardware_id=provider.used, values=values)
