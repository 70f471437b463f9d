"""ResultSink: one kind of output of the worker. Everything that the node publishes for a frame goes through a sink."""

# ruff: noqa: B027  # methods that a sink may leave out do nothing

from __future__ import annotations

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ros_kd_perception.health.status import FrameTimes, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.scheduling.preparation import ReadyFrame


@dataclass(slots=True)
class FrameResult:
    """A perceived frame on its way to the sinks.

    Attributes:
        ready: The prepared frame, with its arrival time.
        perception: What the model saw in it, a `Perception`, or a `RanFrame` if another process publishes it.
        stamp_age_ms: Age of the header stamp at `started_ns`, milliseconds. None if stamps and clock do not compare.
        started_ns: Steady clock at which the worker took the frame.
        handed_ns: Steady clock of `hand_over`, 0 before.
    """

    ready: ReadyFrame
    perception: Any
    stamp_age_ms: float | None
    started_ns: int
    handed_ns: int = field(default=0, init=False)

    @property
    def frame(self) -> Any:
        """The camera frame, a `Frame`, or `FrameFacts` if another process has its image."""
        return self.ready.prepared.frame

    def hand_over(self) -> None:
        """End the processing time. The first sink calls this when its messages are complete and not yet published."""
        self.handed_ns = time.monotonic_ns()

    @property
    def times(self) -> FrameTimes:
        """The times of the frame until `hand_over`."""
        return self.times_at(self.handed_ns)

    def times_at(self, handed_ns: int) -> FrameTimes:
        """Return the times of the frame until a time of the steady clock."""
        run_ms = (handed_ns - self.started_ns) / 1e6
        age_ms = None if self.stamp_age_ms is None else self.stamp_age_ms + run_ms
        latency_ms = (handed_ns - self.ready.queued.arrival_ns) / 1e6
        return FrameTimes(self.ready.preparation_ms + run_ms, latency_ms, age_ms)


def publish_beside(
    sinks: Sequence[ResultSink], result: FrameResult, warn: Callable[[tuple[str, str], str], object]
) -> None:
    """Give a frame that counts as published to the other sinks. An error of one does not keep it from the next.

    Args:
        sinks: The sinks after the first.
        result: The frame.
        warn: Logs a sentence about a camera and a sink.
    """
    camera = result.frame.camera
    for sink in sinks:
        try:
            sink.publish(result)
        except Exception:
            warn((camera, sink.name), f"failed to publish {sink.name} of {camera}: {traceback.format_exc()}")


class ResultSink(ABC):
    """Publishes one kind of output for all cameras, from the publishers to the diagnostics.

    The worker calls `publish` for every perceived frame, in the thread that runs the network. A sink must not block
    there: it does nothing if there is no subscriber, and leaves slow work to a `SideThread`. The other methods are
    optional.

    Attributes:
        name: What it publishes, for log messages.
        confirms_later: Whether the first sink tells the worker itself, later, what became of each frame.
    """

    name: ClassVar[str]
    confirms_later: ClassVar[bool] = False

    @abstractmethod
    def publish(self, result: FrameResult) -> None:
        """Publish what there is for a frame.

        An exception of the first sink drops the frame as `failed`. An exception of any other sink is logged; the
        remaining sinks still get the frame.
        """

    def start(self) -> None:
        """Start threads and subscriptions when the node is activated."""

    def stop(self, timeout_s: float) -> None:
        """End what `start` started. Wait for at most `timeout_s` seconds."""

    def destroy(self) -> None:
        """Remove publishers from the graph."""

    def statuses(self) -> list[Status]:
        """Return the diagnostics of this output."""
        return []

    def change(self, values: Mapping[str, Any]) -> None:
        """Apply parameters that changed while the node runs.

        Args:
            values: New values by full parameter name; may hold parameters of others.
        """

    def check_model(self, contract: ModelContract) -> str:
        """Check whether this output can be made from a model's results.

        Returns:
            What of this output ends with the model because it does not do a task, in words. Empty if nothing ends.

        Raises:
            ValueError: The output was asked for and cannot be made. The text is one sentence.
        """
        return ""

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Switch to another model, between the last frame of the old one and the first frame of the new one.

        Args:
            contract: Contract of the new model; it has passed `check_model`.
            builder: Builds messages with the classes of the new model.
        """
