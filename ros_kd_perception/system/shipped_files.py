"""Finds the files in models/ and config/ that are installed with the package."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = "ros_kd_perception"

FASTDDS_PROFILE = "config/fastdds_large_images.xml"
SHIPPED_STUDENT = "models/student.onnx"
AUTO_MODEL = "auto"
"""Value of a `model` that leaves the choice between the two shipped students to `model.model_choice`."""
SHIPPED_INT8_STUDENT = "models/student_int8.onnx"


def shipped_file(relative_path: str) -> Path:
    """Find a file such as `models/student.onnx` in the checkout or else in a share directory.

    Returns:
        The path of the file. If the file does not exist, the path that it would have in a checkout.
    """
    candidates = [Path(__file__).resolve().parents[2] / relative_path]
    try:
        from ament_index_python.packages import get_package_share_directory

        candidates.append(Path(get_package_share_directory(_PACKAGE)) / relative_path)
    except (ImportError, LookupError, OSError):  # OSError: AMENT_PREFIX_PATH is not set
        pass
    candidates.append(Path(sys.prefix) / "share" / _PACKAGE / relative_path)
    return next((path for path in candidates if path.is_file()), candidates[0])
