"""The lifecycle node: parameters, transitions, diagnostics. The work is done in `pipeline`."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # not in clock_type before Iron
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from ros_kd_perception.candidates.check import CandidateRefused
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.model.onnx_model import ModelError
from ros_kd_perception.ros.diagnostics import Diagnostics
from ros_kd_perception.ros.lifecycle_bond import LifecycleBond, lifecycle_bond
from ros_kd_perception.ros.node_parameters import ParameterError
from ros_kd_perception.ros.node_startup import StartError, check_ros_arguments_alone, start_node, stop_at_signals
from ros_kd_perception.ros.parameter_table import ParameterTable
from ros_kd_perception.ros.pipeline import Pipeline
from ros_kd_perception.ros.reload import ReloadOutcome, ReloadService
from ros_kd_perception.system.interruption import StopRequest
from ros_kd_perception.system.orphaned_memory import remove_orphaned_segments
from ros_kd_perception.system.threads import set_up_threads
from ros_kd_perception.system.warning_throttle import WarningThrottle

END_TIMEOUT_S = 3.0
"""Callbacks take milliseconds. The node does not wait longer for one when it ends."""

SIGNAL_PERIOD_S = 0.5
"""Longest time until a signal is noticed."""

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)

MAX_REFUSAL_CHARACTERS = 300
"""Longest text of an unexpected error in diagnostics; its traceback is in the log."""


class PerceptionNode(LifecycleNode):
    """Runs a distilled student on every camera and publishes its results.

    configure opens, verifies and warms up the model and makes the publishers. activate subscribes to the cameras,
    deactivate unsubscribes and keeps the model, cleanup releases it. Diagnostics are published in every state.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("perception", **node_arguments)
        self._pipeline: Pipeline | None = None
        self._bond: LifecycleBond | None = None
        self._refusal = ""  # why the last transition failed
        self._configuring_since_s: float | None = None
        self._next_diagnostics_s = 0.0
        self._ending = threading.Event()
        self._table = ParameterTable(self, self._take_over)
        for sentence in self._table.unknown_overrides():
            self.get_logger().warning(sentence)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = Diagnostics(self, self._statuses)
        self.create_timer(self._table.diagnostics_period_s, self._diagnostics.publish, clock=steady)
        self._reload_service = ReloadService(self, self._begin_reload)
        if self._table.autostart:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open, verify and warm up the model and make the publishers. Return FAILURE with a reason if that fails."""
        self._configuring_since_s = time.monotonic()
        try:
            self._pipeline = Pipeline(self, self._table.read(), self._given_up)
        except (ParameterError, CandidateRefused, ModelError, ImportError) as error:
            self._refusal = str(error)
            self.get_logger().error(f"cannot configure: {error}")
            return FAILURE
        except Exception:
            return self._fail("configure")
        finally:
            self._configuring_since_s = None
        self._refusal = ""
        model = self._pipeline.model
        self.get_logger().info(
            f"configured {model.contract.name} {model.contract.version} on {model.provider.used} for "
            f"{', '.join(self._pipeline.parameters.cameras)}, {' and '.join(model.contract.tasks)}, "
            f"{self._pipeline.warm_up_ms:.1f} ms a frame"
        )
        self._pipeline.log_model_notes()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to perceive frames, and form the bond with a lifecycle manager."""
        try:
            with self._configured().topics_lock:
                result = super().on_activate(state)
            self._configured().start()
        except Exception:
            return self._fail("activate")
        self._bond = self._bond or lifecycle_bond(self, is_managed=not self._table.autostart)
        if self._bond:
            self._bond.form()
        self.get_logger().info("active")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish the frame in progress. The model stays ready."""
        self._end_bond()
        try:
            if not self._configured().stop():
                self._refusal = "the network hangs in a frame and was left behind; restart the node"
                self.get_logger().error(self._refusal)
                return ERROR
        except Exception:
            return self._fail("deactivate")
        self.get_logger().info("inactive")
        with self._configured().topics_lock:
            return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model and remove every topic."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model and remove every topic, from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything after a transition that raised, and return to unconfigured."""
        try:
            self._release()
        except Exception:
            self.get_logger().error(f"cannot recover: {traceback.format_exc()}")
            return FAILURE
        return super().on_error(state)

    def give_up_configure(self) -> None:
        """Cancel a model trial that is running, and all later ones. May be called from another thread."""
        self._ending.set()

    def finalize(self) -> None:
        """Shut down from any state. Does nothing if the node is already finalized."""
        try:
            self.trigger_shutdown()
        except RuntimeError:
            # rclpy raises this if no shutdown is possible, and has no public way to ask for the state.
            self._release()

    def _given_up(self) -> bool:
        """Return whether a trial must end. Publish diagnostics meanwhile, because the trial blocks their timer."""
        now_s = time.monotonic()
        if now_s >= self._next_diagnostics_s:
            self._next_diagnostics_s = now_s + self._table.diagnostics_period_s
            self._diagnostics.publish()
        return self._ending.is_set()

    def _configured(self) -> Pipeline:
        if self._pipeline is None:
            raise RuntimeError("expected a configured node, got one without a model; configure it first")
        return self._pipeline

    def _end_bond(self) -> None:
        if self._bond:
            self._bond.end()

    def _release(self) -> None:
        self._end_bond()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.destroy()

    def _fail(self, transition: str) -> TransitionCallbackReturn:
        self._refusal = " ".join(traceback.format_exc(limit=0).split())[:MAX_REFUSAL_CHARACTERS]
        self.get_logger().error(f"cannot {transition}: {traceback.format_exc()}")
        return ERROR

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _take_over(self, values: Mapping[str, Any]) -> None:
        if self._pipeline is not None:
            self._pipeline.change(values)

    def _begin_reload(self, done: Callable[[ReloadOutcome], object]) -> str | None:
        if self._pipeline is None:
            return "expected a configured node, got one without a model; configure it, which opens the model"
        return self._pipeline.begin_reload(self._table.model, done)

    def _statuses(self) -> list[Status]:
        if self._pipeline is not None:
            return self._pipeline.statuses()
        if self._configuring_since_s is not None:
            since_s = time.monotonic() - self._configuring_since_s
            return [Status(Level.OK, "model", f"configuring: the model is tried, for {since_s:.0f} s so far")]
        if self._refusal:
            return [Status(Level.ERROR, "model", f"not configured: {self._refusal}")]
        return [Status(Level.OK, "model", "unconfigured")]


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Returns:
        Exit status: 0 after a signal, 1 if the executor's thread ended (so that `respawn` starts the node again), 2 if
        ROS cannot start.
    """
    stop = stop_at_signals()
    set_up_threads()
    freed_bytes = remove_orphaned_segments()
    try:
        check_ros_arguments_alone(sys.argv[1:] if arguments is None else arguments)
        node = start_node(PerceptionNode, arguments)
    except StartError as error:
        print(f"perception_node: {error}", file=sys.stderr)
        return 2
    if freed_bytes:
        node.get_logger().info(f"freed {freed_bytes >> 20} MiB of shared memory that killed processes left behind")
    # It serves everything but images, so a second thread would have no work. EventsExecutor of rclpy 9.1.2 refuses the
    # guard condition that ~/reload_model needs.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=_spin, args=(executor, stop, node), name="executor", daemon=True)
    spinning.start()
    # The main thread waits here because Python runs signal handlers only there. It wakes up regularly because a signal
    # that another thread received does not wake it (seen while a reload started its child process).
    while spinning.is_alive() and not stop.wait(SIGNAL_PERIOD_S):
        pass
    lost = not stop.is_set()
    if lost:
        node.get_logger().fatal("the executor has ended, so nothing is received or published any more; the node ends")
    node.give_up_configure()
    # With a timeout: shutdown waits for running callbacks, and that of a reload cannot end without a spinning executor.
    executor.shutdown(timeout_sec=END_TIMEOUT_S)
    spinning.join(END_TIMEOUT_S)
    node.finalize()
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if lost else 0


def _spin(executor: SingleThreadedExecutor, stop: StopRequest, node: PerceptionNode) -> None:
    # A lambda, because rclpy refuses two severities from one line of code, and the line in the throttle also logs the
    # warnings of this node.
    throttle = WarningThrottle(lambda text: node.get_logger().error(text))
    while not stop.is_set():
        try:
            executor.spin()
        except Exception as error:
            if stop.is_set():  # the shutdown makes it raise
                return
            # For example a message that cannot be deserialised, or a request that rclpy's services cannot read. One
            # callback is lost and the node goes on. The pause limits errors that repeat; it is short for the cameras.
            throttle.warn(type(error).__name__, f"a callback failed: {traceback.format_exc()}")
            stop.wait(0.01)


if __name__ == "__main__":
    sys.exit(main())
