"""RemoteCameras: the cameras of a node whose images are in worker processes. It has the methods of `Cameras`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rclpy.lifecycle import LifecycleNode

from ros_kd_perception.health.status import CameraLink, Level, Status
from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.node_parameters import NodeParameters, ParameterError
from ros_kd_perception.ros.topics.camera_images import CameraImages
from ros_kd_perception.ros.workers.model_memory import frame_memory
from ros_kd_perception.ros.workers.worker_questions import WorkerQuestions
from ros_kd_perception.ros.workers.worker_statuses import worker_statuses
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.remote_frames import SLOTS_OF_A_CAMERA, RemoteFrames
from ros_kd_perception.scheduling.takeover_watch import DEAF_S, TakeoverWatch
from ros_kd_perception.scheduling.worker_link import WorkerLink
from ros_kd_perception.scheduling.worker_pool import WorkerPool, WorkersFailed
from ros_kd_perception.system.frame_memory import FrameMemory, NoFrameMemory
from ros_kd_perception.system.orphaned_memory import segments_of_this_process

_MODULE = "ros.workers.worker_process"
# Topics that libraries choose: those of tf2, and one that rcl makes for every lifecycle node. A worker process uses the
# node's own, for which SROS 2 gives permission.
_REMAPPED = ("/tf", "/tf_static", "~/transition_event")


class RemoteCameras:
    """Serves the cameras of a node from worker processes.

    Attributes:
        frames: The frames that the processes prepare and publish.

    Args:
        node: The node.
        parameters: Parameters of the node.
        contract: Contract of the active model.
        mailbox: Gets a note of each waiting message, and counts what becomes of it.
        processes: Number of processes that serve cameras.
        warn: Logs one sentence.
        cancelled: Polled while the processes start; returns True to give up.

    Raises:
        ParameterError: There is no memory, or the processes do not start, or the parameters do not fit the model.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: NodeParameters,
        contract: ModelContract,
        mailbox: Mailbox[Any],
        processes: int,
        warn: Callable[[str], object],
        cancelled: Callable[[], bool],
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._warn = warn
        self._contract = contract
        self._values = {name: _plain(value) for name, value in parameters.values.items()}
        self._slots = SLOTS_OF_A_CAMERA * len(parameters.cameras)
        transports, reliability = parameters.image_transports, parameters.image_reliability
        self._links = {c: CameraImages(node, c, transports[c], reliability) for c in parameters.cameras}
        self._is_active = False
        self._subscribed: set[str] = set()
        self._questions = WorkerQuestions()
        self._next_memory: FrameMemory | None = None
        self._served: Counter[int] = Counter()  # by number of the group, how many processes were told to serve it
        memory = self._new_memory(contract)
        groups = _groups(parameters.cameras, processes)
        self._group_count = len(groups)
        self.frames = RemoteFrames(mailbox, memory, lambda camera: self._pool.link_of(camera))
        self._takeovers = TakeoverWatch(lambda camera: mailbox.latest_arrival_ns(camera) / 1e9)
        self._pool = WorkerPool(
            _MODULE,
            groups,
            self._greet,
            self._serve,
            self._see,
            self._see_end,
            self._look_after_frames,
            warn,
        )
        try:
            self._pool.start(cancelled)
        except WorkersFailed as error:
            self._pool.stop()
            raise ParameterError(str(error)) from None

    def start(self) -> None:
        """Start to note messages. Then subscribe to each camera."""
        with self._pool.lock:
            self._is_active = True
            self._tell_all("activate")

    def subscribe(self, camera: str) -> None:
        """Subscribe to a camera."""
        self._set_subscribed(camera, wanted=True)

    def unsubscribe(self, camera: str) -> None:
        """Remove the subscription of a camera."""
        self._set_subscribed(camera, wanted=False)

    def close(self) -> None:
        """Note no more messages. The mailbox refuses them from now on."""

    def stop(self) -> None:
        """Remove all subscriptions."""
        with self._pool.lock:
            self._is_active = False
            self._subscribed.clear()
            self._tell_all("deactivate")

    def destroy(self) -> None:
        """End the processes."""
        self._pool.stop()

    def link(self, camera: str) -> CameraLink:
        """Return the publishers on the camera's topic."""
        return self._links[camera].link()

    def change(self, values: Mapping[str, Any]) -> None:
        """Tell all processes new values of parameters."""
        changed = {name: _plain(value) for name, value in values.items()}
        with self._pool.lock:
            self._values.update(changed)
            self._tell_all("change", values=changed)

    def check_model(self, contract: ModelContract) -> str:
        """Return what ends with a model, in words.

        Raises:
            ValueError: An output that was asked for cannot be made from its results, or there is no memory for them.
        """
        # All of them: cameras have outputs of their own, and each process knows those of its cameras only.
        answers = self._questions.ask(self._pool.serving(), "check_model", contract=_contract_text(contract))
        for answer in answers:
            if answer["error"]:
                raise ValueError(answer["error"])
        asked = {camera for answer in answers for camera in answer["cameras"]}
        if missing := [camera for camera in self._parameters.cameras if camera not in asked]:
            raise ValueError(
                f"expected worker processes that say what the model can do for each camera, none does for "
                f"{', '.join(missing)}; call again"
            )
        self._next_memory = self._new_memory(contract)
        return "; ".join(dict.fromkeys(text for answer in answers for text in answer["found"]))

    def change_model(self, contract: ModelContract) -> None:
        """Have all processes switch to another model, and wait until they have prepared their frames for it."""
        memory, self._next_memory = self._next_memory or self._new_memory(contract), None
        with self._pool.lock:
            self._contract = contract
            self.frames.memory = memory
            links = self._pool.links()
        self._questions.ask(
            links, "change_model", memory.descriptor, contract=_contract_text(contract), slots=self._slots
        )

    def statuses(self) -> list[Status]:
        """Return the statuses of the sinks in all processes, and one of the processes."""
        found = worker_statuses(self._pool.links(), self._pool.link_of, self._group_count)
        return [*found, self._processes_status()]

    def _processes_status(self) -> Status:
        facts = self._pool.facts()
        level, message = Level.OK, f"{facts['processes']} worker processes, {facts['standing_by']} standing by"
        if facts["unserved_cameras"]:
            level, message = Level.ERROR, f"no process serves {facts['unserved_cameras']} at the moment"
        elif facts["standing_by"] == "0":
            level, message = Level.WARN, f"{message}: a new one is starting"
        return Status(level, "workers", message, values=tuple(facts.items()))

    def _new_memory(self, contract: ModelContract) -> FrameMemory:
        try:
            return frame_memory(contract, self._slots)
        except NoFrameMemory as error:
            raise ParameterError(str(error)) from None

    def _set_subscribed(self, camera: str, *, wanted: bool) -> None:
        with self._pool.lock:
            if wanted:
                self._subscribed.add(camera)
            else:
                self._subscribed.discard(camera)
            self._tell_all("subscribe", camera=camera, wanted=wanted)

    def _tell_all(self, kind: str, **fields: Any) -> None:
        for link in self._pool.links():
            link.try_send(kind, **fields)

    def _greet(self, link: WorkerLink) -> None:
        node = self._node
        link.try_send(
            "begin",
            self.frames.memory.descriptor,
            node_name=f"_{node.get_name()}_worker_{link.number}",
            namespace=node.get_namespace(),
            domain_id=node.context.get_domain_id(),
            enclave=_enclave(sys.argv),
            use_sim_time=bool(node.get_parameter("use_sim_time").value),
            remappings=_remappings(node),
            values=self._values,
            transports=dict(self._parameters.image_transports),
            reliability=self._parameters.image_reliability,
            contract=_contract_text(self._contract),
            slots=self._slots,
            segments=segments_of_this_process(),
        )

    def _serve(self, link: WorkerLink, group: int, cameras: Sequence[str]) -> None:
        self._takeovers.note_takeover(cameras, time.monotonic())
        subscribed = [camera for camera in cameras if camera in self._subscribed]
        takeovers, self._served[group] = self._served[group], self._served[group] + 1
        link.try_send(
            "serve",
            group=group,
            cameras=list(cameras),
            is_active=self._is_active,
            subscribed=subscribed,
            takeovers=takeovers,
        )

    def _see(self, link: WorkerLink, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "arrived":
            self.frames.see_arrival(message["camera"])
        elif kind == "ready":
            self.frames.see_ready(message)
        elif kind == "published":
            for ticket, handed_ns in message["frames"]:
                self.frames.see_published(ticket, handed_ns)
        elif kind == "dropped":
            self.frames.see_dropped(message)
        elif kind == "resolve":
            link.try_send("resolved", topic=self._node.resolve_topic_name(message["topic"]))
        elif kind == "answer":
            self._questions.see_answer(message)
        elif kind == "log":
            self._warn(message["text"])

    def _see_end(self, link: WorkerLink, cameras: Sequence[str], sentence: str) -> None:
        self._takeovers.note_takeover(cameras, time.monotonic())
        self.frames.see_end(link, cameras, sentence)
        self._questions.see_end(link)

    def _look_after_frames(self) -> None:
        self.frames.give_up_unanswered()
        for camera in self._takeovers.deaf(self._should_be_received, time.monotonic()):
            if (link := self._pool.link_of(camera)) is not None:
                self._warn(
                    f"worker process {link.process_id} has received nothing of {camera} for {DEAF_S:g} s, which the "
                    "process before it received; it is ended, and another one takes over"
                )
                link.end_now()

    def _should_be_received(self, camera: str) -> bool:
        unserved = self._pool.facts()["unserved_cameras"].split()
        return camera in self._subscribed and camera not in unserved and self._links[camera].has_publisher()


def _contract_text(contract: ModelContract) -> str:
    """Return a contract for worker processes, without the parts in free form, which may be too long for a message."""
    return replace(contract, provenance={}, metrics={}, derived={}).to_json()


def _groups(cameras: Sequence[str], processes: int) -> list[Sequence[str]]:
    """Deal the cameras out to at most as many groups as there are processes."""
    count = min(processes, len(cameras))
    return [cameras[first::count] for first in range(count)]


def _plain(value: Any) -> Any:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else value


def _enclave(arguments: Sequence[str]) -> str:
    for option in ("--enclave", "-e"):
        if option in arguments[:-1]:
            return arguments[arguments.index(option) + 1]
    return ""


def _remappings(node: LifecycleNode) -> list[str]:
    found = [(topic, node.resolve_topic_name(topic)) for topic in _REMAPPED]
    rules = [word for topic, resolved in found if topic != resolved for word in ("-r", f"{topic}:={resolved}")]
    return ["--ros-args", *rules] if rules else []
