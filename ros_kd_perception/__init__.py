"""Camera perception for ROS 2: a distilled student network on the vehicle's graph. Start reading at `perceiver.py`.

The public names below are imported when they are first used: a launch file that imports one module of the package
loads neither OpenCV nor ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ros_kd_perception.drawing.overlay import draw_overlay
    from ros_kd_perception.perceiver import Perceiver
    from ros_kd_perception.structures import Detections, Frame, Perception

__version__ = "0.2.0"
__all__ = ["Detections", "Frame", "Perceiver", "Perception", "draw_overlay"]

_MODULE_OF = {
    "Detections": "structures",
    "Frame": "structures",
    "Perceiver": "perceiver",
    "Perception": "structures",
    "draw_overlay": "drawing.overlay",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
