"""Frames of worker processes: each one ends in exactly one count, whatever the processes do and in whatever order."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ros_kd_perception.scheduling import remote_frames
from ros_kd_perception.scheduling.mailbox import Mailbox
from ros_kd_perception.scheduling.preparation import ReadyFrame
from ros_kd_perception.scheduling.remote_frames import SLOTS_OF_A_CAMERA, RemoteFrames
from ros_kd_perception.scheduling.remote_network import RanFrame
from ros_kd_perception.system.message_channel import ChannelClosed

CAMERAS = ("front", "left", "rear")
SLOTS = SLOTS_OF_A_CAMERA * len(CAMERAS)


class Process:
    """A worker process that has read nothing yet. The test takes the place of its code."""

    def __init__(self) -> None:
        self.unread: list[dict[str, Any]] = []
        self.held: set[int] = set()
        self.has_ended = False

    def send(self, kind: str, **fields: Any) -> None:
        if self.has_ended:
            raise ChannelClosed(f"cannot send {kind}")
        self.unread.append({"kind": kind, **fields})


class Node:
    """The mailbox, and the thread that runs the network, as far as `RemoteFrames` deals with them."""

    def __init__(self) -> None:
        self.mailbox: Mailbox[Any] = Mailbox(CAMERAS, renewed=True)
        self.mailbox.open()
        self.processes = {camera: Process() for camera in CAMERAS}
        memory: Any = SimpleNamespace(slots=SLOTS)
        self.frames = RemoteFrames(self.mailbox, memory, self._sender_of)
        self.frames.drop = lambda camera, reason, sentence: self.mailbox.dropped(camera, reason)
        self.frames.published = lambda camera, handed_ns, times: self.mailbox.published(camera)
        self.held: set[str] = set()  # as in FramePreparer
        self.ready: list[ReadyFrame] = []
        self.running: list[ReadyFrame] = []

    def ask(self) -> None:
        queued = self.mailbox.take_next(self.held)
        if queued is not None:
            self.held.add(queued.camera)
            self.frames.begin(queued, lambda ready: self._take(queued.camera, ready))

    def run_network(self, *, publish: bool) -> None:
        ready = self.ready.pop(0)
        self.held.discard(ready.queued.camera)
        self.running = [ready]
        if publish:
            self.publish()
        else:
            self.mailbox.dropped(ready.queued.camera, "stale")
            self.finish_run()

    def publish(self) -> None:
        ran = RanFrame(self.running[0].prepared.ticket, 1.0)
        result: Any = SimpleNamespace(perception=ran, started_ns=0, stamp_age_ms=None, times_at=lambda _: None)
        self.frames.publish(result)
        self.finish_run()

    def finish_run(self) -> None:
        for ready in self.running:
            self.frames.give_back(ready)
        self.running = []

    def read(self, camera: str, outcome: str = "well") -> None:
        """Do in a process what it does with its next message."""
        process = self.processes[camera]
        message = process.unread.pop(0)
        ticket = message["ticket"]
        if message["kind"] == "discard":
            process.held.discard(ticket)
        elif message["kind"] == "prepare" and outcome == "well":
            process.held.add(ticket)
            facts = {"stamp_ns": 1, "frame_id": "optical", "height": 4, "width": 4, "sample": "00"}
            missed = {"missed": 1, "missed_reason": "replaced", "arrival_ns": time.monotonic_ns()}
            self.frames.see_ready({"camera": camera, "ticket": ticket, "preparation_ms": 1.0, **facts, **missed})
        elif message["kind"] == "prepare":
            sentence = "" if outcome == "lost" else "bad"
            self.frames.see_dropped({"camera": camera, "ticket": ticket, "reason": outcome, "sentence": sentence})
        elif ticket in process.held and outcome == "well":
            process.held.discard(ticket)
            self.frames.see_published(ticket, 1)
        else:
            process.held.discard(ticket)
            self.frames.see_dropped({"ticket": ticket, "reason": "failed", "sentence": "bad"})

    def end(self, camera: str) -> None:
        process = self.processes[camera]
        process.has_ended = True
        self.frames.see_end(process, [camera], "its process has ended")
        self.processes[camera] = Process()

    def give_up(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remote_frames, "ANSWER_S", -1.0)
            self.frames.give_up_unanswered()

    def counts(self, camera: str = "front") -> dict[str, int]:
        counts = self.mailbox.counts()[camera]
        return {"published": counts.published, **counts.dropped}

    @property
    def free_slots(self) -> int:
        return len(self.frames._free)

    def _sender_of(self, camera: str) -> Process | None:
        return None if self.processes[camera].has_ended else self.processes[camera]

    def _take(self, camera: str, ready: ReadyFrame | None) -> None:
        assert camera in self.held, "a frame is done twice"
        if ready is None:
            self.held.discard(camera)
        else:
            self.ready.append(ready)


@pytest.fixture
def node() -> Node:
    """A node that has asked for a frame of the front camera."""
    node = Node()
    node.frames.see_arrival("front")
    node.ask()
    return node


def test_a_frame_goes_all_the_way(node: Node) -> None:
    node.read("front")
    assert node.ready[0].prepared.frame.frame_id == "optical"
    node.run_network(publish=True)
    assert node.processes["front"].unread[0]["kind"] == "publish"
    node.read("front")
    assert node.counts() == {"published": 1, "replaced": 1}
    assert node.free_slots == SLOTS


def test_a_frame_that_is_dropped_before_the_network_is_forgotten_by_its_process(node: Node) -> None:
    node.read("front")
    node.run_network(publish=False)
    assert [message["kind"] for message in node.processes["front"].unread] == ["discard"]
    assert node.counts() == {"published": 0, "replaced": 1, "stale": 1}
    assert node.free_slots == SLOTS


@pytest.mark.parametrize("stage", ["asked", "ready", "publishing"])
def test_the_frame_of_a_process_that_ends_counts_as_lost_at_each_stage(node: Node, stage: str) -> None:
    if stage != "asked":
        node.read("front")
    if stage == "publishing":
        node.run_network(publish=True)
    node.end("front")
    if stage == "ready":
        node.run_network(publish=True)
    missed = {} if stage == "asked" else {"replaced": 1}
    assert node.counts() == {"published": 0, **missed, "worker_lost": 1}
    assert node.held == set()
    assert node.free_slots == SLOTS


def test_a_message_that_waits_in_a_process_that_ends_counts_as_lost() -> None:
    node = Node()
    node.frames.see_arrival("left")
    node.end("left")
    assert node.counts("left") == {"published": 0, "worker_lost": 1}


def test_a_process_that_does_not_answer_holds_no_place(node: Node) -> None:
    node.frames.give_up_unanswered()
    assert node.held == {"front"}
    node.give_up()
    node.give_up()
    assert node.held == set()
    assert node.counts() == {"published": 0, "worker_lost": 1}
    assert node.free_slots == SLOTS - 1  # it may still write to its slot
    node.read("front")
    assert node.processes["front"].unread == [{"kind": "discard", "ticket": 1}]
    assert (node.ready, node.free_slots) == ([], SLOTS)
    assert node.counts() == {"published": 0, "worker_lost": 1, "replaced": 1}


def test_who_prepares_at_once_waits_for_the_answer(node: Node) -> None:
    node.mailbox.put("left", None)
    queued = node.mailbox.take_next()
    assert queued is not None
    node.processes["left"].has_ended = True
    assert node.frames.prepare(queued) is None
    assert node.mailbox.counts()["left"].dropped == {"worker_lost": 1}


def test_a_camera_without_a_process_loses_its_message() -> None:
    node = Node()
    node.processes["front"].has_ended = True
    node.frames.see_arrival("front")
    node.ask()
    assert node.counts() == {"published": 0, "worker_lost": 1}
    assert node.held == set()


class AnyOrder(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    @initialize()
    def begin(self) -> None:
        self.node = Node()

    @rule(camera=st.sampled_from(CAMERAS))
    def a_message_arrives(self, camera: str) -> None:
        # A process notes a message, and the next one when that one was taken.
        is_asked_for = any(message["kind"] == "prepare" for message in self.node.processes[camera].unread)
        if not is_asked_for and not self.node.mailbox.counts()[camera].waiting:
            self.node.frames.see_arrival(camera)

    @rule()
    def the_node_asks(self) -> None:
        self.node.ask()

    @rule(camera=st.sampled_from(CAMERAS), outcome=st.sampled_from(["well", "well", "well", "lost", "bad_size"]))
    def a_process_reads(self, camera: str, outcome: str) -> None:
        if self.node.processes[camera].unread:
            self.node.read(camera, outcome)

    @precondition(lambda self: self.node.ready)
    @rule(publish=st.booleans())
    def the_network_runs(self, publish: bool) -> None:
        self.node.run_network(publish=publish)

    @precondition(lambda self: self.node.ready)
    @rule()
    def a_newer_frame_replaces_a_ready_one(self) -> None:
        ready = self.node.ready.pop(0)
        self.node.held.discard(ready.queued.camera)
        if not self.node.mailbox.give_up_for_newer(ready.queued.camera):
            self.node.mailbox.dropped(ready.queued.camera, "too_old")
        self.node.frames.give_back(ready)

    @rule(camera=st.sampled_from(CAMERAS))
    def a_process_ends(self, camera: str) -> None:
        self.node.end(camera)

    @rule()
    def a_second_passes(self) -> None:
        self.node.give_up()

    @invariant()
    def all_is_counted(self) -> None:
        for counts in self.node.mailbox.counts().values():
            accounted = counts.published + sum(counts.dropped.values()) + counts.waiting + counts.in_progress
            assert counts.received == accounted

    @invariant()
    def no_camera_lacks_a_slot(self) -> None:
        assert self.node.free_slots > 0

    def teardown(self) -> None:
        if not hasattr(self, "node"):
            return
        while self.node.ready or any(process.unread for process in self.node.processes.values()):
            for camera in CAMERAS:
                while self.node.processes[camera].unread:
                    self.node.read(camera)
            if self.node.ready:
                self.node.run_network(publish=True)
        assert all(counts.in_progress == 0 for counts in self.node.mailbox.counts().values())
        assert self.node.free_slots == SLOTS
        assert not self.node.held


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
