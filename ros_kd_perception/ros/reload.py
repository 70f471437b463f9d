"""ModelReload: replaces the model of a running node without missing a frame.

A process of its own tries a new model. Then a thread of this process opens, verifies and warms it up at low priority
and hands it to the worker, which switches between two frames. If anything goes wrong, the old model stays.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import Trigger

from ros_kd_perception.candidates.check import CandidateRefused
from ros_kd_perception.model.onnx_model import ModelError, ProviderReport
from ros_kd_perception.ros.node_parameters import NodeParameters
from ros_kd_perception.ros.running_model import RunningModel


@dataclass(frozen=True)
class ReloadOutcome:
    """The result of a reload; `message` is one sentence."""

    success: bool
    message: str


class ModelReload:
    """One reload, in a thread of its own.

    Args:
        path: Path of the new model, or `auto`.
        parameters: Parameters with which the node was configured.
        hand_over: Gives the model to the worker after the frame in progress. Returns what ends with the old model, in
            words, or None if the worker did not take the new one.
        done: Called once with the outcome, from any thread.
        tell: Logs a report if the new model does not run where it was asked to.
    """

    def __init__(
        self,
        path: str,
        parameters: NodeParameters,
        hand_over: Callable[[RunningModel, threading.Event], list[str] | None],
        done: Callable[[ReloadOutcome], object],
        tell: Callable[[ProviderReport], None],
    ) -> None:
        self.path = path
        self._parameters = parameters
        self._hand_over = hand_over
        self._done = done
        self._tell = tell
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._outcome: ReloadOutcome | None = None
        self._thread = threading.Thread(target=self._run, name="model reload", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def outcome(self) -> ReloadOutcome | None:
        """The outcome; None while the reload runs."""
        return self._outcome

    def cancel(self, reason: str, timeout_s: float) -> bool:
        """End the reload and keep the old model. Return False if the thread hangs, for example in a driver."""
        self._cancelled.set()
        self._thread.join(timeout_s)
        self._finish(ReloadOutcome(False, f"cancelled, {reason}: the model stays as it was"))
        return not self._thread.is_alive()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            outcome = self._reload(started)
        except (CandidateRefused, ModelError, ImportError) as error:
            outcome = ReloadOutcome(False, f"refused, the old model runs on: {error}")
        except Exception:
            outcome = ReloadOutcome(False, f"failed, the old model runs on: {traceback.format_exc(limit=-1)}")
        self._finish(outcome)

    def _reload(self, started: float) -> ReloadOutcome:
        candidate = RunningModel.load(
            self.path, self._parameters, self._cancelled.is_set, self._tell, low_priority=True
        )
        ends = None if self._cancelled.is_set() else self._hand_over(candidate, self._cancelled)
        if ends is None and self._cancelled.is_set():
            return ReloadOutcome(False, "cancelled: the model stays as it was")
        if ends is None:
            return ReloadOutcome(False, "the worker did not take the candidate over, the old model stays in place")
        contract = candidate.model.contract
        took = f"ready after {time.monotonic() - started:.1f} s"
        runs = f"{contract.name} {contract.version} of {candidate.path} runs on {candidate.model.provider.used}, {took}"
        tasks = [f"it does {' and '.join(contract.tasks)} only"] if len(contract.tasks) == 1 else []
        return ReloadOutcome(True, "; ".join([runs, *tasks, *ends, *candidate.notes()]))

    def _finish(self, outcome: ReloadOutcome) -> None:
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
        self._done(outcome)


class ReloadService:
    """Offers the service `~/reload_model`.

    The service callback is a coroutine, so the executor serves everything else until the reload has ended.

    Args:
        node: The node that offers the service.
        begin: Starts a reload. It gets a function to call once with the outcome, from any thread, and returns None; or
            it returns a sentence that says why no reload was started.
    """

    def __init__(self, node: LifecycleNode, begin: Callable[[Callable[[ReloadOutcome], object]], str | None]) -> None:
        self._node = node
        self._begin = begin
        self._lock = threading.Lock()
        self._answers: list[tuple[Future[Any], ReloadOutcome]] = []
        # A reentrant group, because cameras in a mutually exclusive group would wait for the reload.
        group = ReentrantCallbackGroup()
        self._service = node.create_service(Trigger, "~/reload_model", self._reload, callback_group=group)
        # This wakes the executor, whose thread sets the results of the futures.
        self._settled = node.create_guard_condition(self._settle, callback_group=group)

    async def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        future: Future[Any] = Future()

        def tell(outcome: ReloadOutcome) -> None:
            with self._lock:
                self._answers.append((future, outcome))
            self._settled.trigger()

        refusal = self._begin(tell)
        outcome: Any = ReloadOutcome(False, refusal) if refusal is not None else await future
        log = self._node.get_logger()
        if outcome.success:
            log.info(f"reload_model: {outcome.message}")
        else:
            log.error(f"reload_model: {outcome.message}")
        response.success, response.message = outcome.success, outcome.message
        return response

    def _settle(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, []
        for future, outcome in answers:
            future.set_result(outcome)
