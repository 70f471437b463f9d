"""ShadowTopic: runs a second model on a share of the frames and publishes how far it agrees with the active one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile

from ros_kd_perception.candidates.agreement import Agreement, ClassNames
from ros_kd_perception.candidates.shadow_process import ShadowFailed, ShadowProcess
from ros_kd_perception.health.status import Level, Status
from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.parameters.rules import Declaration, required_signature_key
from ros_kd_perception.ros.topics.topic_sink import SinkContext, TopicSink
from ros_kd_perception.scheduling.result_sink import FrameResult
from ros_kd_perception.scheduling.side_thread import SideThread
from ros_kd_perception.structures import Frame, Perception

_REMEMBERED = 300  # compared frames that diagnostics summarise

_Item = tuple[Frame, Perception, ClassNames]


class ShadowTopic(TopicSink):
    """Publishes `~/shadow/agreement`: how far a second model agrees with the active one.

    It is off while `shadow_model` is empty or `shadow_share` is 0. The network thread only passes references on. Frames
    that arrive while the shadow is busy are not compared. A shadow that was refused or died stays off until
    `shadow_model` is set again.
    """

    name = "shadow comparison"
    parameters: ClassVar[Mapping[str, Declaration]] = {
        "shadow_model": Declaration(
            "",
            "Path of a second student that runs on a share of the frames, on the CPU at the lowest priority. Its "
            "agreement with the active one is published on ~/shadow/agreement and /diagnostics. Empty for no shadow.",
            read_only=False,
            is_file=True,
        ),
        "shadow_share": Declaration(
            0.1,
            "Share of each camera's frames that shadow_model gets, 0..1. Frames that arrive while it is busy are "
            "left out.",
            minimum=0.0,
            maximum=1.0,
            read_only=False,
        ),
    }

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._names = ClassNames.of(context.contract)
        self._model: str = context.values["shadow_model"]
        self._share: float = context.values["shadow_share"]
        self._signature_key = required_signature_key(context.values)
        self._warn = context.warn
        self._due = dict.fromkeys(context.cameras, 0.0)
        self._publisher = self.publisher(DiagnosticArray, "~/shadow/agreement", QoSProfile(depth=10))
        self._thread: SideThread[_Item] = SideThread("shadow comparison", context.cameras, self._compare, context.warn)
        self._lock = threading.Lock()
        self._process: ShadowProcess | None = None
        self._model_name = ""  # of the model that is open
        self._problem = ""
        self._setting = 0  # how often `shadow_model` was set
        self._agreements: deque[Agreement] = deque(maxlen=_REMEMBERED)
        self._compared = 0

    def start(self) -> None:
        """Start to compare frames."""
        self._problem = ""
        self._agreements.clear()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the shadow's process and the thread."""
        self._thread.close()
        self._end_process()
        self._thread.stop(timeout_s)
        self._end_process()  # the thread may have started another one in between

    def change(self, values: Mapping[str, Any]) -> None:
        """Apply new values of `shadow_model` and `shadow_share`."""
        if "shadow_share" in values:
            self._share = values["shadow_share"]
        if "shadow_model" in values:
            # First: a running comparison fails from now on, and that must not count against the new shadow.
            self._setting += 1
            self._model = values["shadow_model"]
            self._problem, self._compared = "", 0
            self._agreements.clear()
            self._end_process()

    def change_model(self, contract: ModelContract, builder: MessageBuilder) -> None:
        """Compare with the new active model from the next frame on."""
        super().change_model(contract, builder)
        self._names = ClassNames.of(contract)
        self._agreements.clear()

    def publish(self, result: FrameResult) -> None:
        """Leave a frame for comparison if it is the shadow's turn. Never waits."""
        frame, perception = result.frame, result.perception
        if not self._model or self._problem:
            return
        self._due[frame.camera] += self._share
        if self._due[frame.camera] >= 1.0:
            self._due[frame.camera] -= 1.0
            # The shadow must see what the active model saw.
            region = result.ready.prepared.geometry.region
            self._thread.offer(frame.camera, (frame.cropped(region), perception.cropped(region), self._names))

    def statuses(self) -> list[Status]:
        """Return one status if a shadow is set."""
        model, agreements = self._model, list(self._agreements)
        if not model:
            return []
        values = [("model", model), ("share", f"{self._share:g}"), ("compared", str(self._compared))]
        if self._problem:
            return [Status(Level.WARN, "shadow", self._problem, values=tuple(values))]
        if not self._share:
            return [Status(Level.OK, "shadow", "off, because shadow_share is 0", values=tuple(values))]
        if not agreements:
            return [Status(Level.OK, "shadow", "nothing compared yet", values=tuple(values))]
        return [self._summary(agreements, values)]

    def _summary(self, agreements: list[Agreement], values: list[tuple[str, str]]) -> Status:
        parts = [part for part in (_class_maps(agreements), _boxes(agreements)) if part is not None]
        latencies = [a.inference_ms for a in agreements]
        values = [
            *values,
            *(value for part in parts for value in part.values),
            ("inference_ms.p50", f"{np.percentile(latencies, 50):.2f}"),
            ("inference_ms.p95", f"{np.percentile(latencies, 95):.2f}"),
        ]
        text = f"{self._model_name} agrees with the active model: {', '.join(part.text for part in parts)}"
        return Status(Level.OK, "shadow", text, values=tuple(values))

    def _compare(self, camera: str, item: _Item) -> None:
        frame, perception, names = item
        setting, model = self._setting, self._model
        if not model or self._problem:
            return
        try:
            process = self._running(model)
            agreement = process.compare(frame, perception, names)
        except ShadowFailed as error:
            if setting == self._setting and not self._thread.closed:
                self._problem = str(error)
                self._warn(f"no shadow: {error}")
            self._end_process()
            return
        if setting == self._setting:
            self._agreements.append(agreement)
            self._compared += 1
            self._publish_agreement(frame, agreement)

    def _running(self, model: str) -> ShadowProcess:
        with self._lock:
            if self._process is not None:
                if self._process.path == model:
                    return self._process
                self._process.close()
            self._process = process = ShadowProcess(model, self._signature_key)
        self._model_name = process.wait_until_ready()
        return process

    def _end_process(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()

    def _publish_agreement(self, frame: Frame, agreement: Agreement) -> None:
        seconds, nanoseconds = divmod(frame.stamp_ns, 10**9)
        array = DiagnosticArray()
        array.header.stamp = Time(sec=seconds, nanosec=nanoseconds)
        array.header.frame_id = frame.frame_id
        values = [
            KeyValue(key=key, value="-" if value is None else f"{value:.6g}") for key, value in vars(agreement).items()
        ]
        array.status = [DiagnosticStatus(level=b"\x00", name=frame.camera, message=self._model_name, values=values)]
        self._publisher.publish(array)


class _Summary(NamedTuple):
    text: str
    values: list[tuple[str, str]]


def _class_maps(agreements: list[Agreement]) -> _Summary | None:
    shares = [a.class_map_agreement for a in agreements if a.class_map_agreement is not None]
    if not shares:
        return None
    values = [
        ("class_map_agreement.p50", f"{np.percentile(shares, 50):.4f}"),
        ("class_map_agreement.p5", f"{np.percentile(shares, 5):.4f}"),
    ]
    return _Summary(f"{np.mean(shares):.1%} of the pixels are equal", values)


def _boxes(agreements: list[Agreement]) -> _Summary | None:
    if all(a.matched_boxes is None for a in agreements):
        return None
    active, shadow, matched = (
        sum(getattr(a, name) or 0 for a in agreements) for name in ("active_boxes", "shadow_boxes", "matched_boxes")
    )
    overlap = sum(a.mean_iou * a.matched_boxes for a in agreements if a.mean_iou is not None and a.matched_boxes)
    values = [
        ("active_boxes", str(active)),
        ("shadow_boxes", str(shadow)),
        ("matched_boxes", str(matched)),
        ("matched_mean_iou", f"{overlap / matched:.4f}" if matched else "-"),
    ]
    return _Summary(f"{matched} of its {shadow} boxes match {active} active ones", values)
