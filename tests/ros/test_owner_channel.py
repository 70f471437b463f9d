"""Messages of a worker process: published frames go with the next message, or alone when no message comes."""

from __future__ import annotations

import fcntl
import socket
import threading

from ros_kd_perception.ros.workers.owner_channel import OwnerChannel
from ros_kd_perception.system.message_channel import MessageChannel


def test_published_frames_are_told_with_the_next_message_or_soon() -> None:
    owner, theirs = MessageChannel.pair()
    channel = OwnerChannel(MessageChannel(theirs))
    channel.send("published", ticket=1, handed_ns=10)
    channel.send("published", ticket=2, handed_ns=20)
    assert owner.receive(wait=False) is None
    channel.send("arrived", camera="front")
    assert owner.receive() == ({"kind": "arrived", "camera": "front", "frames": [[1, 10], [2, 20]]}, None)

    channel.send("published", ticket=3, handed_ns=30)
    waiting = threading.Thread(target=channel.receive)
    waiting.start()
    assert owner.receive() == ({"kind": "published", "frames": [[3, 30]]}, None)
    owner.send("stop")
    waiting.join(30)

    for ticket in range(8):
        channel.send("published", ticket=ticket, handed_ns=ticket)
    found = owner.receive()
    assert found is not None
    assert len(found[0]["frames"]) == 8
    owner.close()


def test_a_node_with_many_open_files_hands_on_a_connection_of_a_high_number() -> None:
    owner, theirs = MessageChannel.pair()
    high = socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 1024))  # more than select(2) can wait for
    theirs.close()
    channel = OwnerChannel(MessageChannel(high))
    channel.send("published", ticket=1, handed_ns=10)
    owner.send("stop")
    assert channel.receive() == ({"kind": "stop"}, None)
    owner.close()
    high.close()
