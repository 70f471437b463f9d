"""CameraWatch: finds faults of a camera that show only across frames, although each single frame is valid.

It finds repeated frames, a frozen picture, a changed size, header stamps that jump back or ahead, and a frame id that
tf2 cannot look up.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from ros_kd_perception.structures import BadFrame, UInt8Array

WINDOW_S = 5.0
"""Length of the window. Older events are not reported any more."""

FROZEN_AFTER_S = 1.0
"""A picture is frozen if no bit of it changes for this long and for at least `FROZEN_FRAMES` frames."""

FROZEN_FRAMES = 5
_SAMPLED_ROWS = 32
_MAX_EVENTS = 16
_SHOWN_CHARACTERS = 40

RESTART_AFTER = 3
"""This many rising stamps in a row that do not fit the current time line start a new one, as in a looped bag."""

LEAP_NS = 1_000_000_000
"""A stamp leaps ahead if it advances this much more than its arrival time, with `FASTEST_PLAYBACK` allowed for."""

FASTEST_PLAYBACK = 10
"""Highest supported playback rate of a bag. Stamps may advance this many times faster than arrival times."""


@dataclass(frozen=True)
class WatchReport:
    """The faults of one camera in the last `WINDOW_S` seconds.

    Attributes:
        size: Size of the latest frame, for example `1280x720`. Empty before the first frame.
        sizes: Sizes in the window, in order of arrival. More than one means that the size changed.
        frame_id_problem: What is wrong with the frame id of the latest frame. Empty if nothing is.
        wrongly_ahead_s: For each wrong stamp in the window, by how many seconds it was ahead of its neighbours.
        time_jumps_s: For each new time line in the window, by how many seconds the stamps jumped back.
        frozen_s: How long the picture has been frozen, in seconds. 0 while it changes.
    """

    size: str = ""
    sizes: tuple[str, ...] = ()
    frame_id_problem: str = ""
    wrongly_ahead_s: tuple[float, ...] = ()
    time_jumps_s: tuple[float, ...] = ()
    frozen_s: float = 0.0


@dataclass
class _Latest:
    stamp_ns: int = 0
    sample: bytes = b""
    size: str = ""
    same_since_ns: int = 0
    same_frames: int = 0
    sizes: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_MAX_EVENTS))
    jumps: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_MAX_EVENTS))
    ahead: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_MAX_EVENTS))
    frame_id_problem: str = ""


def frame_id_problem(frame_id: str) -> str:
    """Return why tf2 cannot look up a frame id and what it expects. Return an empty string if it can."""
    if not frame_id:
        found = "is empty"
    elif frame_id.startswith("/"):
        found = f"{frame_id[:_SHOWN_CHARACTERS]!r} starts with a slash"
    elif any(character.isspace() or not character.isprintable() for character in frame_id):
        found = f"{frame_id[:_SHOWN_CHARACTERS]!r} has blanks or control characters"
    else:
        return ""
    return f"frame_id {found}; tf2 expects a name that is not empty, without a leading slash and without blanks"


def picture_sample(image_bgr: UInt8Array) -> bytes:
    """Return some whole rows of a picture as bytes, to tell it from the next one.

    These rows are enough, because the noise of a sensor makes any two of its pictures differ.
    """
    # `tobytes` copies, so that the sample does not keep the message's memory alive.
    return image_bgr[:: max(1, image_bgr.shape[0] // _SAMPLED_ROWS)].tobytes()


class CameraWatch:
    """Watches the frames of one camera in order. One thread may call `check` while another calls `report`."""

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self._lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Forget all frames. Called on activation, because the next drive may use another clock."""
        with self._lock:
            self._stamps = StampOrder()
            self._latest = _Latest()

    def check(
        self, now_ns: int, stamp_ns: int, shape: tuple[int, ...], sample: bytes, frame_id: str | None = None
    ) -> None:
        """Check the next frame.

        Args:
            now_ns: Time of the steady clock.
            stamp_ns: Header stamp.
            shape: Shape of the picture. Height and width in pixels come first.
            sample: `picture_sample` of the picture.
            frame_id: Frame id of the header. None skips its check.

        Raises:
            BadFrame: `zero_stamp`, `stamp_backwards` or `stamp_ahead` as in `StampOrder`, or `duplicate` if picture and
                stamp are equal to those of the previous frame.
        """
        with self._lock:
            latest, same = self._latest, sample == self._latest.sample
            wrongly_ahead_s = self._stamps.check(self.camera, stamp_ns, now_ns)
            if same and stamp_ns == latest.stamp_ns:
                raise BadFrame(
                    "duplicate",
                    f"expected each frame of {self.camera} once, got the one of {stamp_ns} ns again; look for a second "
                    "publisher or a relay on its topic",
                )
            if wrongly_ahead_s:
                latest.ahead.append((now_ns, wrongly_ahead_s))
            elif stamp_ns < latest.stamp_ns:
                latest.jumps.append((now_ns, (latest.stamp_ns - stamp_ns) / 1e9))
            if same and stamp_ns > latest.stamp_ns:
                latest.same_frames += 1
            else:
                latest.same_frames, latest.same_since_ns = 1, now_ns
            size = f"{shape[1]}x{shape[0]}"
            if size != latest.size:
                latest.sizes.append((now_ns, size))
            latest.frame_id_problem = "" if frame_id is None else frame_id_problem(frame_id)
            latest.stamp_ns, latest.sample, latest.size = stamp_ns, sample, size

    def report(self, now_ns: int) -> WatchReport:
        """Return the faults in the window that ends now.

        Args:
            now_ns: Time of the steady clock.
        """
        with self._lock:
            latest = self._latest
            # Keep the last size from before the window, because the frames at the window's start have that size.
            while len(latest.sizes) > 1 and now_ns - latest.sizes[1][0] > WINDOW_S * 1e9:
                latest.sizes.popleft()
            for events in (latest.jumps, latest.ahead):
                while events and now_ns - events[0][0] > WINDOW_S * 1e9:
                    events.popleft()
            same_s = (now_ns - latest.same_since_ns) / 1e9
            frozen = latest.same_frames >= FROZEN_FRAMES and same_s >= FROZEN_AFTER_S
            return WatchReport(
                latest.size,
                tuple(size for _, size in latest.sizes),
                latest.frame_id_problem,
                tuple(seconds for _, seconds in latest.ahead),
                tuple(jump for _, jump in latest.jumps),
                same_s if frozen else 0.0,
            )


@dataclass
class _CameraStamps:
    newest_ns: int = 0
    newest_arrival_ns: int = 0
    seen_arrival_ns: int = 0  # arrival of the previous frame, accepted or refused
    before_leap_ns: int = 1  # newest stamp before the latest leap, 0 without a recent leap; the first stamp is a leap
    since_leap: int = 0  # frames accepted since the leap
    is_distrusted: bool = False  # True after a wrong leap: later leaps need `RESTART_AFTER` frames
    refused_ns: list[int] = field(default_factory=list)


class StampOrder:
    """Accepts stamps that rise, and refuses stamps that go back or leap ahead. Keeps one state for each camera.

    Equal stamps pass, because some drivers give two frames the same stamp. When a bag starts again, its stamps jump
    back once and then rise. After `RESTART_AFTER` such frames in a row the new time line is accepted, so only the
    frames before that are lost.

    A single stamp that leaps ahead passes, because a clock may have been set. If the next stamps continue from before
    the leap, they pass too, and the leap was wrong. The same rule applies to the first stamp. After a wrong leap, the
    camera's leaps are refused until `RESTART_AFTER` of them come in a row.
    """

    def __init__(self) -> None:
        self._cameras: dict[str, _CameraStamps] = {}

    def check(self, camera: str, stamp_ns: int, arrival_ns: int = 0) -> float:
        """Accept the stamp of the camera's next frame.

        Args:
            camera: Name of the camera.
            stamp_ns: Header stamp of the frame.
            arrival_ns: Arrival time of the frame, by a steady clock.

        Returns:
            By how many seconds the previous stamps were wrongly ahead, or 0 if they were right.

        Raises:
            BadFrame: `zero_stamp` if the stamp is zero or negative, `stamp_backwards` if it is before the newest one,
                `stamp_ahead` if it leaps ahead after a wrong leap of the same camera.
        """
        if stamp_ns <= 0:
            raise BadFrame("zero_stamp", f"expected a header stamp after zero from {camera}, got {stamp_ns} ns")
        stamps = self._cameras.setdefault(camera, _CameraStamps())
        seen_ns, stamps.seen_arrival_ns = stamps.seen_arrival_ns, arrival_ns
        if stamp_ns >= stamps.newest_ns:
            self._check_leap(camera, stamps, stamp_ns, arrival_ns, seen_ns)
            return 0.0
        back_ns = stamps.newest_ns - stamp_ns
        wrongly_ahead_ns = back_ns if back_ns > LEAP_NS and 0 < stamps.before_leap_ns <= stamp_ns else 0
        if wrongly_ahead_ns or _is_restart(stamps, stamp_ns):
            stamps.is_distrusted |= wrongly_ahead_ns > 0
            stamps.before_leap_ns = 0
            _accept(stamps, stamp_ns, arrival_ns)
            return wrongly_ahead_ns / 1e9
        raise BadFrame(
            "stamp_backwards",
            f"expected a header stamp of {stamps.newest_ns} ns or later from {camera}, got {stamp_ns} ns, "
            f"{back_ns / 1e9:.3f} s back",
        )

    @staticmethod
    def _check_leap(camera: str, stamps: _CameraStamps, stamp_ns: int, arrival_ns: int, seen_ns: int) -> None:
        ahead_ns = stamp_ns - stamps.newest_ns
        # While frames are refused, the time since the newest accepted frame grows. Allow fast playback only for the
        # time since the previous frame, otherwise the limit would grow ten times as fast.
        expected_ns = arrival_ns - stamps.newest_arrival_ns + FASTEST_PLAYBACK * (arrival_ns - seen_ns)
        if stamps.newest_ns and ahead_ns > LEAP_NS + expected_ns:
            if stamps.is_distrusted and not _is_restart(stamps, stamp_ns):
                raise BadFrame(
                    "stamp_ahead",
                    f"expected a header stamp soon after {stamps.newest_ns} ns from {camera}, whose stamps were "
                    f"wrongly ahead before, got {stamp_ns} ns, {ahead_ns / 1e9:.3f} s ahead",
                )
            stamps.before_leap_ns, stamps.since_leap = stamps.newest_ns, 0
        elif stamps.since_leap < RESTART_AFTER - 1:
            stamps.since_leap += 1
        else:
            stamps.before_leap_ns = 0
        _accept(stamps, stamp_ns, arrival_ns)


def _accept(stamps: _CameraStamps, stamp_ns: int, arrival_ns: int) -> None:
    stamps.newest_ns, stamps.newest_arrival_ns = stamp_ns, arrival_ns
    stamps.refused_ns.clear()


def _is_restart(stamps: _CameraStamps, stamp_ns: int) -> bool:
    refused_ns = stamps.refused_ns
    if refused_ns and stamp_ns == refused_ns[-1]:
        return False  # an equal stamp neither continues the new time line nor breaks it
    if refused_ns and (
        stamp_ns < refused_ns[-1] or (stamp_ns < stamps.newest_ns) != (refused_ns[-1] < stamps.newest_ns)
    ):
        refused_ns.clear()
    refused_ns.append(stamp_ns)
    return len(refused_ns) >= RESTART_AFTER
