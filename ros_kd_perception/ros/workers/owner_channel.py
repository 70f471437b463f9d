"""OwnerChannel: the connection of a worker process to the node's process, with few messages for published frames."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ros_kd_perception.system.message_channel import ChannelClosed, MessageChannel

Message = tuple[dict[str, Any], "int | None"]

_PUBLISHED_AT_ONCE = 8
_QUIET_MS = 50


class OwnerChannel:
    """Sends and receives messages. Frames that were published are told with the next message.

    Each message that the node's process gets alone takes it a tenth of a millisecond. If no message comes or goes for a
    moment, they are told alone, so that the counts are right when the cameras pause.

    Args:
        channel: The connection.
    """

    def __init__(self, channel: MessageChannel) -> None:
        self._channel = channel
        # Not `select.select`, which refuses file descriptors above 1023. Those of a large node may be higher.
        self._incoming = select.poll()
        self._incoming.register(channel, select.POLLIN)
        self._published: deque[tuple[int, int]] = deque()  # tickets, and when they were handed to the middleware

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message, or keep it for a moment if it tells of a published frame. Safe in several threads."""
        if kind == "published":
            self._published.append((fields.pop("ticket"), fields.pop("handed_ns")))
            if len(self._published) < _PUBLISHED_AT_ONCE:
                return
        self._send_now(kind, fields)

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            ChannelClosed: The node's process has ended.
        """
        if self._published and not self._incoming.poll(_QUIET_MS):
            self._send_now("published", {})
        found = self._channel.receive()
        assert found is not None
        return found

    def receive_waiting(self) -> Message | None:
        """Return the next message if there is one.

        Raises:
            ChannelClosed: The node's process has ended.
        """
        return self._channel.receive(wait=False)

    def _send_now(self, kind: str, fields: dict[str, Any]) -> None:
        if self._published or kind == "published":
            fields["frames"] = list(_drained(self._published))
        try:
            self._channel.send(kind, **fields)
        except ChannelClosed:
            # The node's process has ended, or has missed this message. It starts another process when this one ends.
            self._channel.shut_down()


def _drained(items: deque[Any]) -> Iterator[Any]:
    with suppress(IndexError):  # another thread may take some of them
        while True:
            yield items.popleft()
