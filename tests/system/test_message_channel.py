"""Messages between the node and its worker processes: whole, in order, and an end that is seen, however it comes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ros_kd_perception.system.message_channel import MAX_MESSAGE_BYTES, ChannelClosed, MessageChannel

ANSWER_AND_END = """
import socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
connection.recv(1 << 20)
for number in range(3):
    connection.send(b'{"kind": "answer", "number": %d}' % number)
"""


@pytest.fixture
def ends() -> Iterator[tuple[MessageChannel, MessageChannel]]:
    ours, theirs = MessageChannel.pair()
    other = MessageChannel(theirs)
    yield ours, other
    ours.close()
    other.close()


def received(channel: MessageChannel) -> dict[str, Any]:
    found = channel.receive()
    assert found is not None
    return found[0]


def test_messages_of_several_threads_arrive_whole(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ours, other = ends
    senders = [
        threading.Thread(target=lambda name=name: [ours.send(name, number=n, text="x" * 1000) for n in range(50)])
        for name in "abc"
    ]
    for sender in senders:
        sender.start()
    messages = [received(other) for _ in range(150)]
    for name in "abc":
        assert [m["number"] for m in messages if m["kind"] == name] == [*range(50)]
    assert other.receive(wait=False) is None


def test_a_file_descriptor_goes_with_its_message(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ours, other = ends
    reading, writing = os.pipe()
    ours.send("memory", writing)
    os.close(writing)
    ours.send("plain")
    found = other.receive()
    assert found is not None
    message, descriptor = found
    assert message == {"kind": "memory"}
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"sent")
    assert os.read(reading, 10) == b"sent"
    assert other.receive() == ({"kind": "plain"}, None)
    os.close(descriptor)
    os.close(reading)


def test_the_last_messages_of_a_process_that_ends_with_unread_ones_are_received() -> None:
    ours, theirs = MessageChannel.pair()
    command = [sys.executable, "-c", ANSWER_AND_END, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        for number in range(10):
            ours.send("question", number=number)
        process.wait(30)
    assert [received(ours)["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ChannelClosed):
        ours.receive()
    with pytest.raises(ChannelClosed, match="cannot send question"):
        ours.send("question")
    ours.close()


def test_a_process_that_does_not_read_stops_no_sender_for_long(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ours, _ = ends

    def fill() -> None:
        for _ in range(1000):
            ours.send("unread", text="x" * (MAX_MESSAGE_BYTES // 20))

    with pytest.raises(ChannelClosed):
        fill()


def test_a_closed_connection_ends_the_thread_that_waits(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ours, _ = ends
    outcome: list[str] = []

    def wait() -> None:
        try:
            ours.receive()
        except ChannelClosed as error:
            outcome.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    ours.shut_down()
    thread.join(30)
    assert outcome == ["the other process has ended"]
    ours.close()
    with pytest.raises(ChannelClosed):
        ours.send("late")


def test_messages_that_cannot_be_sent_are_refused(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ours, other = ends
    with pytest.raises(ValueError, match=f"at most {MAX_MESSAGE_BYTES} bytes"):
        ours.send("large", text="x" * MAX_MESSAGE_BYTES)
    with pytest.raises(ValueError, match="JSON"):
        ours.send("not a number", value=float("nan"))
    # Linux grants buffers up to net.core.wmem_max only, a fifth of the limit above on most machines.
    with socket.socket(fileno=os.dup(ours.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    with pytest.raises(ValueError, match="wmem_max"):
        ours.send("as large as a machine allows", text="x" * (1 << 17))
    ours.send("small")
    assert received(other) == {"kind": "small"}


def test_only_a_connection_that_keeps_messages_whole_is_made() -> None:
    ours, theirs = MessageChannel.pair()
    assert theirs.type == socket.SOCK_SEQPACKET
    ours.close()
    theirs.close()
