"""Start ROS 2 for one of the executables: its arguments, its signals, its middleware, its node."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from ros_kd_perception.system.fastdds_settings import give_large_images_room
from ros_kd_perception.system.interruption import SIGNALS
from ros_kd_perception.system.shipped_files import FASTDDS_PROFILE, shipped_file

NodeType = TypeVar("NodeType", bound=Node)


class StartError(ValueError):
    """ROS 2 cannot start with these arguments or in this environment; the text is one sentence."""


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """Remove the ROS arguments.

    Args:
        arguments: of the command line, its first word included.

    Raises:
        StartError: the ROS arguments cannot be read.
    """
    try:
        return remove_ros_args(arguments)
    except Exception as error:
        raise _start_error(error) from None


def stop_at_signals() -> threading.Event:
    """Make the event that SIGINT and SIGTERM set from now on, until the process has ended.

    Who presses Ctrl-C sends a signal to the whole process group, and a launch system sends another one. The second must
    not kill a process that is ending: its shared memory would stay behind.
    """
    stop = threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda *_: stop.set())
        # While the interpreter ends it takes its own handlers away, and the system's would kill the process.
        atexit.register(signal.signal, number, signal.SIG_IGN)
    return stop


def start_node(make: Callable[[], NodeType], arguments: Sequence[str] | None = None) -> NodeType:
    """Give large images room, start ROS 2, make the node and log which settings of the middleware are in force.

    The caller calls `rclpy.try_shutdown` at the end. rclpy leaves the signals alone.

    Args:
        make: the node.
        arguments: of the command line; None for those of this process.

    Raises:
        StartError: ROS 2 does not start, or the node cannot have the name or the parameters that it is given.
    """
    settings = give_large_images_room(os.environ, shipped_file(FASTDDS_PROFILE))
    try:
        rclpy.init(args=None if arguments is None else list(arguments), signal_handler_options=SignalHandlerOptions.NO)
        node = make()
    except Exception as error:
        rclpy.try_shutdown()
        raise _start_error(error) from None
    log = node.get_logger()
    # Two lines of code: rclpy refuses one line that logs at two severities.
    if settings.may_lose_images:
        log.warning(settings.sentence)
    else:
        log.info(settings.sentence)
    return node


def _start_error(error: Exception) -> StartError:
    # rclpy has no common class for arguments, files and names that it cannot use.
    sentence = " ".join(str(error).split()) or type(error).__name__
    if "logging directory" in sentence or "log directory" in sentence:
        sentence += "; set ROS_LOG_DIR to a folder that can be written to"
    return StartError(sentence)
