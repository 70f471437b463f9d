"""Puts this folder on the path, so that tests of every folder can import `tiny_student`."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Wall-clock limits fail on a machine that is busy with something else; what must be quick has a benchmark.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--malformed-messages",
        type=int,
        default=0,
        metavar="N",
        help="malformed messages that hypothesis and the publisher on the graph make; without it a few thousand",
    )
