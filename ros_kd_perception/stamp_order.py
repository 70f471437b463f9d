"""StampOrder: refuses header stamps that are zero or run backwards, and tells a looped bag from a broken clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from ros_kd_perception.structures import BadFrame

RESTART_AFTER = 3
"""Backward stamps in a row, rising among themselves, that start a new time line."""


@dataclass
class _CameraStamps:
    newest_ns: int = 0
    refused_ns: list[int] = field(default_factory=list)


class StampOrder:
    """Remembers the newest stamp of each camera.

    Equal stamps pass: a driver that stamps two frames alike has done no harm. A bag that starts again jumps back once
    and then rises: after `RESTART_AFTER` such frames in a row the new time line counts, and only those before it are
    lost.
    """

    def __init__(self) -> None:
        self._cameras: dict[str, _CameraStamps] = {}

    def check(self, camera: str, stamp_ns: int) -> None:
        """Accept the stamp of the camera's next frame, in nanoseconds.

        Raises:
            BadFrame: `zero_stamp` for a stamp of zero or less, `stamp_backwards` for one before the newest so far.
        """
        if stamp_ns <= 0:
            raise BadFrame("zero_stamp", f"expected a header stamp after zero from {camera}, got {stamp_ns} ns")
        stamps = self._cameras.setdefault(camera, _CameraStamps())
        if stamp_ns >= stamps.newest_ns or self._is_restart(stamps, stamp_ns):
            stamps.newest_ns = stamp_ns
            stamps.refused_ns.clear()
            return
        raise BadFrame(
            "stamp_backwards",
            f"expected a header stamp of {stamps.newest_ns} ns or later from {camera}, got {stamp_ns} ns, "
            f"{(stamps.newest_ns - stamp_ns) / 1e9:.3f} s back",
        )

    @staticmethod
    def _is_restart(stamps: _CameraStamps, stamp_ns: int) -> bool:
        if stamps.refused_ns and stamp_ns == stamps.refused_ns[-1]:
            return False  # harmless here as well: neither a step on nor a step back
        if stamps.refused_ns and stamp_ns < stamps.refused_ns[-1]:
            stamps.refused_ns.clear()
        stamps.refused_ns.append(stamp_ns)
        return len(stamps.refused_ns) >= RESTART_AFTER
