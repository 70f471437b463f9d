"""Start ROS 2 in one of the executables: arguments, signals, middleware, node."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from ros_kd_perception.system.fastdds_settings import give_large_images_room
from ros_kd_perception.system.interruption import SIGNALS, StopRequest
from ros_kd_perception.system.shipped_files import FASTDDS_PROFILE, shipped_file

NodeType = TypeVar("NodeType", bound=Node)


class StartError(ValueError):
    """ROS 2 cannot start with these arguments or in this environment. The text is one sentence."""


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the command line without its ROS arguments.

    Args:
        arguments: The command line, with the name of the program.

    Raises:
        StartError: The ROS arguments cannot be read.
    """
    try:
        return remove_ros_args(arguments)
    except Exception as error:
        raise _start_error(error) from None


def check_ros_arguments_alone(words: Sequence[str]) -> None:
    """Refuse a word that is no ROS argument: ROS would ignore it, and the node would run without what it should set.

    Args:
        words: The command line, without the name of the program.

    Raises:
        StartError: There is such a word, or the ROS arguments cannot be read.
    """
    foreign = own_arguments(["program", *words])[1:]
    if foreign:
        raise StartError(
            f"expected nothing but ROS arguments, behind --ros-args, got {' '.join(foreign)}; write for example "
            "--ros-args --params-file FILE.yaml -p model:=FILE.onnx"
        )


def stop_at_signals() -> StopRequest:
    """Return a request that SIGINT and SIGTERM set until the process has ended.

    Ctrl-C sends a signal to the whole process group, and a launch system sends another one. The second signal must not
    kill a process that is ending, because its shared memory would stay behind.
    """
    stop = StopRequest()
    for number in SIGNALS:
        signal.signal(number, lambda *_: stop.set())
        # The interpreter removes its handlers while it ends, and the default handler would kill the process.
        atexit.register(signal.signal, number, signal.SIG_IGN)
    return stop


def start_node(make: Callable[[], NodeType], arguments: Sequence[str] | None = None) -> NodeType:
    """Start ROS 2 with room for large images, make the node and log the active settings of the middleware.

    The caller must call `rclpy.try_shutdown` at the end. rclpy installs no signal handlers.

    Args:
        make: Makes the node.
        arguments: The command line; None for that of this process.

    Raises:
        StartError: ROS 2 does not start, or the name or the parameters of the node cannot be used.
    """
    settings = give_large_images_room(os.environ, shipped_file(FASTDDS_PROFILE))
    try:
        rclpy.init(args=None if arguments is None else list(arguments), signal_handler_options=SignalHandlerOptions.NO)
        node = make()
    except Exception as error:
        rclpy.try_shutdown()
        raise _start_error(error) from None
    log = node.get_logger()
    # Two calls, because rclpy refuses to log at two severities from one line of code.
    if settings.may_lose_images:
        log.warning(settings.sentence)
    else:
        log.info(settings.sentence)
    return node


def _start_error(error: Exception) -> StartError:
    # rclpy has no common base class for these errors.
    sentence = " ".join(str(error).split()) or type(error).__name__
    if "logging directory" in sentence or "log directory" in sentence:
        sentence += "; set ROS_LOG_DIR to a folder that can be written to"
    return StartError(sentence)
