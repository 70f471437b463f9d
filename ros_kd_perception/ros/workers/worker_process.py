"""A worker process: reads what the node's process asks for, one message after the other. Started by the node."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.workers.camera_group import CameraGroup, GroupSetup
from ros_kd_perception.ros.workers.model_memory import received_frame_memory
from ros_kd_perception.ros.workers.owner_channel import Message, OwnerChannel
from ros_kd_perception.system.frame_memory import FrameMemory, NoFrameMemory
from ros_kd_perception.system.message_channel import ChannelClosed, MessageChannel
from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY, remove_segments, segments_of_this_process
from ros_kd_perception.system.priority import be_first_when_memory_runs_out
from ros_kd_perception.system.threads import set_up_threads
from ros_kd_perception.system.warning_throttle import WarningThrottle

_END_S = 10.0
"""How long the process may take to end after a signal."""
_PAUSE_S = 0.01
_FIRST = ("publish", "discard")
_FRAME_KINDS = (*_FIRST, "prepare")


class WorkerProcess:
    """Serves groups of cameras until the node's process says stop or ends.

    Args:
        channel: The connection to the node's process. Its first message says who this process is.
    """

    def __init__(self, channel: OwnerChannel) -> None:
        self._channel = channel
        self._waiting: deque[Message] = deque()
        self._throttle = WarningThrottle(lambda text: self._channel.send("log", text=text))
        self._stopped = False
        channel.send("connected")
        begin, descriptor = channel.receive()
        if begin["kind"] == "stop":
            raise ChannelClosed("the node's process ends")
        self._begin = begin
        self._parent = os.getppid()
        self._values: dict[str, Any] = begin["values"]
        self._contract = ModelContract.from_json(begin["contract"])
        self._memory: FrameMemory = received_frame_memory(self._contract, begin["slots"], descriptor)
        self._groups: dict[int, CameraGroup] = {}
        self._context = Context()
        arguments = ["--ros-args", "--enclave", begin["enclave"]] if begin["enclave"] else []
        self._context.init(args=arguments, domain_id=begin["domain_id"])
        self._node = LifecycleNode(
            begin["node_name"],
            namespace=begin["namespace"],
            context=self._context,
            cli_args=begin["remappings"],
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[
                Parameter("use_sim_time", value=begin["use_sim_time"]),
                Parameter("start_type_description_service", value=False),
            ],
            enable_communication_interface=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._spinning = threading.Thread(target=self._spin, name="executor", daemon=True)

    def run(self) -> None:
        """Serve until the node's process says stop or ends, then leave the graph."""
        self._spinning.start()
        segments = segments_of_this_process()
        if self._begin["segments"] and not segments:
            self._channel.send(
                "log",
                text=f"expected shared memory of the middleware for worker process {os.getpid()}, got none: "
                f"{SHARED_MEMORY} is full; its large images may be lost; free some of it (start a container with "
                "--shm-size=512m) and start the node again",
            )
        self._channel.send("up", segments=segments)
        try:
            while not self._stopped:
                for message in self._next_messages():
                    self._do(*message)
            owner_ended = False
        except ChannelClosed:
            owner_ended = True
        for group in self._groups.values():
            group.destroy()
        self._stopped = True
        self._executor.shutdown(timeout_sec=1.0)
        self._spinning.join(1.0)
        self._node.destroy_node()
        self._context.try_shutdown()
        if owner_ended:
            self._remove_memory_of_killed_node()

    def _remove_memory_of_killed_node(self) -> None:
        """Remove the shared memory of the node's process, once that process has let go of it."""
        give_up_s = time.monotonic() + _END_S / 2
        while os.getppid() == self._parent and time.monotonic() < give_up_s:
            time.sleep(_PAUSE_S)
        remove_segments(self._begin["segments"])

    def _next_messages(self) -> list[Message]:
        """Wait for messages. Results come first: they are older than frames that are still to be prepared."""
        messages = [*self._waiting]
        self._waiting.clear()
        if not messages:
            messages.append(self._channel.receive())
        while (found := self._channel.receive_waiting()) is not None:
            messages.append(found)
        if all(message["kind"] in _FRAME_KINDS for message, _ in messages):
            messages.sort(key=lambda found: found[0]["kind"] not in _FIRST)
        return messages

    def _do(self, message: dict[str, Any], descriptor: int | None) -> None:
        kind = message.pop("kind")
        if kind == "prepare":
            group = self._group_of(message["camera"])
            if group is None:
                self._channel.send(
                    "dropped", **message, reason="worker_lost", sentence="another process serves the camera now"
                )
            else:
                group.prepare(**message)
        elif kind in _FIRST:
            self._finish(kind, message)
        else:
            getattr(self, f"_{kind}")(message, descriptor)

    def _finish(self, kind: str, message: dict[str, Any]) -> None:
        for group in self._groups.values():
            if group.holds(message["ticket"]):
                getattr(group, kind)(**message)
                return
        if kind == "publish":
            sentence = "another process serves the camera now"
            self._channel.send("dropped", ticket=message["ticket"], reason="worker_lost", sentence=sentence)

    def _serve(self, message: dict[str, Any], descriptor: int | None) -> None:
        number, cameras = message["group"], message["cameras"]
        setup = GroupSetup(
            self._values,
            self._begin["transports"],
            self._begin["reliability"],
            self._contract,
            self._memory,
            self._channel.send,
            lambda text: self._channel.send("log", text=text),
            self._resolve,
            message["takeovers"],
        )
        try:
            self._groups[number] = group = CameraGroup(self._node, cameras, setup)
        except (ValueError, ImportError) as error:
            self._channel.send("refused", sentence=str(error))
            return
        if message["is_active"]:
            group.start()
            for camera in message["subscribed"]:
                group.subscribe(camera, wanted=True)
        self._channel.send("serving", group=number)

    def _release(self, message: dict[str, Any], descriptor: int | None) -> None:
        if (group := self._groups.pop(message["group"], None)) is not None:
            group.destroy()
        self._channel.send("released", group=message["group"])

    def _activate(self, message: dict[str, Any], descriptor: int | None) -> None:
        for group in self._groups.values():
            group.start()

    def _deactivate(self, message: dict[str, Any], descriptor: int | None) -> None:
        for group in self._groups.values():
            group.stop()

    def _subscribe(self, message: dict[str, Any], descriptor: int | None) -> None:
        if (group := self._group_of(message["camera"])) is not None:
            group.subscribe(message["camera"], wanted=message["wanted"])

    def _change(self, message: dict[str, Any], descriptor: int | None) -> None:
        self._values = {**self._values, **message["values"]}
        for group in self._groups.values():
            group.change(self._values, message["values"])

    def _change_model(self, message: dict[str, Any], descriptor: int | None) -> None:
        contract = ModelContract.from_json(message["contract"])
        try:
            self._memory = received_frame_memory(contract, message["slots"], descriptor)
        except NoFrameMemory as error:
            self._channel.send("refused", sentence=f"a worker process cannot switch to another model: {error}")
            return
        self._contract = contract
        for group in self._groups.values():
            group.change_model(self._contract, self._memory)
        self._channel.send("answer", number=message["number"], error="", found=[])

    def _check_model(self, message: dict[str, Any], descriptor: int | None) -> None:
        contract, error, found = ModelContract.from_json(message["contract"]), "", []
        try:
            found = [text for group in self._groups.values() for text in group.check_model(contract)]
        except ValueError as refusal:
            error = str(refusal)
        cameras = [camera for group in self._groups.values() for camera in group.cameras]
        self._channel.send("answer", number=message["number"], error=error, found=found, cameras=cameras)

    def _ping(self, message: dict[str, Any], descriptor: int | None) -> None:
        statuses = [status for group in self._groups.values() for status in group.statuses()]
        self._channel.send("statuses", statuses=statuses)

    def _stop(self, message: dict[str, Any], descriptor: int | None) -> None:
        self._stopped = True

    def _resolve(self, topic: str) -> str:
        """Ask the node's process, whose name and remappings count. Other messages wait meanwhile."""
        self._channel.send("resolve", topic=topic)
        while True:
            found = self._channel.receive()
            if found[0]["kind"] == "resolved":
                return str(found[0]["topic"])
            self._waiting.append(found)

    def _group_of(self, camera: str) -> CameraGroup | None:
        return next((group for group in self._groups.values() if camera in group.cameras), None)

    def _spin(self) -> None:
        while not self._stopped and self._context.ok():
            try:
                self._executor.spin()
            except ExternalShutdownException:
                return
            except Exception as error:
                if self._stopped or not self._context.ok():
                    return
                self._throttle.warn(type(error).__name__, f"a callback failed: {error!r}")
                time.sleep(_PAUSE_S)


def end_soon_after_signal() -> None:
    """Wait for the node's process after a signal, but not for ever: this process may hang in the middleware."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        os.read(reading, 1)
        threading.Event().wait(_END_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="end", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker process. The node's process starts it with the number of a socket."""
    end_soon_after_signal()
    set_up_threads()
    be_first_when_memory_runs_out()
    descriptor = int((sys.argv[1:] if arguments is None else arguments)[0])
    channel = OwnerChannel(MessageChannel(socket.socket(fileno=descriptor)))
    try:
        process = WorkerProcess(channel)
    except ChannelClosed:
        return 0
    except Exception as error:
        sentence = " ".join(str(error).split()) or type(error).__name__
        channel.send("refused", sentence=f"a worker process cannot start: {sentence}")
        return 1
    process.run()
    # The kernel sends the signal for each thread of a killed node. Its last one must not kill this process while the
    # interpreter ends, because its shared memory would stay behind.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
