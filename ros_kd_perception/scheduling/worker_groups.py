"""WorkerGroups: which worker process serves which cameras, and which one takes over when it ends.

The cameras of a group are always served by one process. A process that serves no group stands by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ros_kd_perception.scheduling.restart_pace import RestartPace

_ALONE_ENDS = 2

LinkT = TypeVar("LinkT")


@dataclass
class _Group(Generic[LinkT]):
    cameras: tuple[str, ...]
    link: LinkT | None = None
    moves_to: LinkT | None = None
    is_served: bool = False
    given_s: float = 0.0
    pace: RestartPace = field(default_factory=RestartPace)


class WorkerGroups(Generic[LinkT]):
    """Deals groups of cameras out to processes. The owner serialises all calls except for `link_of`.

    A camera's images may end every process that takes them. If the processes of a group end soon, again and again, only
    a process that serves nothing else gets it, so that the other cameras are served on.

    Args:
        groups: Cameras of each group.
        serve: Tells a process to serve a group: process, number of the group, its cameras.
        release: Tells a process to let go of a group: process, number of the group. Its answer goes to `released`.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        serve: Callable[[LinkT, int, Sequence[str]], object],
        release: Callable[[LinkT, int], object],
    ) -> None:
        self._groups: list[_Group[LinkT]] = [_Group(tuple(cameras)) for cameras in groups]
        self._serve, self._release = serve, release
        self._up: list[LinkT] = []
        self._all_were_served = False

    def __len__(self) -> int:
        return len(self._groups)

    def link_of(self, camera: str) -> LinkT | None:
        """Return the process that has been told to serve a camera, or None. Safe in any thread.

        Raises:
            KeyError: The camera is in no group.
        """
        for group in self._groups:
            if camera in group.cameras:
                return group.link
        raise KeyError(camera)

    def of(self, link: LinkT) -> list[int]:
        """Return the numbers of the groups that a process serves, or will serve after a move."""
        return [number for number, group in enumerate(self._groups) if (group.moves_to or group.link) is link]

    @property
    def unserved(self) -> list[str]:
        """The cameras that no process serves at the moment."""
        return [camera for group in self._groups if not group.is_served for camera in group.cameras]

    @property
    def is_taken_over(self) -> bool:
        """Whether a process makes the subscriptions of a group at the moment."""
        return any(group.link is not None and not group.is_served for group in self._groups)

    def add(self, link: LinkT) -> None:
        """Note that a process has started."""
        self._up.append(link)

    def remove(self, link: LinkT, now_s: float) -> list[str]:
        """Note that a process has ended. Return the cameras that it served."""
        if link in self._up:
            self._up.remove(link)
        lost: list[str] = []
        for group in self._groups:
            if group.moves_to is link:
                group.moves_to = None
            if group.link is link:
                group.link, group.moves_to, group.is_served = None, None, False
                group.pace.note_end(now_s, now_s - group.given_s)
                lost += group.cameras
        return lost

    def deal(self, now_s: float) -> None:
        """Give each group without a process to one, and spread the groups if a process stands by."""
        for number, group in enumerate(self._groups):
            if group.link is None and (taker := self._taker(group, now_s)) is not None:
                self._give(number, taker, now_s)
        self._spread()

    def serving(self, link: LinkT, number: int) -> None:
        """Note that a process serves a group now."""
        group = self._groups[number]
        if group.link is link:
            group.is_served = True
        self._all_were_served = self._all_were_served or not self.unserved

    def released(self, link: LinkT, number: int, now_s: float) -> None:
        """Note that a process has let go of a group. The one that it moves to gets it now."""
        group = self._groups[number]
        if group.link is link:
            taker, group.link, group.moves_to, group.is_served = group.moves_to, None, None, False
            if taker is not None:
                self._give(number, taker, now_s)

    def _taker(self, group: _Group[LinkT], now_s: float) -> LinkT | None:
        # In the beginning every group has a process of its own, which is still starting.
        must_be_alone = _must_be_alone(group, now_s) or not self._all_were_served
        alone = [other.moves_to or other.link for other in self._groups if _must_be_alone(other, now_s)]
        able = [link for link in self._up if link not in alone]
        least = min(able, key=lambda link: len(self.of(link)), default=None)
        return None if least is None or (must_be_alone and self.of(least)) else least

    def _give(self, number: int, link: LinkT, now_s: float) -> None:
        group = self._groups[number]
        group.link, group.is_served, group.given_s = link, False, now_s
        self._serve(link, number, group.cameras)

    def _spread(self) -> None:
        for idle in [link for link in self._up if not self.of(link)]:
            crowded = next((link for link in self._up if len(self.of(link)) > 1), None)
            if crowded is None:
                return
            number = self.of(crowded)[-1]
            if self._groups[number].link is not crowded:  # it is still to come
                return
            self._groups[number].moves_to = idle
            self._release(crowded, number)


def _must_be_alone(group: _Group[LinkT], now_s: float) -> bool:
    return group.pace.lately(now_s) >= _ALONE_ENDS
