"""CameraGroup: some cameras in a worker process, from subscriptions to sinks. Only the network runs elsewhere."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from rclpy.lifecycle import LifecycleNode

from ros_kd_perception.messages.builder import MessageBuilder
from ros_kd_perception.messages.class_ids import uses_names
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.network_outputs import FIELD_OF_OUTPUT, NetworkOutputs
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.parameters.camera_settings import CameraSettings
from ros_kd_perception.perceiver import DivergedOutput, Perceiver, PreparedFrame
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.ros.running_model import apply_settings
from ros_kd_perception.ros.topics.camera_images import CameraImages, relative_topic
from ros_kd_perception.ros.topics.cameras import Cameras
from ros_kd_perception.ros.topics.sinks import make_sinks
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.scheduling.mailbox import QueuedMessage
from ros_kd_perception.scheduling.preparation import LocalPreparation, ReadyFrame
from ros_kd_perception.scheduling.result_sink import FrameResult, publish_beside
from ros_kd_perception.structures import Frame, UInt8Array
from ros_kd_perception.system.frame_memory import FrameMemory
from ros_kd_perception.system.warning_throttle import WarningThrottle

_STOP_TIMEOUT_S = 3.0
_DIGEST_BYTES = 16


class _ElsewhereModel(NamedTuple):
    """A model that runs in another process."""

    contract: ModelContract
    max_batch: int = 1


@dataclass(frozen=True)
class GroupSetup:
    """What the node's process gives to every group.

    Attributes:
        values: All parameters of the node by full name.
        transports: `raw` or `compressed`, by camera.
        reliability: Reliability of the camera subscriptions.
        contract: Contract of the active model.
        memory: The shared frames of the active model.
        send: Sends a message to the node's process.
        warn: Logs one sentence as a warning.
        resolve: Returns the full name of a topic of the perception node.
        takeovers: How many processes served these cameras before.
    """

    values: Mapping[str, Any]
    transports: Mapping[str, str]
    reliability: str
    contract: ModelContract
    memory: FrameMemory
    send: Callable[..., None]
    warn: Callable[[str], object]
    resolve: Callable[[str], str]
    takeovers: int = 0


class CameraGroup:
    """Takes, prepares and publishes the frames of some cameras, as the node's process asks.

    Use it from one thread.

    Args:
        node: The node of the worker process.
        cameras: Names of the cameras.
        setup: What the node's process gives to every group.

    Raises:
        ValueError: The parameters do not fit the model.
        ImportError: A package is missing.
    """

    def __init__(self, node: LifecycleNode, cameras: Sequence[str], setup: GroupSetup) -> None:
        self.cameras = tuple(cameras)
        self._setup = setup
        self._throttle = WarningThrottle(setup.warn)
        self._builder, self._perceiver = self._new_perceiver()
        context = SinkContext(
            node,
            self.cameras,
            setup.values,
            setup.contract,
            self._builder,
            setup.warn,
            setup.resolve,
            is_active=True,
            takeovers=setup.takeovers,
        )
        self._sinks = make_sinks(context)
        images = {
            camera: CameraImages(
                node,
                camera,
                transport := setup.transports[camera],
                setup.reliability,
                setup.resolve(relative_topic(camera, transport)),
            )
            for camera in self.cameras
        }
        self._images, self._image_of = Cameras(node, [*images.values()], self._tell_arrival, self._note_missed), images
        self._preparation = LocalPreparation(self, self._make_input, self._note_drop, self._images.collect)
        self._held: dict[int, tuple[ReadyFrame, int]] = {}
        self._slot, self._max_age_ms = 0, 0.0
        self._missed: dict[str, Any] = {}
        self._drop_reason, self._drop_sentence = "", ""

    def start(self) -> None:
        """Start the threads of the sinks, and to note messages of the cameras that are subscribed to."""
        for sink in self._sinks:
            sink.start()
        self._images.start()

    def subscribe(self, camera: str, *, wanted: bool) -> None:
        """Subscribe to a camera, or remove its subscription."""
        if wanted:
            self._images.subscribe(camera)
        else:
            self._images.unsubscribe(camera)

    def stop(self) -> None:
        """Remove the subscriptions and end the threads."""
        self._images.stop()
        for sink in self._sinks:
            sink.stop(_STOP_TIMEOUT_S)

    def destroy(self) -> None:
        """Stop, and remove every topic from the graph."""
        self.stop()
        for sink in self._sinks:
            sink.destroy()

    def change(self, values: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        """Apply new values of parameters.

        Args:
            values: All parameters, with the new values.
            changed: The new values alone.
        """
        self._setup = replace(self._setup, values=values)
        self._apply_settings(self._perceiver)
        for sink in self._sinks:
            sink.change(changed)

    def change_model(self, contract: ModelContract, memory: FrameMemory) -> None:
        """Switch to another model. Frames that are ready are prepared again for it."""
        self._setup = replace(self._setup, contract=contract, memory=memory)
        self._builder, self._perceiver = self._new_perceiver()
        for sink in self._sinks:
            sink.change_model(contract, self._builder)
        for ticket, (ready, slot) in list(self._held.items()):
            frame, region = ready.prepared.frame, ready.prepared.geometry.region
            prepared = self._perceiver.prepare(frame, memory.network_input(slot), region)
            self._held[ticket] = (replace(ready, prepared=prepared), slot)

    def check_model(self, contract: ModelContract) -> list[str]:
        """Return what of the outputs ends with a model, in words.

        Raises:
            ValueError: An output that was asked for cannot be made.
        """
        return [text for sink in self._sinks if (text := sink.check_model(contract))]

    def statuses(self) -> list[dict[str, Any]]:
        """Return the diagnostics of the sinks."""
        found = [status for sink in self._sinks for status in sink.statuses()]
        return [{**vars(status), "level": int(status.level), "cameras": self.cameras} for status in found]

    def prepare(self, camera: str, ticket: int, slot: int, max_age_ms: float) -> None:
        """Take the newest message of a camera, and make the network input in a slot of the shared memory."""
        self._slot, self._max_age_ms, self._missed = slot, max_age_ms, {}
        self._drop_reason, self._drop_sentence = "", ""
        ready = self._preparation.prepare(QueuedMessage(camera, self._image_of[camera], 0))
        if ready is None:
            self._tell_dropped(camera, ticket, self._drop_reason, self._drop_sentence)
            return
        self._held[ticket] = (ready, slot)
        frame = ready.prepared.frame
        self._setup.send(
            "ready",
            camera=camera,
            ticket=ticket,
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            height=frame.height,
            width=frame.width,
            sample=hashlib.blake2b(ready.sample, digest_size=_DIGEST_BYTES).hexdigest(),
            preparation_ms=ready.preparation_ms,
            **{"arrival_ns": ready.queued.arrival_ns, **self._missed},
        )

    def discard(self, ticket: int) -> None:
        """Forget a frame."""
        self._held.pop(ticket, None)

    def publish(self, ticket: int, inference_ms: float, started_ns: int, stamp_age_ms: float | None) -> None:
        """Publish the results of a frame, whose network outputs are in its slot."""
        if ticket not in self._held:
            return
        ready, slot = self._held.pop(ticket)
        camera, (first, *others) = ready.prepared.frame.camera, self._sinks
        try:
            perception = self._perceiver.restore(ready.prepared, self._outputs(slot), inference_ms)
            result = FrameResult(ready, perception, stamp_age_ms, started_ns)
            first.publish(result)
        except DivergedOutput as error:
            self._tell_dropped(camera, ticket, "failed", str(error))
        except Exception:
            self._tell_dropped(camera, ticket, "failed", traceback.format_exc())
        else:
            self._setup.send("published", ticket=ticket, handed_ns=result.handed_ns)
            publish_beside(others, result, self._throttle.warn)

    def holds(self, ticket: int) -> bool:
        """Return whether a frame of this group has the ticket."""
        return ticket in self._held

    def dropped(self, camera: str, reason: str) -> None:
        """Note why the frame in preparation is dropped."""
        self._drop_reason, self._drop_sentence = reason, ""

    def is_too_old(self, queued: QueuedMessage[Any], now_ns: int) -> bool:
        """Return whether a message is older than the limit of the node."""
        return self._max_age_ms > 0 and now_ns - queued.arrival_ns > self._max_age_ms * 1e6

    def drop_too_old(self, queued: QueuedMessage[Any]) -> None:
        """Note that the frame in preparation is too old."""
        self.dropped(queued.camera, "too_old")

    def _note_drop(self, camera: str, reason: str, sentence: str) -> None:
        self._drop_reason, self._drop_sentence = reason, sentence

    def _note_missed(self, camera: str, count: int, reason: str, arrival_ns: int) -> None:
        self._missed = {"missed": count, "missed_reason": reason, "arrival_ns": arrival_ns}

    def _tell_arrival(self, camera: str, images: CameraImages) -> bool:
        self._setup.send("arrived", camera=camera)
        return False

    def _tell_dropped(self, camera: str, ticket: int, reason: str, sentence: str) -> None:
        self._setup.send(
            "dropped", camera=camera, ticket=ticket, reason=reason, sentence=sentence, **(self._missed or {})
        )
        self._missed = {}

    def _make_input(self, frame: Frame, out: UInt8Array | None) -> PreparedFrame:
        return self._perceiver.prepare(frame, self._setup.memory.network_input(self._slot))

    def _outputs(self, slot: int) -> NetworkOutputs:
        outputs = {FIELD_OF_OUTPUT[name]: values for name, values in self._setup.memory.outputs(slot).items()}
        if "uncertainty" in outputs:
            outputs["uncertainty"] = outputs["uncertainty"].copy()  # kept as it is, while the slot is used again
        return NetworkOutputs(**outputs)

    def _new_perceiver(self) -> tuple[MessageBuilder, Perceiver]:
        contract, with_names = self._setup.contract, uses_names(self._setup.values)
        builder = MessageBuilder(rclpy_message_types(), contract, reuse_parts=True, with_names=with_names)
        perceiver = Perceiver(
            cast(OnnxModel, _ElsewhereModel(contract)), new_class_map=builder.serialized.new_class_map
        )
        self._apply_settings(perceiver)
        return builder, perceiver

    def _apply_settings(self, perceiver: Perceiver) -> None:
        values = self._setup.values
        settings = {camera: CameraSettings().updated(camera, values) for camera in self.cameras}
        apply_settings(perceiver, values["score_threshold"], settings)
