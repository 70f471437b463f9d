"""Imports ONNX Runtime with its telemetry turned off. No other module imports it.

The Linux wheels of ONNX Runtime 1.31 write an identifier of the device below the cache folder and report usage to a
server. ONNX Runtime reads ORT_DISABLE_TELEMETRY while it loads, so the variable must be set before the import. Child
processes inherit it. A value that the user has set is kept: `ORT_DISABLE_TELEMETRY=0` leaves the telemetry on.
"""

from __future__ import annotations

import os

from ros_kd_perception.system.missing_package import MissingPackage

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"

os.environ.setdefault(TELEMETRY_VARIABLE, "1")
try:
    import onnxruntime
except ImportError as error:
    raise MissingPackage(
        f"expected ONNX Runtime on this machine, got: {error}; install the extra [cpu] or [gpu] of ros_kd_perception"
    ) from error

__all__ = ["TELEMETRY_VARIABLE", "onnxruntime"]
