"""CameraWatch: notices what a camera does wrong with frames that are, each for itself, sound.

The same frame twice, a picture that stands still to the last bit, another size than before, stamps that jumped back or
ahead, a frame id that no transform can have.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from ros_kd_perception.structures import BadFrame, UInt8Array

WINDOW_S = 5.0
"""What happened longer ago is no longer spoken of."""

FROZEN_AFTER_S = 1.0
"""A picture that has not changed in one bit for so long, over `FROZEN_FRAMES` frames or more, stands still."""

FROZEN_FRAMES = 5
_SAMPLED_ROWS = 32
_MAX_EVENTS = 16
_SHOWN_CHARACTERS = 40

RESTART_AFTER = 3
"""Stamps off the time line in a row, rising among themselves, that start a new one."""

LEAP_NS = 1_000_000_000
"""A stamp that gains more on its arrival leaps ahead, `FASTEST_PLAYBACK` allowed for."""

FASTEST_PLAYBACK = 10
"""Bags are played at up to so many times their speed: stamps may gain as much on arrivals."""


@dataclass(frozen=True)
class WatchReport:
    """What was noticed of a camera lately.

    Attributes:
        size: `1280x720` of the latest frame, empty before the first.
        sizes: of the window, in the order in which they came; more than one: the size changed.
        frame_id_problem: what is wrong with the frame id of the latest frame, empty if nothing is.
        wrongly_ahead_s: by how much stamps were ahead of those around them, seconds each, as the window showed.
        time_jumps_s: by how much stamps jumped back, seconds each, where a new time line began in the window.
        frozen_s: for how long the picture has not changed, 0 while it does.
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
    """What keeps tf2 from looking a frame id up, and what it expects; empty if nothing does."""
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
    """Whole rows of a picture, enough to tell it from any other that a sensor takes: no two are without noise."""
    # A copy: the message's memory need not be kept for it.
    return image_bgr[:: max(1, image_bgr.shape[0] // _SAMPLED_ROWS)].tobytes()


class CameraWatch:
    """Watches the frames of one camera in their order; one thread shows them, another may ask."""

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self._lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Forget all: another activation, another drive."""
        with self._lock:
            self._stamps = StampOrder()
            self._latest = _Latest()

    def check(
        self, now_ns: int, stamp_ns: int, shape: tuple[int, ...], sample: bytes, frame_id: str | None = None
    ) -> None:
        """Look at the next frame.

        Args:
            now_ns: steady clock.
            stamp_ns: of its header.
            shape: of its picture, height and width in px first.
            sample: `picture_sample` of it.
            frame_id: of its header; None: not looked at.

        Raises:
            BadFrame: `zero_stamp`, `stamp_backwards` or `stamp_ahead` as in `StampOrder`; `duplicate` for the same
                picture with the same stamp as the frame before.
        """
        with self._lock:
            latest, same = self._latest, sample == self._latest.sample
            wrongly_ahead_s = self._stamps.check(self.camera, stamp_ns, now_ns)
            if same and stamp_ns == latest.stamp_ns:
                raise BadFrame(
                    "duplicate",
                    f"expected each frame of {self.camera} once, got the one of {stamp_ns} ns again; are there two "
                    "publishers, or a relay beside its source?",
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
        """What was noticed, as of this moment of the steady clock."""
        with self._lock:
            latest = self._latest
            # Of the sizes before the window the last one counts: it was in force when the window began.
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
    seen_arrival_ns: int = 0  # of the frame before, accepted or not
    before_leap_ns: int = 1  # 0: the time line has not leapt lately; the first stamp leaps from nothing
    since_leap: int = 0
    is_distrusted: bool = False
    refused_ns: list[int] = field(default_factory=list)


class StampOrder:
    """Remembers the newest stamp of each camera.

    Equal stamps pass: a driver that stamps two frames alike has done no harm. A bag that starts again jumps back once
    and then rises: after `RESTART_AFTER` such frames in a row the new time line counts, and only those before it are
    lost.

    A single stamp that leaps ahead passes, for a clock may have been set; if the next stamps go on where the others
    were, they pass, too, and it was wrong. So it is with the first stamp of all. From then on leaps of that camera are
    refused until `RESTART_AFTER` come in a row.
    """

    def __init__(self) -> None:
        self._cameras: dict[str, _CameraStamps] = {}

    def check(self, camera: str, stamp_ns: int, arrival_ns: int = 0) -> float:
        """Accept the stamp of the camera's next frame.

        Args:
            camera: whose frame.
            stamp_ns: its header stamp.
            arrival_ns: when it came, by a clock that goes on evenly.

        Returns:
            0, or by how many seconds the stamps before this one were wrongly ahead.

        Raises:
            BadFrame: `zero_stamp` for a stamp of zero or less, `stamp_backwards` for one before the newest so far,
                `stamp_ahead` for one that leaps ahead where such stamps were wrong before.
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
        # While frames are refused the gap to the newest one grows; only the last step may be so fast.
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
        return False  # harmless here as well: neither a step on nor a step back
    if refused_ns and (
        stamp_ns < refused_ns[-1] or (stamp_ns < stamps.newest_ns) != (refused_ns[-1] < stamps.newest_ns)
    ):
        refused_ns.clear()
    refused_ns.append(stamp_ns)
    return len(refused_ns) >= RESTART_AFTER
