"""RemoteResults: the results of a node whose worker processes publish them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ros_kd_perception.health.status import Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.workers.remote_cameras import RemoteCameras
from ros_kd_perception.scheduling.result_sink import FrameResult, ResultSink


class RemoteResults(ResultSink):
    """The only sink of a node with worker processes: they have all the others.

    Args:
        cameras: The cameras and their processes.
    """

    name = "results of worker processes"
    confirms_later = True

    def __init__(self, cameras: RemoteCameras) -> None:
        self._cameras = cameras

    def publish(self, result: FrameResult) -> None:
        """Have the results of a frame published by the process that took it."""
        self._cameras.frames.publish(result)

    def destroy(self) -> None:
        """End the processes."""
        self._cameras.destroy()

    def statuses(self) -> list[Status]:
        """Return the diagnostics of the processes and of their sinks."""
        return self._cameras.statuses()

    def change(self, values: Mapping[str, Any]) -> None:
        """Tell the processes new values of parameters."""
        self._cameras.change(values)

    def check_model(self, contract: ModelContract) -> str:
        """Return what ends with a model, in words."""
        return self._cameras.check_model(contract)

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Have the processes switch to another model."""
        self._cameras.change_model(contract)
