"""Build message packages for tests that are not on PyPI, like `build_vision_msgs` builds its package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
# In a child process, because the builder's package is a constant of its module.
BUILD = """
import sys, tempfile
from pathlib import Path
from ros_kd_perception.interfaces import build_vision_msgs as builder

definitions, site = Path(sys.argv[1]), Path(sys.argv[2])
package = builder.PACKAGE = definitions.name
builder.DEFINITIONS, builder.MODULE_NAME = definitions, f"{package}_s__rosidl_typesupport_c.so"
with tempfile.TemporaryDirectory() as work:
    builder._compile(builder._generate(Path(work)), Path(work), site / package)
for kind in builder.TYPE_SUPPORTS:
    (site / f"lib{package}__{kind}.so").symlink_to(site / package / builder.MODULE_NAME)
"""


def build_messages(definitions: Path, folder: Path) -> Path:
    """Build a folder of definitions, named like its package, into an empty folder for imports and libraries."""
    subprocess.run([sys.executable, "-c", BUILD, str(definitions), str(folder)], check=True, capture_output=True)
    return folder


def with_messages(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return an environment whose processes can import the package."""
    added = {}
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        added[name] = os.pathsep.join(filter(None, [environment.get(name), str(folder)]))
    return dict(environment) | added
