"""Puts this folder on the path, so that tests of every folder can import `tiny_student`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
