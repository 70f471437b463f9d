"""WorkerPool: the worker processes that take, prepare and publish the frames of groups of cameras.

One process serves each group, and one more stands by: it has started everything except for subscriptions, and takes
over the cameras of a process that ends. A new process is then started for the next time. Without one that stands by,
another process that serves cameras takes over, until a new one has started.
"""

from __future__ import annotations

import selectors
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ros_kd_perception.scheduling.worker_link import WorkerLink, end_all
from ros_kd_perception.system.message_channel import ChannelClosed
from ros_kd_perception.system.orphaned_memory import remove_segments

PING_PERIOD_S = 1.0
HANG_S = 4.0
"""A process that answers nothing for so long hangs and is ended."""
_START_S = 60.0
_MANY_ENDS, _MANY_ENDS_S, _PAUSE_S = 5, 30.0, 5.0


class WorkersFailed(RuntimeError):
    """The worker processes cannot serve the cameras. The text is one sentence."""


@dataclass
class _Group:
    """Cameras that are served by one process."""

    cameras: tuple[str, ...]
    link: WorkerLink | None = None
    is_served: bool = False
    refusal: str = ""
    moves_to: WorkerLink | None = None


class WorkerPool:
    """Keeps worker processes running.

    Args:
        module: Module below `ros_kd_perception` that they run.
        groups: Cameras of each group. There are as many processes, and one that stands by.
        greet: Sends a new process what it needs before it can serve a group.
        serve: Sends a process all that it needs to serve cameras: group number, cameras.
        on_message: Called with each message that is about frames.
        on_end: Called with a process that has ended, its cameras and a sentence.
        log: Logs one sentence as a warning.
    """

    def __init__(
        self,
        module: str,
        groups: Sequence[Sequence[str]],
        greet: Callable[[WorkerLink], None],
        serve: Callable[[WorkerLink, int, Sequence[str]], None],
        on_message: Callable[[WorkerLink, dict[str, Any]], None],
        on_end: Callable[[WorkerLink, Sequence[str], str], None],
        log: Callable[[str], object],
    ) -> None:
        self._module = module
        self._groups = [_Group(tuple(cameras)) for cameras in groups]
        self._greet, self._serve = greet, serve
        self._on_message, self._on_end, self._log = on_message, on_end, log
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._links: list[WorkerLink] = []
        self._started = 0
        self._ends: deque[float] = deque(maxlen=_MANY_ENDS)
        self._ended = 0
        self._closing = False
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="workers", daemon=True)

    def start(self, cancelled: Callable[[], bool]) -> None:
        """Start the processes and wait until each group is served.

        Args:
            cancelled: Polled while waiting; returns True to give up.

        Raises:
            WorkersFailed: A process refuses, ends again and again, or is not ready within a minute.
        """
        self._thread.start()
        deadline_s = time.monotonic() + _START_S
        with self.lock:
            while not all(group.is_served for group in self._groups):
                refusal = next((group.refusal for group in self._groups if group.refusal), "")
                if not refusal and self._ended >= _MANY_ENDS:
                    refusal = "expected worker processes that serve the cameras, they end again and again; see the log"
                if not refusal and cancelled():
                    refusal = "cancelled while the worker processes start"
                if not refusal and time.monotonic() > deadline_s:
                    refusal = f"expected worker processes within {_START_S:g} s, they are not ready"
                if refusal:
                    raise WorkersFailed(refusal)
                self._changed.wait(0.1)

    def stop(self) -> None:
        """End all processes."""
        with self.lock:
            self._closing = True
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread that supervises the processes runs."""
        return self._thread.is_alive()

    def link_of(self, camera: str) -> WorkerLink | None:
        """Return the process that serves a camera now, or None."""
        for group in self._groups:
            if camera in group.cameras:
                return group.link if group.is_served else None
        raise KeyError(camera)

    def group_of(self, camera: str) -> int:
        """Return the number of the group of a camera."""
        return next(number for number, group in enumerate(self._groups) if camera in group.cameras)

    def links(self) -> list[WorkerLink]:
        """Return all processes that know the state of the node, so that they need to know its changes."""
        with self.lock:
            return [link for link in self._links if link.is_greeted]

    def facts(self) -> Mapping[str, str]:
        """Return keys and values for diagnostics."""
        with self.lock:
            serving = [link for link in self._links if link.groups]
            waiting = [link for link in self._links if not link.groups and link.is_up]
            return {
                "processes": str(len(serving)),
                "standing_by": str(len(waiting)),
                "process_ids": " ".join(str(link.process_id) for link in self._links),
                "ended": str(self._ended),
                "unserved_cameras": " ".join(c for group in self._groups if not group.is_served for c in group.cameras),
            }

    def _run(self) -> None:
        while not self._closing:
            self._start_missing()
            for key, _ in self._selector.select(PING_PERIOD_S / 4):
                if key.data in self._links:
                    self._read(key.data)
            self._ping()
        with self.lock:
            links, self._links = self._links, []
        for link in links:
            self._selector.unregister(link.channel)
        end_all(links)
        self._selector.close()

    def _start_missing(self) -> None:
        now_s = time.monotonic()
        if len(self._ends) == _MANY_ENDS and now_s - self._ends[0] < _MANY_ENDS_S and now_s - self._ends[-1] < _PAUSE_S:
            return
        while len(self._links) < len(self._groups) + 1 and not self._closing:
            self._started += 1
            try:
                link = WorkerLink(self._module, self._started)
            except OSError as error:
                self._log(f"expected to start a worker process, got: {error}; it is tried again in {_PAUSE_S:g} s")
                self._note_end()
                self._ends.extend([now_s] * _MANY_ENDS)
                return
            with self.lock:
                self._links.append(link)
            self._selector.register(link.channel, selectors.EVENT_READ, link)

    def _read(self, link: WorkerLink) -> None:
        try:
            # One at a time: the selector tells sooner than another attempt to read whether there is more.
            if (found := link.channel.receive(wait=False)) is not None:
                link.heard_s = time.monotonic()
                try:
                    self._see(link, found[0])
                except Exception:
                    # Without this thread, no process would be served or replaced any more.
                    self._log(f"failed to handle a message of a worker process: {traceback.format_exc()}")
        except ChannelClosed:
            self._see_end(link, link.exit_status_in_words())

    def _see(self, link: WorkerLink, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "connected":
            with self.lock:
                self._greet(link)
                link.is_greeted = True
        elif kind == "up":
            link.segments = message["segments"]
            with self.lock:
                link.is_up = True
                self._assign(link)
        elif kind == "serving":
            with self.lock:
                self._groups[message["group"]].is_served = True
                self._changed.notify_all()
        elif kind == "refused":
            with self.lock:
                self._groups[message["group"]].refusal = message["sentence"]
                self._changed.notify_all()
        elif kind == "released":
            with self.lock:
                self._finish_move(message["group"])
        elif kind == "statuses":
            link.statuses = message["statuses"]
        else:
            self._on_message(link, message)

    def _assign(self, new: WorkerLink) -> None:
        """Give a process that has just started the groups without one, or one group of a process that has two."""
        unserved = [number for number, group in enumerate(self._groups) if group.link is None]
        for number in unserved[: 1 if len(self._links) > 1 else None]:
            self._give(number, new)
        crowded = next((link for link in self._links if len(link.groups) > 1), None)
        if not unserved and crowded is not None:
            number = crowded.groups[-1]
            self._groups[number].moves_to = new
            new.groups.append(number)
            crowded.groups.remove(number)
            crowded.try_send("release", group=number)

    def _finish_move(self, number: int) -> None:
        group = self._groups[number]
        link, group.moves_to = group.moves_to, None
        group.link, group.is_served = None, False
        if link is not None and link in self._links:
            link.groups.remove(number)
            self._give(number, link)

    def _give(self, number: int, link: WorkerLink) -> None:
        group = self._groups[number]
        group.link, group.is_served = link, False
        link.groups.append(number)
        try:
            self._serve(link, number, group.cameras)
        except ChannelClosed:
            pass  # `_read` sees that it has ended

    def _see_end(self, link: WorkerLink, how: str) -> None:
        self._selector.unregister(link.channel)
        remove_segments(link.segments)
        with self.lock:
            self._links.remove(link)
            lost = [number for number, group in enumerate(self._groups) if group.link is link]
            cameras = [camera for number in lost for camera in self._groups[number].cameras]
            for number in lost:
                self._groups[number].link, self._groups[number].is_served = None, False
            self._note_end()
        sentence = f"worker process {link.process_id} has {how}"
        self._log(f"{sentence}; {f'others take over {chr(44).join(cameras)}' if cameras else 'it was standing by'}")
        self._on_end(link, cameras, sentence)
        with self.lock:
            for number in lost:
                self._take_over(number)
            for group_number, group in enumerate(self._groups):
                if group.moves_to is link:
                    group.moves_to = None
                if group.link is None and group_number not in lost:
                    self._take_over(group_number)

    def _take_over(self, number: int) -> None:
        # The process that stands by has no groups, so it comes first.
        links = sorted((link for link in self._links if link.is_up), key=lambda link: len(link.groups))
        if links:
            self._give(number, links[0])

    def _note_end(self) -> None:
        self._ends.append(time.monotonic())
        self._ended += 1

    def _ping(self) -> None:
        now_s = time.monotonic()
        for link in list(self._links):
            limit_s = HANG_S if link.is_up else _START_S
            if now_s - link.heard_s > limit_s:
                self._see_end(link, f"hung for {limit_s:g} s and was {link.kill()}")
            elif link.is_up and now_s - link.pinged_s >= PING_PERIOD_S:
                link.pinged_s = now_s
                link.try_send("ping")
