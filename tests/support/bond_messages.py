"""Build bond/msg/Status for tests, like `build_vision_msgs` builds its package; the bond package is not on PyPI."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# In a child process, because the builder's package is a constant of its module.
BUILD = """
import sys, tempfile
from pathlib import Path
from ros_kd_perception.interfaces import build_vision_msgs as builder

builder.PACKAGE, builder.DEFINITIONS = "bond", Path(sys.argv[1])
builder.MODULE_NAME = "bond_s__rosidl_typesupport_c.so"
site = Path(sys.argv[2])
with tempfile.TemporaryDirectory() as work:
    builder._compile(builder._generate(Path(work)), Path(work), site / "bond")
for kind in builder.TYPE_SUPPORTS:
    (site / f"libbond__{kind}.so").symlink_to(site / "bond" / builder.MODULE_NAME)
"""


def build_bond_messages(folder: Path) -> Path:
    """Build the package into an empty folder, which becomes an import path and a library path."""
    definitions = Path(__file__).parent / "bond"
    subprocess.run([sys.executable, "-c", BUILD, str(definitions), str(folder)], check=True, capture_output=True)
    return folder


def with_bond_messages(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return an environment whose processes can import the package."""
    added = {}
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        added[name] = os.pathsep.join(filter(None, [environment.get(name), str(folder)]))
    return dict(environment) | added
