"""MessageChannel: one end of a connection between the node and one of its worker processes.

A message is a JSON object with a `kind`, and at most one file descriptor. Images never go through it. The socket keeps
messages whole and in order, and its other end is seen to be gone when that process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import sys
import threading
from typing import Any

MAX_MESSAGE_BYTES = 1 << 20
_SEND_TIMEOUT_S = 2.0
_DESCRIPTOR_BYTES = 4
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # `dumps` would make one for each message
_DESCRIPTOR_SPACE = socket.CMSG_LEN(_DESCRIPTOR_BYTES)


class ChannelClosed(ConnectionError):
    """The other process has ended, or does not read."""


class MessageChannel:
    """Sends and receives messages. Any thread may send; one thread receives.

    Args:
        connection: A connected socket of type SOCK_SEQPACKET. It is owned by this object from now on.
        gets_descriptors: Whether the other end sends file descriptors. To look for them takes a few microseconds more.
    """

    def __init__(self, connection: socket.socket, *, gets_descriptors: bool = True) -> None:
        self._socket = connection
        self._gets_descriptors = gets_descriptors
        self._lock = threading.Lock()
        self._buffer = bytearray(MAX_MESSAGE_BYTES)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, MAX_MESSAGE_BYTES)
        # Of sends alone: a process that does not read must not stop the other one.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_SEND_TIMEOUT_S))

    @classmethod
    def pair(cls) -> tuple[MessageChannel, socket.socket]:
        """Return this process's end, which gets no file descriptors, and the socket to hand to another process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours, gets_descriptors=False), theirs

    def fileno(self) -> int:
        """Return the file descriptor, to wait for messages with a selector."""
        return self._socket.fileno()

    def send(self, kind: str, descriptor: int | None = None, **fields: Any) -> None:
        """Send a message.

        Raises:
            ChannelClosed: The other process has ended, or has not read for two seconds.
            ValueError: The message cannot be sent as JSON, or is too large, also for the system's limit on sockets.
        """
        content = _ENCODER.encode({"kind": kind, **fields}).encode()
        if len(content) > MAX_MESSAGE_BYTES:
            raise ValueError(f"expected a message of at most {MAX_MESSAGE_BYTES} bytes, got {len(content)}: {kind}")
        try:
            with self._lock:
                if descriptor is None:
                    self._socket.send(content, socket.MSG_NOSIGNAL)
                else:
                    socket.send_fds(self._socket, [content], [descriptor])
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise ValueError(
                    f"expected a message that fits the system's limit on sockets, got {len(content)} bytes: {kind}; "
                    "raise the sysctl net.core.wmem_max"
                ) from None
            raise ChannelClosed(f"cannot send {kind}: {error}") from None

    def receive(self, *, wait: bool = True) -> tuple[dict[str, Any], int | None] | None:
        """Return the next message and its file descriptor, if it has one.

        Args:
            wait: Wait for a message. Otherwise return None if there is none.

        Raises:
            ChannelClosed: The other process has ended.
        """
        # Not `recv_fds`, which ignores its flags before Python 3.12.
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            size, ancillary = self._receive(flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from None
        if not size:
            raise ChannelClosed("the other process has ended")
        message: dict[str, Any] = json.loads(self._buffer[:size].decode())
        return message, _descriptor(ancillary)

    def shut_down(self) -> None:
        """End the connection. A thread that sends or receives gets `ChannelClosed`, at both ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and close this end."""
        self.shut_down()
        with self._lock:  # so that no thread sends to another file that gets the number of the descriptor
            self._socket.close()

    def _receive(self, flags: int) -> tuple[int, list[tuple[int, int, bytes]]]:
        try:
            return self._receive_once(flags)
        except ConnectionResetError:
            # The other process ended with messages that it had not read. The kernel says so once, before the messages
            # that it had sent.
            return self._receive_once(flags)

    def _receive_once(self, flags: int) -> tuple[int, list[tuple[int, int, bytes]]]:
        if self._gets_descriptors:
            return self._socket.recvmsg_into([self._buffer], _DESCRIPTOR_SPACE, flags)[:2]
        return self._socket.recv_into(self._buffer, 0, flags), []


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(content) >= _DESCRIPTOR_BYTES:
            return int.from_bytes(content[:_DESCRIPTOR_BYTES], sys.byteorder)
    return None


def _timeval(seconds: float) -> bytes:
    whole, part = divmod(int(seconds * 1e6), 1_000_000)
    return whole.to_bytes(8, sys.byteorder) + part.to_bytes(8, sys.byteorder)
