"""The message classes of rclpy, looked up by the full names of their types."""

from __future__ import annotations

import array
import importlib
from typing import Any

from ros_kd_perception.free_space.calibration import Float64Array
from ros_kd_perception.messages.builder import MessageTypes
from ros_kd_perception.structures import Float32Array, UInt8Array


def rclpy_message_types() -> MessageTypes:
    """Return the installed message classes for `MessageBuilder`.

    Raises:
        ImportError: A message package is not installed. The text says how to get it.
    """
    return MessageTypes.from_lookup(message_class, _image_data, _range_data, _number_data)


def message_class(name: str) -> Any:
    """Return an installed message class.

    Args:
        name: Full name of the type, such as `sensor_msgs/msg/Image`.

    Raises:
        ImportError: Its package is not installed. The text says how to get it.
    """
    package, _, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message)
    except ImportError as error:
        raise ImportError(
            f"expected the ROS 2 package {package} to be installed, got: {error}; install its apt package with rosdep, "
            "or in a checkout run `make demo` once, which builds it"
        ) from None


def _image_data(pixels: UInt8Array) -> array.array[int]:
    # rclpy checks every element of any other kind of value.
    data = array.array("B")
    data.frombytes(pixels.data.cast("B"))
    return data


def _range_data(ranges: Float32Array) -> array.array[float]:
    data = array.array("f")
    data.frombytes(ranges.data.cast("B"))
    return data


def _number_data(numbers: Float64Array) -> array.array[float]:
    data = array.array("d")
    data.frombytes(numbers.data.cast("B"))
    return data
