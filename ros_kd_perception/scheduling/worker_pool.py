"""WorkerPool: the worker processes that take, prepare and publish the frames of groups of cameras.

One process serves each group, and one more stands by: it has started everything except for subscriptions, and takes
over the cameras of a process that ends. A new process is then started for the next time. Without one that stands by,
another process that serves cameras takes over, until a new one has started.
"""

from __future__ import annotations

import select
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ros_kd_perception.scheduling.restart_pace import MANY_ENDS, PAUSE_S, RestartPace
from ros_kd_perception.scheduling.worker_groups import WorkerGroups
from ros_kd_perception.scheduling.worker_link import WorkerLink, end_all
from ros_kd_perception.system.message_channel import ChannelClosed
from ros_kd_perception.system.orphaned_memory import MIN_AGE_S, remove_orphaned_segments, remove_segments
from ros_kd_perception.system.warning_throttle import WarningThrottle

PING_PERIOD_S = 1.0
HANG_S = 4.0
"""A process that answers nothing for so long hangs and is ended."""
_ROUND_S = 0.25
_START_S = 60.0
_TAKE_OVER_S = 1.0
"""Time that a process has for taking over cameras before a new one starts, which needs a core for some seconds."""


class WorkersFailed(RuntimeError):
    """The worker processes cannot serve the cameras. The text is one sentence."""


class WorkerPool:
    """Keeps worker processes running.

    Attributes:
        lock: Hold it to tell all processes something that new ones must know, too.

    Args:
        module: Module below `ros_kd_perception` that they run.
        groups: Cameras of each group. There are as many processes, and one that stands by.
        greet: Sends a new process what it needs before it can serve a group.
        serve: Sends a process all that it needs to serve cameras: group number, cameras.
        on_message: Called with each message that is about frames.
        on_end: Called with a process that has ended, its cameras and a sentence.
        on_round: Called several times a second.
        log: Logs one sentence as a warning.
    """

    def __init__(
        self,
        module: str,
        groups: Sequence[Sequence[str]],
        greet: Callable[[WorkerLink], object],
        serve: Callable[[WorkerLink, int, Sequence[str]], object],
        on_message: Callable[[WorkerLink, dict[str, Any]], object],
        on_end: Callable[[WorkerLink, Sequence[str], str], object],
        on_round: Callable[[], object],
        log: Callable[[str], object],
    ) -> None:
        self._module = module
        self._groups: WorkerGroups[WorkerLink] = WorkerGroups(
            groups, serve, lambda link, number: link.try_send("release", group=number)
        )
        self._greet = greet
        self._on_message, self._on_end, self._on_round, self._log = on_message, on_end, on_round, log
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._links: list[WorkerLink] = []
        self._started = 0
        self._pace = RestartPace()
        self._ended_s = 0.0
        self._throttle = WarningThrottle(log)
        self._failure = ""
        self._is_starting = True
        self._sweep_at_s: float | None = None
        self._looked_s = 0.0
        self._closing = False
        # Not `selectors`: it takes a third of the time of a message to find out whose it is.
        self._epoll, self._link_of_descriptor = select.epoll(), dict[int, WorkerLink]()
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
            while self._groups.unserved:
                if refusal := self._start_refusal(deadline_s, cancelled):
                    raise WorkersFailed(refusal)
                self._changed.wait(0.1)
            self._is_starting = False

    def _start_refusal(self, deadline_s: float, cancelled: Callable[[], bool]) -> str:
        if self._failure:
            return self._failure
        if self._pace.ended >= MANY_ENDS:
            return "expected worker processes that serve the cameras, they end again and again; see the log"
        if cancelled():
            return "cancelled while the worker processes start"
        if time.monotonic() > deadline_s:
            return f"expected worker processes within {_START_S:g} s, they are not ready"
        return ""

    def stop(self) -> None:
        """End all processes."""
        with self.lock:
            self._closing = True
        self._thread.join()

    def link_of(self, camera: str) -> WorkerLink | None:
        """Return the process that has been told to serve a camera, or None. Safe in any thread."""
        return self._groups.link_of(camera)

    def links(self) -> list[WorkerLink]:
        """Return all processes that know the state of the node, so that they need to know its changes."""
        with self.lock:
            return [link for link in self._links if link.is_greeted]

    def serving(self) -> list[WorkerLink]:
        """Return the processes that serve cameras."""
        with self.lock:
            return [link for link in self._links if self._groups.of(link)]

    def facts(self) -> Mapping[str, str]:
        """Return keys and values for diagnostics."""
        with self.lock:
            serving = self.serving()
            return {
                "processes": str(len(serving)),
                "standing_by": str(sum(link.is_up and link not in serving for link in self._links)),
                "process_ids": " ".join(str(link.process_id) for link in self._links),
                "ended": str(self._pace.ended),
                "unserved_cameras": " ".join(self._groups.unserved),
            }

    def _run(self) -> None:
        while not self._closing:
            try:
                self._round()
            except Exception:
                # Without this thread, no process would be served or replaced any more.
                self._log(f"failed to look after the worker processes: {traceback.format_exc()}")
                time.sleep(_ROUND_S)
        with self.lock:
            links, self._links = self._links, []
        self._epoll.close()
        end_all(links)
        for link in links:
            remove_segments(link.segments)

    def _round(self) -> None:
        for descriptor, _ in self._epoll.poll(_ROUND_S):
            if (link := self._link_of_descriptor.get(descriptor)) is not None:
                self._read(link)
        now_s = time.monotonic()
        passed_s = now_s - self._looked_s
        if passed_s >= _ROUND_S:
            self._looked_s = now_s
            self._look_after(now_s, passed_s)

    def _look_after(self, now_s: float, passed_s: float) -> None:
        self._start_missing(now_s)
        # This process may have been stopped, or may have had no core, for a long time. That is not their silence.
        self._end_hung(now_s, min(passed_s, 2 * _ROUND_S))
        with self.lock:
            self._groups.deal(now_s)
        if self._sweep_at_s is not None and now_s > self._sweep_at_s:
            self._sweep_at_s = None
            remove_orphaned_segments()
        self._on_round()

    def _start_missing(self, now_s: float) -> None:
        # First let the process that stands by take over: a process that starts needs a core.
        if self._groups.is_taken_over and now_s - self._ended_s < _TAKE_OVER_S:
            return
        missing = len(self._groups) + 1 - len(self._links)
        if missing and self._pace.must_wait(now_s):
            if self._is_starting:
                return  # `start` gives up
            self._throttle.warn("pause", f"worker processes end again and again; new ones start every {PAUSE_S:g} s")
            return
        for _ in range(missing):
            if self._closing or not self._start_one(now_s):
                return

    def _start_one(self, now_s: float) -> bool:
        self._started += 1
        try:
            link = WorkerLink(self._module, self._started)
        except OSError as error:
            wanted = f"expected to start {len(self._groups) + 1} worker processes"
            self._note_failure(f"{wanted}, got: {error.strerror}; raise the limit or lower preparation_processes")
            self._pace.note_failed_start(now_s)
            return False
        with self.lock:
            self._links.append(link)
        self._link_of_descriptor[link.channel.fileno()] = link
        self._epoll.register(link.channel, select.EPOLLIN)
        return True

    def _read(self, link: WorkerLink) -> None:
        try:
            # One at a time: the kernel tells sooner than another attempt to read whether there is more.
            if link in self._links and (found := link.channel.receive(wait=False)) is not None:
                link.silent_s = 0.0
                try:
                    self._see(link, found[0])
                except Exception:
                    self._log(f"failed to handle a message of a worker process: {traceback.format_exc()}")
        except ChannelClosed:
            self._see_end(link, link.exit_status_in_words())

    def _see(self, link: WorkerLink, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if "frames" in message and kind != "published":
            self._on_message(link, {"kind": "published", "frames": message["frames"]})
        if kind in ("connected", "up", "serving", "released"):
            with self.lock:
                self._see_state(link, kind, message)
                self._groups.deal(time.monotonic())
                self._changed.notify_all()
        elif kind == "statuses":
            link.statuses = message["statuses"]
        elif kind == "refused":
            self._note_failure(message["sentence"])
            if not self._is_starting:
                link.end_now()  # another process tries it
        else:
            self._on_message(link, message)

    def _see_state(self, link: WorkerLink, kind: str, message: dict[str, Any]) -> None:
        if kind == "connected":
            self._greet(link)
            link.is_greeted = True
        elif kind == "up":
            link.segments, link.is_up, link.up_s = message["segments"], True, time.monotonic()
            self._groups.add(link)
        elif kind == "serving":
            self._groups.serving(link, message["group"])
        else:
            self._groups.released(link, message["group"], time.monotonic())

    def _note_failure(self, sentence: str) -> None:
        if not self._is_starting:
            self._log(sentence)
        with self.lock:
            self._failure = sentence
            self._changed.notify_all()

    def _see_end(self, link: WorkerLink, how: str) -> None:
        now_s = time.monotonic()
        # The kernel has forgotten its connection, which is closed.
        self._link_of_descriptor = {number: one for number, one in self._link_of_descriptor.items() if one is not link}
        remove_segments(link.segments)
        if link.is_greeted and not link.is_up:
            self._sweep_at_s = now_s + MIN_AGE_S + 1.0  # its segments are not known
        with self.lock:
            self._links.remove(link)
            cameras = self._groups.remove(link, now_s)
            self._pace.note_end(now_s, now_s - link.up_s if link.is_up else 0.0)
            self._ended_s = now_s
        sentence = f"worker process {link.process_id} {how}"
        served = f"its cameras {', '.join(cameras)} go to another one" if cameras else "it served no camera"
        self._log(f"{sentence}; {served}")
        self._on_end(link, cameras, sentence)
        with self.lock:
            self._groups.deal(now_s)

    def _end_hung(self, now_s: float, passed_s: float) -> None:
        for link in list(self._links):
            link.silent_s += passed_s
            limit_s = HANG_S if link.is_up else _START_S
            if link.silent_s > limit_s:
                self._see_end(link, f"hung for {limit_s:g} s and {link.kill()}")
            elif link.is_up and now_s - link.pinged_s >= PING_PERIOD_S:
                link.pinged_s = now_s
                link.try_send("ping")
