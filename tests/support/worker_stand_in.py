"""A worker process without ROS: answers as the real one does. It ends at once if it is to serve a camera called bad."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ros_kd_perception.system.message_channel import ChannelClosed, MessageChannel


def main() -> None:
    channel = MessageChannel(socket.socket(fileno=int(sys.argv[1])))
    channel.send("connected")
    while True:
        found = channel.receive()
        assert found is not None
        message = found[0]
        if message["kind"] == "begin":
            channel.send("up", segments=[])
        elif message["kind"] == "serve" and "bad" in message["cameras"]:
            os._exit(7)
        elif message["kind"] == "serve" and "refused" in message["cameras"]:
            channel.send("refused", sentence="expected a camera that can be served")
        elif message["kind"] == "serve":
            channel.send("serving", group=message["group"])
        elif message["kind"] == "release":
            channel.send("released", group=message["group"])
        elif message["kind"] == "ping":
            channel.send("statuses", statuses=[])
        elif message["kind"] == "stop":
            return
        elif message["kind"] == "sleep":
            time.sleep(message["seconds"])


if __name__ == "__main__":
    try:
        main()
    except ChannelClosed:
        sys.exit(3)
