"""ReplayPipeline: reads and perceives the frames of a bag ahead of the thread that writes their results.

One thread reads, decodes and letterboxes. On a CPU, each of several threads then runs the network on a frame of its
own, in one thread of ONNX Runtime. Two threads that share a frame would wait for each other in every layer of the
network, and would spin meanwhile (docs/overhead.md). The caller's thread takes the results in the order of the bag.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Any

import numpy as np

from ros_kd_perception.bags.reader import BagReader, RawMessage, read_camera_frames
from ros_kd_perception.health.watch import CameraWatch, picture_sample
from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.perceiver import Perceiver, PreparedFrame
from ros_kd_perception.structures import BadFrame, Frame, Perception

MAX_RUNS = 8
"""Largest number of frames in the network at the same time. Python can hardly feed more threads than this."""

MAX_WAITING_BYTES = 1 << 28
"""Limit on the pictures that wait. A single picture may be larger."""

_WAITING = 2  # frames that wait for the network or for the caller, in addition to those in the network


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up_together(perceiver: Perceiver, runs: int) -> None:
    """Warm up a model with `runs` runs at the same time.

    Raises:
        Exception: A run failed, for example because there is too little memory for all of them.
    """
    with ThreadPoolExecutor(runs) as network:
        for run in [network.submit(perceiver.warm_up) for _ in range(runs)]:
            run.result()


@dataclass(frozen=True)
class ReplayedInfo:
    """A CameraInfo of the bag, in its place between the frames.

    Attributes:
        camera: Name of the camera.
        message: The decoded message.
        source: The message as it is in the bag.
    """

    camera: str
    message: Any
    source: RawMessage


@dataclass(frozen=True)
class ReplayedFrame:
    """One image of the bag with its result.

    Attributes:
        camera: Name of the camera.
        log_time_ns: When it was recorded.
        frame: The decoded image. None if it cannot be decoded.
        outcome: What the model saw, or the error that costs the frame.
        others: The outcomes of the further models, in their order.
        source: The message as it is in the bag. None unless the pipeline keeps the messages.
    """

    camera: str
    log_time_ns: int
    frame: Frame | None
    outcome: Perception | Exception
    others: tuple[Perception | Exception, ...] = ()
    source: RawMessage | None = None


class ReplayPipeline:
    """Yields the frames of a bag with their results, in the order of the bag. Use it in a `with` block.

    Args:
        bag: An open bag. Only the pipeline reads it until the end of the `with` block.
        perceiver: Runs the model.
        runs: Number of frames in the network at the same time. It must be 1 on a GPU.
        with_camera_infos: Also yield the CameraInfo messages.
        also: Run further models on each frame, after the first one and in the same thread. Models whose input is equal
            share the prepared frame, so their regions of interest must be equal.
        keep_messages: Yield each frame with its message. The messages that wait count for `MAX_WAITING_BYTES`, too.
    """

    def __init__(
        self,
        bag: BagReader,
        perceiver: Perceiver,
        runs: int = 1,
        *,
        with_camera_infos: bool = False,
        also: Sequence[Perceiver] = (),
        keep_messages: bool = False,
    ) -> None:
        self._bag = bag
        self._perceivers = (perceiver, *also)
        self._with_camera_infos = with_camera_infos
        self._keep_messages = keep_messages
        self._watches: dict[str, CameraWatch] = {}
        self._started = _StartedItems(runs + _WAITING)
        # One for each item that waits, one for the frame of the caller's thread, one for the frame in preparation.
        self._inputs = {
            spec: cycle(np.empty((runs + _WAITING + 2, spec.height, spec.width, 3), np.uint8))
            for spec in {one.model.contract.input for one in self._perceivers}
        }
        self._preparing: dict[InputSpec, Perceiver] = {}  # the first model of each input
        for one in self._perceivers:
            self._preparing.setdefault(one.model.contract.input, one)
        self._network = ThreadPoolExecutor(runs, "network")
        self._reader = threading.Thread(target=self._read, name="bag reader", daemon=True)

    def __enter__(self) -> ReplayPipeline:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads. Frames that the caller did not take are forgotten."""
        self._started.close()
        self._reader.join()
        self._network.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[ReplayedFrame | ReplayedInfo]:
        """Yield frames and CameraInfo messages.

        Raises:
            BagError: The bag is damaged or incomplete. All frames before the damage are yielded first.
        """
        while not isinstance(item := self._started.take(), _End):
            yield item if isinstance(item, ReplayedInfo) else item.finished()
        if item.error is not None:
            raise item.error

    def _read(self) -> None:
        with suppress(_Closed):
            self._started.put(_End(self._read_to_the_end()))

    def _read_to_the_end(self) -> BaseException | None:
        take_info = self._put_info if self._with_camera_infos else None
        try:
            for camera, message, frame in read_camera_frames(self._bag, take_info):
                run = self._start(camera, message.log_time_ns, frame)
                source = message if self._keep_messages else None
                started = _Started(camera, message.log_time_ns, frame, run, source)
                self._started.put(started, started.waiting_bytes)
        except _Closed:
            raise
        except BaseException as error:
            return error  # it is raised in the caller's thread, after the frames before it
        return None

    def _put_info(self, camera: str, source: RawMessage, message: Any) -> None:
        self._started.put(ReplayedInfo(camera, message, source))

    def _start(self, camera: str, log_time_ns: int, frame: Frame | BadFrame) -> Future[list[Perception | Exception]]:
        try:
            if isinstance(frame, BadFrame):
                raise frame
            watch = self._watches.setdefault(camera, CameraWatch(camera))
            sample = picture_sample(frame.image_bgr)
            watch.check(log_time_ns, frame.stamp_ns, frame.image_bgr.shape, sample, frame.frame_id)
            prepared = {spec: one.prepare(frame, next(self._inputs[spec])) for spec, one in self._preparing.items()}
        except Exception as error:
            failed: Future[list[Perception | Exception]] = Future()
            failed.set_result([error] * len(self._perceivers))
            return failed
        return self._network.submit(self._perceive, [prepared[one.model.contract.input] for one in self._perceivers])

    def _perceive(self, prepared: Sequence[PreparedFrame]) -> list[Perception | Exception]:
        outcomes: list[Perception | Exception] = []
        for perceiver, one in zip(self._perceivers, prepared, strict=True):
            try:
                outcomes += perceiver.perceive_prepared([one])
            except Exception as error:
                outcomes.append(error)
        return outcomes


class _Closed(Exception):
    """The caller left the `with` block."""


@dataclass(frozen=True)
class _Started:
    """A frame on its way through the network."""

    camera: str
    log_time_ns: int
    frame: Frame | BadFrame
    run: Future[list[Perception | Exception]]
    source: RawMessage | None

    @property
    def waiting_bytes(self) -> int:
        """Memory of the picture, and of its message if it is kept."""
        picture = 0 if isinstance(self.frame, BadFrame) else self.frame.image_bgr.nbytes
        return picture + (0 if self.source is None else len(self.source.data))

    def finished(self) -> ReplayedFrame:
        """Wait for the result."""
        frame = None if isinstance(self.frame, BadFrame) else self.frame
        outcome, *others = self.run.result()
        return ReplayedFrame(self.camera, self.log_time_ns, frame, outcome, tuple(others), self.source)


@dataclass(frozen=True)
class _End:
    """The end of the bag, or the error that ended reading."""

    error: BaseException | None


_Item = _Started | ReplayedInfo | _End


class _StartedItems:
    """The items between the reading thread and the caller's, in order, limited in number and in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[_Item, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: _Item, size: int = 0) -> None:
        """Wait for room and add an item of `size` bytes. Raise `_Closed` if closed."""
        with self._changed:
            while not self._closed and self._items and not self._has_room(size):
                self._changed.wait()
            if self._closed:
                raise _Closed
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify()

    def take(self) -> _Item:
        """Wait for the next item."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify()
            return item

    def close(self) -> None:
        """Forget all items, and end the thread in `put`."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify()

    def _has_room(self, size: int) -> bool:
        return len(self._items) < self._limit and self._bytes + size <= MAX_WAITING_BYTES
