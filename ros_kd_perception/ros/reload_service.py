"""ReloadService: `~/reload_model`, which answers when the new model runs or is refused, and blocks nobody meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import Trigger

from ros_kd_perception.ros.model_reload import ReloadOutcome


class ReloadService:
    """Waits as a coroutine: the executor goes on with everything else, in a single thread, until the outcome is there.

    Args:
        node: that offers the service.
        begin: begins a reload and is given whom to tell the outcome, from any thread, once; or returns at once why not.
    """

    def __init__(self, node: LifecycleNode, begin: Callable[[Callable[[ReloadOutcome], object]], str | None]) -> None:
        self._node = node
        self._begin = begin
        self._lock = threading.Lock()
        self._answers: list[tuple[Future[Any], ReloadOutcome]] = []
        # A group of its own: one that is mutually exclusive with the cameras would keep them waiting as well.
        group = ReentrantCallbackGroup()
        self._service = node.create_service(Trigger, "~/reload_model", self._reload, callback_group=group)
        # Futures are settled in the executor's thread, which this wakes up.
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
